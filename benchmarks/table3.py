"""Table 3: KD with and without a learned map. python -m benchmarks.table3 [--scale small|paper]

Its column of memory is the business of benchmarks.memory.
"""

from collections.abc import Sequence

from benchmarks import runs, tables

SIGNALS = ("KD", "KDW")


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains, draws and prints."""
    tables.run(runs.options("table3", __doc__, arguments), SIGNALS)


if __name__ == "__main__":
    main()
