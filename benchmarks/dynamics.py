"""Do faster phases train as well? python -m benchmarks.dynamics [--scale small|paper]

The same nets with local errors under the paper's phases, under the default's, and under the few
sweeps of the small configs: test accuracy, sweeps and time. benchmarks.solvers tells which phases
give a gradient soonest; a gradient of its own quality is worth what it trains.
"""

from collections.abc import Sequence
from typing import Any

from benchmarks import nets, runs, show
from configs.base import get_config as get_base

KEYS = ("solver", "order", "relaxation", "tol_free", "tol_nudge")
PHASES: dict[str, dict[str, Any]] = {
    "paper": {"solver": "fixed", "order": "synchronous", "relaxation": 1.0},
    "default": {key: get_base()[key] for key in KEYS},
    "few sweeps": {
        "solver": "fixed",
        "order": "alternating",
        "relaxation": 1.0,
        "t_free": 16,
        "t_nudge": 8,
    },
}
LONG = {"t_free": 100, "t_nudge": 40}
BETAS = (0.25, 2.0)
COLORS = {"paper": "tab:gray", "default": "tab:blue", "few sweeps": "tab:orange"}


def specs(scale: str) -> dict[str, runs.Run]:
    """All runs of a scale, named "NET, β B, PHASES"."""
    if scale == "paper":
        # T as in the paper's Table 5, which the configs hold.
        return {f"VGG-7, β 0.25, {name}": nets.PAPER_7["LE"].but(**p) for name, p in PHASES.items()}
    chosen = {"digits, 11 layers": nets.DIGITS_11["LE"].but(epochs=10)}
    if scale == "tiny":
        chosen = {"digits, 5 layers": runs.shrink(nets.DIGITS_5["LE"])}
    return {
        f"{net}, β {beta:g}, {name}": run.but(**LONG, beta=beta).but(**phases)
        for net, run in chosen.items()
        for beta in BETAS
        for name, phases in PHASES.items()
    }


def parts(name: str) -> tuple[str, str]:
    """ "NET, β B, PHASES" as ("NET, β B", "PHASES")."""
    problem, phases = name.rsplit(", ", 1)
    return problem, phases


def table(result: dict[str, Any]) -> str:
    """Accuracy, sweeps of the last epoch and time of each run."""
    rows = [
        [
            *parts(name),
            f"{100 * row['train_accuracy']:.1f}",
            f"{100 * row['test_accuracy']:.1f}",
            f"{row['free_steps'][-1]:.0f} + {row['nudge_steps'][-1]:.0f}",
            f"{row['training_seconds']:.0f}",
        ]
        for name, row in result["runs"].items()
    ]
    header = ["net", "phases", "train, %", "test, %", "sweeps, last epoch", "seconds"]
    return show.markdown(header, rows)


def says(result: dict[str, Any]) -> str:
    """What the result shows: the default's phases against the paper's."""
    found: dict[str, dict[str, Any]] = {}
    for name, row in result["runs"].items():
        problem, phases = parts(name)
        found.setdefault(problem, {})[phases] = row
    sentences = []
    for problem, rows in found.items():
        gap = 100 * (rows["default"]["test_accuracy"] - rows["paper"]["test_accuracy"])
        speed = rows["paper"]["training_seconds"] / rows["default"]["training_seconds"]
        sentences.append(
            f"{problem}: the default's phases end {gap:+.1f} points from the paper's, in a time "
            f"{speed:.1f} times shorter."
        )
    return " ".join(sentences)


def draw(result: dict[str, Any], path) -> None:
    """Test accuracy per epoch, a panel for each net and β."""
    problems = list(dict.fromkeys(parts(name)[0] for name in result["runs"]))
    figure, axes = show.panels(1, len(problems), sharey=True)
    for axis, problem in zip(axes[0], problems, strict=True):
        for phases, color in COLORS.items():
            row = result["runs"].get(f"{problem}, {phases}")
            if row:
                curve = [100 * value for value in row["test_acc"]]
                show.band(axis, [curve], color=color, label=f"{phases} phases")
        axis.set(title=problem, ylim=(0, 100))
    axes[0, 0].set_ylabel("test accuracy, %")
    show.legend_below(figure, axes[0, 0], 3)
    show.save(figure, path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains, draws and prints."""
    options = runs.options("dynamics", __doc__, arguments)
    result = runs.keep(options, {"runs": runs.train_all(options, specs(options.scale))})
    draw(result, options.picture)
    print(table(result))


if __name__ == "__main__":
    main()
