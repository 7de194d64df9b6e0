"""Table 3: KD with and without a learned map. python -m benchmarks.table3 [--scale small|paper]

Its column of memory is the business of benchmarks.memory.
"""

from collections.abc import Sequence

from benchmarks import tables

SIGNALS = ("KD", "KDW")


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains, draws and prints."""
    tables.run("table3", __doc__, SIGNALS, arguments)


if __name__ == "__main__":
    main()
