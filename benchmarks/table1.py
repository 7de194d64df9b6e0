"""Table 1: STD, LE and KD beside the paper's. python -m benchmarks.table1 [--scale small|paper]"""

from collections.abc import Sequence

from benchmarks import runs, tables

SIGNALS = ("STD", "LE", "KD")


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains, draws and prints."""
    tables.run(runs.options("table1", __doc__, arguments), SIGNALS)


if __name__ == "__main__":
    main()
