"""jaxep compare RUN... [--out DIR]

prints a table of runs: test accuracy after the last and the best epoch as mean ± std over seeds,
seconds, epochs. RUN is the folder of a run, or a folder that holds runs, as that of a sweep. Runs
that differ by seed alone are one row, named by the keys that differ between rows. With --out,
comparison.csv (all digits) and comparison.png (accuracy and loss over epochs) are written there.
"""

from collections.abc import Sequence
from pathlib import Path

from jaxep.commands.options import Parser
from jaxep.run import comparison, console
from jaxep.run.errors import CheckpointError, reason
from jaxep.run.files import local_path


def compare(words: Sequence[str]) -> None:
    """`jaxep compare`.

    Args:
        words: after the command's name.
    """
    parser = Parser("compare")
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--out", metavar="DIR")
    options = parser.parse_args(words)
    tell(comparison.find_runs(options.runs), local_path(options.out) if options.out else None)


def tell(runs: Sequence[comparison.Run], out: Path | None) -> None:
    """Prints the table of some runs; where `out` is a folder, writes table and picture there too.

    Raises:
        CheckpointError: they cannot be written.
    """
    groups = comparison.group(runs)
    console.say(comparison.table(groups))
    if out is None:
        return
    # Matplotlib takes a second to import, and a table alone needs none of it.
    from jaxep.run import comparison_plot

    table, picture = out / "comparison.csv", out / "comparison.png"
    try:
        out.mkdir(parents=True, exist_ok=True)
        comparison.write_table(groups, table)
        comparison_plot.draw(groups, picture)
    except OSError as error:
        raise CheckpointError(f"{out}: it cannot be written ({reason(error)})") from error
    console.say(f"{table}, {picture}")
