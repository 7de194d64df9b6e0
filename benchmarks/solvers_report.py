"""The tables and the picture of benchmarks.solvers, from its rows."""

from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.provenance import RESULTS
from benchmarks.show import plain_ticks

# "Good enough": where errors of this size no longer change the direction of a step.
GOAL = 0.1


def fastest(rows: list[dict[str, Any]], method: str, goal: float = GOAL) -> dict[str, Any] | None:
    """The quickest setting of `method` whose error is at most `goal`; None where there is none."""
    good = [row for row in rows if row["method"] == method and row["error"] <= goal]
    return min(good, key=lambda row: row["seconds"], default=None)


def methods(rows: list[dict[str, Any]]) -> list[str]:
    """Names in the order of the rows."""
    return list(dict.fromkeys(row["method"] for row in rows))


def best(rows: list[dict[str, Any]]) -> str:
    """For each method its way to the goal, and how far the best row is from exact, as Markdown."""
    lines = [
        f"| method | ms to an error of {GOAL} | free, nudged limit | sweeps | least to exact |",
        "| --- | --- | --- | --- | --- |",
    ]
    for method in methods(rows):
        least = min(row["error_to_exact"] for row in rows if row["method"] == method)
        row = fastest(rows, method)
        cells = "never | | "
        if row:
            free, nudge = row["limits"]
            steps = " + ".join(f"{count:.0f}" for count in row["steps"])
            cells = f"{1e3 * row['seconds']:.0f} | {free:g}, {nudge:g} | {steps}"
        lines.append(f"| {method} | {cells} | {least:.3f} |")
    return "\n".join(lines)


def table(problems: dict[str, list[dict[str, Any]]]) -> str:
    """Milliseconds to the goal, methods against problems, as Markdown."""
    names = methods(next(iter(problems.values())))
    lines = [f"| ms to an error of {GOAL} | {' | '.join(problems)} |"]
    lines.append(f"| --- |{' --- |' * len(problems)}")
    for method in names:
        rows = [fastest(rows, method) for rows in problems.values()]
        cells = [f"{1e3 * row['seconds']:.0f}" if row else "never" for row in rows]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(problems: dict[str, list[dict[str, Any]]]) -> None:
    """Error over time, a panel for each problem: results/solvers.png."""
    figure = Figure(figsize=(4.2 * len(problems), 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    for axis, (name, rows) in zip(
        np.atleast_1d(figure.subplots(1, len(problems))), problems.items(), strict=True
    ):
        for index, method in enumerate(methods(rows)):
            points = sorted((1e3 * r["seconds"], r["error"]) for r in rows if r["method"] == method)
            # What a user who knows the best limits gets: the error falls with the time allowed.
            times, errors = np.array(points).T
            style = {"marker": "os^vDP*X<"[index % 9], "markersize": 4, "linewidth": 1}
            axis.loglog(times, np.minimum.accumulate(errors), label=method, **style)
        axis.axhline(GOAL, color="0.6", linestyle=":")
        axis.set(title=name, xlabel="time of one EP gradient, ms")
        plain_ticks(axis.xaxis)
    figure.axes[0].set_ylabel("relative distance to the settled gradient")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize="small")
    figure.savefig(RESULTS / "solvers.png", dpi=150)
