"""How results look: Markdown tables, and figures in which a signal keeps its color."""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from jaxep.run.reporting import write_atomically

COLORS = {"STD": "tab:red", "LE": "tab:blue", "KD": "tab:orange", "KDW": "tab:green"}
NAMES = {
    "STD": "no signals",
    "LE": "local errors",
    "KD": "distillation",
    "KDW": "weighted distillation",
}
NEUTRAL = "0.45"
DPI = 130


def markdown(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table of cells that are texts already, or have a plain one."""
    lines = [header, ["---"] * len(header), *rows]
    texts = [[str(cell).replace("|", r"\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in texts)


def percent(values: Sequence[float]) -> str:
    """Fractions as "mean ± standard deviation" in percent; one alone without the deviation."""
    shown = f"{100 * np.mean(values):.1f}"
    return f"{shown} ± {100 * np.std(values, ddof=1):.1f}" if len(values) > 1 else shown


def panels(rows: int, columns: int, **options: Any) -> tuple[Figure, np.ndarray]:
    """A figure of rows x columns axes, [rows, columns]; options go to `subplots`."""
    figure = Figure(figsize=(4.4 * columns, 3.4 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    for axis in axes.flat:
        axis.grid(alpha=0.3)
    return figure, axes


def band(axis: Axes, curves: Sequence[Sequence[float]], **style: Any) -> None:
    """Mean of several curves over epochs 1, 2, ..., and the range between the extremes, shaded."""
    values = np.asarray(curves, float)
    epochs = np.arange(1, values.shape[1] + 1)
    axis.plot(epochs, values.mean(0), **style)
    if len(values) > 1:
        color = style.get("color")
        axis.fill_between(epochs, values.min(0), values.max(0), color=color, alpha=0.2, lw=0)
    whole_epochs(axis)


def whole_epochs(axis: Axes) -> None:
    """Names the x axis and puts ticks at whole numbers only."""
    axis.set_xlabel("epoch")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def plain_ticks(axis: Axis) -> None:
    """1, 2, 5, 10, ... as plain numbers, on a logarithmic axis of few decades."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def legend_below(figure: Figure, axis: Axes, columns: int) -> None:
    """One legend for all panels, under them, from the labels of `axis`."""
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)


def save(figure: Figure, path: Path) -> None:
    """Writes the figure as PNG, in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    png = io.BytesIO()
    FigureCanvasAgg(figure).print_figure(png, format="png", dpi=DPI)
    write_atomically(path, png.getvalue())
