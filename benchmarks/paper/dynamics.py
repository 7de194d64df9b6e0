"""Do faster phases train as well?

The same nets with local errors under the paper's phases, under the default's, and under the few
sweeps of the small configs: test accuracy, sweeps and time. `solvers` tells which phases give a
gradient soonest; a gradient of its own quality is worth what it trains.
"""

from collections.abc import Iterator
from typing import Any

from benchmarks.shared import nets, runs, show
from benchmarks.shared.results import Claim, Result

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
    chosen = {"digits, 11 layers": nets.DIGITS_11["LE"].but(epochs=10)}
    if scale == "tiny":
        chosen = {"digits, 5 layers": runs.shrink(nets.DIGITS_5["LE"])}
    return {
        f"{net}, β {beta:g}, {name}": run.but(**LONG, beta=beta).but(**changes)
        for net, run in chosen.items()
        for beta in BETAS
        for name, changes in phases().items()
    }


def by_problem(result: Result) -> list[tuple[str, dict[str, dict[str, Any]]]]:
    """("NET, β B", its row by phases)."""
    found = runs.by_last_part(result["runs"])
    return [
        (name, {key: several[0] for key, several in rows.items()}) for name, rows in found.items()
    ]


def table(result: Result) -> str:
    """Accuracy, sweeps of the last epoch and time of each run."""
    rows = []
    for problem, found in by_problem(result):
        for name, row in found.items():
            reached = [f"{100 * row[key]:.1f}" for key in ("train_accuracy", "test_accuracy")]
            sweeps = f"{row['free_steps'][-1]:.0f} + {row['nudge_steps'][-1]:.0f}"
            rows.append([problem, name, *reached, sweeps, f"{row['training_seconds']:.0f}"])
    header = ["net", "phases", "train, %", "test, %", "sweeps, last epoch", "seconds"]
    return show.markdown(header, rows)


def claims(result: Result) -> Iterator[Claim]:
    """The default's phases against the paper's."""
    for problem, rows in by_problem(result):
        gap = 100 * (rows["default"]["test_accuracy"] - rows["paper"]["test_accuracy"])
        statement = f"{problem}: the default's phases train as well as the paper's"
        yield Claim(
            statement, f"aim: {NEAR:g} point below at most", f"{gap:+.1f} points", gap >= -NEAR
        )
        speed = rows["paper"]["training_seconds"] / rows["default"]["training_seconds"]
        statement, here = f"{problem}: and in less time", f"{speed:.1f} times as fast"
        yield Claim(statement, "aim: faster", here, speed > 1)


def draw(result: Result):
    """Test accuracy per epoch, a panel for each net and β."""
    panels = []
    for problem, rows in by_problem(result):
        curves = {name: show.percents(row["test_acc"]) for name, row in rows.items()}
        parts = [show.line(f"{n} phases", curve, color=COLORS[n]) for n, curve in curves.items()]
        panels.append(show.Panel(problem, parts, "test accuracy, %", ylim=(0, 100)))
    return show.figure([panels], legend=3, sharey=True)
