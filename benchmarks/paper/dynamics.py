"""Do faster phases train as well?

The same nets with local errors under the paper's phases, under the default's, and under the few
sweeps of the small configs: test accuracy, sweeps and time. `solvers` tells which phases give a
gradient soonest; a gradient of its own quality is worth what it trains.
"""

from typing import Any

from benchmarks.shared import nets, runs, show
from benchmarks.shared.results import Claim, Claims, Result

KEYS = ("solver", "order", "relaxation", "tol_free", "tol_nudge")
LONG = {"t_free": 100, "t_nudge": 40}
BETAS = (0.25, 2.0)
COLORS = {"paper": "tab:gray", "default": "tab:blue", "few sweeps": "tab:orange"}
# Points of accuracy by which faster phases may fall short and count as good as the paper's.
NEAR = 1.0


def phases() -> dict[str, dict[str, Any]]:
    """The settings of each kind of phases."""
    paper = {"solver": "fixed", "order": "synchronous", "relaxation": 1.0}
    few = {**paper, "order": "alternating", "t_free": 16, "t_nudge": 8}
    base = runs.load_config("base")
    return {"paper": paper, "default": {key: base[key] for key in KEYS}, "few sweeps": few}


def specs(scale: str) -> dict[str, runs.Run]:
    """All runs of a scale, named "NET, β B, PHASES"."""
    if scale == "paper":
        # T as in the paper's Table 5, which the configs hold.
        return {f"VGG-7, β 0.25, {k}": nets.PAPER_7["LE"].but(**v) for k, v in phases().items()}
    net, run = "digits, 11 layers", nets.DIGITS_11["LE"].but(epochs=10)
    if scale == "tiny":
        net, run = "digits, 5 layers", runs.shrink(nets.DIGITS_5["LE"])
    return {
        f"{net}, β {beta:g}, {name}": run.but(**LONG, beta=beta).but(**changes)
        for beta in BETAS
        for name, changes in phases().items()
    }


def table(result: Result) -> str:
    """Accuracy, sweeps of the last epoch and time of each run."""
    rows = []
    for name, row in result["runs"].items():
        sweeps = f"{row['free_steps'][-1]:.0f} + {row['nudge_steps'][-1]:.0f}"
        cells = [*runs.percents([row]), sweeps, f"{row['training_seconds']:.0f}"]
        rows.append([*name.rsplit(", ", 1), *cells])
    header = ["net", "phases", "train, %", "test, %", "sweeps, last epoch", "seconds"]
    return show.markdown(header, rows)


def claims(result: Result) -> Claims:
    """The default's phases against the paper's."""
    for problem, rows in runs.by_last_part(result["runs"]).items():
        (paper,), (default,) = rows["paper"], rows["default"]
        gap = 100 * (default["test_accuracy"] - paper["test_accuracy"])
        statement, aim = "the default's phases train as well as the paper's", "point below at most"
        here = f"{gap:+.1f} points"
        yield Claim(f"{problem}: {statement}", f"aim: {NEAR:g} {aim}", here, gap >= -NEAR)
        speed = paper["training_seconds"] / default["training_seconds"]
        here = f"{speed:.1f} times as fast"
        yield Claim(f"{problem}: and in less time", "aim: faster", here, speed > 1)


def draw(result: Result):
    """Test accuracy per epoch, a panel for each net and β."""
    panels = []
    for problem, rows in runs.by_last_part(result["runs"]).items():
        parts = [
            show.line(f"{name} phases", show.percents(row["test_acc"]), color=COLORS[name])
            for name, (row,) in rows.items()
        ]
        panels.append(show.Panel(problem, parts, "test accuracy, %", ylim=(0, 100)))
    return show.figure([panels], legend=3, sharey=True)
