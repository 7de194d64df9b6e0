"""How results look: Markdown tables, and figures in which a signal keeps its color.

A figure is rows of `Panel`s, a panel some parts (`line`, `band`, `bars`, ...), each a function of
the axes that draws on them.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

COLORS = {"STD": "tab:red", "LE": "tab:blue", "KD": "tab:orange", "KDW": "tab:green"}
NAMES = {
    "STD": "no signals",
    "LE": "local errors",
    "KD": "distillation",
    "KDW": "weighted distillation",
}
Part = Callable[[Axes], object]


def markdown(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table of cells that are texts already, or have a plain one."""
    lines = [header, ["---"] * len(header), *rows]
    texts = [[str(cell).replace("|", r"\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in texts)


def known(names: Iterable[str], result: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """(name, row) of the names that a result has, in their order."""
    return [(name, result[name]) for name in names if name in result]


def percent(values: Sequence[float]) -> str:
    """Fractions as "mean ± standard deviation" in percent; one alone without the deviation."""
    shown = f"{100 * np.mean(values):.1f}"
    return f"{shown} ± {100 * np.std(values, ddof=1):.1f}" if len(values) > 1 else shown


def percents(values: Iterable[float]) -> list[float]:
    """Fractions in percent."""
    return [100 * value for value in values]


def between(values: Iterable[float], form: str = ".3g") -> str:
    """ "least to most"; one text where both look the same."""
    values = list(values)
    low, high = format(min(values), form), format(max(values), form)
    return low if low == high else f"{low} to {high}"


def line(label: str | None, ys: Sequence[Any], xs: Any = None, style: str = "-", **more) -> Part:
    """A line; what is None is a gap, and so is 0 on a logarithmic axis.

    Args:
        label: in the legend; None: not in it.
        ys: values.
        xs: places; None: epochs 1, 2, ...
        style: as `plot` takes it.
        more: options of `plot`.
    """

    def draw(axis: Axes) -> None:
        values = np.array([np.nan if y is None else y for y in ys], float)
        if axis.get_yscale() == "log":
            values = np.where(values > 0, values, np.nan)
        places = np.arange(1, len(values) + 1) if xs is None else xs
        axis.plot(places, values, style, label=label, **more)

    return draw


def band(label: str, curves: Sequence[Sequence[float]], color: Any = None, **more: Any) -> Part:
    """Mean of several curves over epochs 1, 2, ..., and the range between the extremes, shaded."""

    def draw(axis: Axes) -> None:
        values = np.asarray(curves, float)
        line(label, values.mean(0), color=color, **more)(axis)
        if len(values) > 1:
            epochs = np.arange(1, values.shape[1] + 1)
            axis.fill_between(epochs, values.min(0), values.max(0), color=color, alpha=0.2, lw=0)

    return draw


def bars(labels: Sequence[str], groups: Mapping[str, Sequence[float]], form: str) -> Part:
    """For each label a bar of each group side by side, with its height written over it."""

    def draw(axis: Axes) -> None:
        width, places = 0.8 / len(groups), np.arange(len(labels))
        for number, (name, heights) in enumerate(groups.items()):
            shift = width * (number - (len(groups) - 1) / 2)
            drawn = axis.bar(places + shift, heights, width, label=name)
            axis.bar_label(drawn, fmt=form, fontsize="x-small")
        axis.set_xticks(places, labels)
        axis.margins(y=0.15)

    return draw


def bars_along(lengths: Mapping[str, float], form: str) -> Part:
    """A horizontal bar for each name, with its length behind it; jaxep's own in colour."""

    def draw(axis: Axes) -> None:
        colors = ["C0" if name.startswith("jaxep") else "0.7" for name in lengths]
        drawn = axis.barh(list(lengths), list(lengths.values()), color=colors)
        axis.bar_label(drawn, fmt=form, padding=3)
        axis.invert_yaxis()
        axis.margins(x=0.22)

    return draw


def level(value: float, label: str, **more: Any) -> Part:
    """A dotted line across at a height."""
    return lambda axis: axis.axhline(value, label=label, **{"color": "0.45", "ls": ":", **more})


def upright(value: float, label: str, **more: Any) -> Part:
    """A dotted line from bottom to top."""
    return lambda axis: axis.axvline(value, label=label, **{"color": "0.45", "ls": ":", **more})


@dataclasses.dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        title: over it.
        parts: what is drawn.
        ylabel: name of the axis, with its unit.
        xlabel: the same; of epochs, ticks are at whole numbers.
        log: which axes are logarithmic: "", "x", "y" or "xy".
        ylim: (bottom, top), or None in the place of either.
        ticks: of the x axis: names of layers, or numbers on a logarithmic one; "plain": 1, 2, 5,
            10, ... on a logarithmic one; (): matplotlib's.
        legend: place of a legend of its own; "": none.
    """

    title: str
    parts: Sequence[Part]
    ylabel: str = ""
    xlabel: str = "epoch"
    log: str = ""
    ylim: tuple[float | None, float | None] | None = None
    ticks: Sequence[Any] = ()
    legend: Any = ""

    def draw(self, axis: Axes) -> None:
        """Draws all of it."""
        if self.log:
            axis.set(**{f"{name}scale": "log" for name in self.log})
        for part in self.parts:
            part(axis)
        axis.set(title=self.title, xlabel=self.xlabel, ylabel=self.ylabel)
        if self.xlabel == "epoch":
            axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if self.ylim:
            axis.set_ylim(*self.ylim)
        if self.legend and self.parts:
            axis.legend(loc=self.legend, fontsize="small")
        self._tick(axis)

    def _tick(self, axis: Axes) -> None:
        if self.ticks == "plain":
            axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.xaxis.set_major_formatter("{x:g}")
            axis.xaxis.set_minor_formatter(NullFormatter())
        elif self.ticks and isinstance(self.ticks[0], str):
            turned: dict[str, Any] = {"rotation": 60, "ha": "right", "rotation_mode": "anchor"}
            axis.set_xticks(range(len(self.ticks)), self.ticks, **turned)
        elif self.ticks:
            axis.set_xticks(self.ticks, [str(value) for value in self.ticks])
            axis.set_xticks([], minor=True)


def figure(
    rows: Sequence[Sequence[Panel]],
    legend: int = 0,
    size: tuple[float, float] = (4.4, 3.4),
    sharey: Any = False,
    of: int = 0,
) -> Figure:
    """Rows of panels.

    Args:
        rows: of equal length.
        legend: columns of one legend for all panels, under them; 0: none.
        size: of a panel, in inches.
        sharey: as `subplots` takes it; names of shared axes are told once in a row.
        of: the panel of the first row from which the one legend is.
    """
    width, height = size[0] * len(rows[0]), size[1] * len(rows)
    whole = Figure(figsize=(width, height), layout="constrained")
    axes = whole.subplots(len(rows), len(rows[0]), squeeze=False, sharey=sharey)
    for line_of_axes, panels in zip(axes, rows, strict=True):
        for axis, panel in zip(line_of_axes, panels, strict=True):
            axis.grid(alpha=0.3)
            axis.set_axisbelow(True)
            panel.draw(axis)
        for axis in line_of_axes[1:] if sharey else ():
            axis.set_ylabel("")
    if legend:
        told = axes[0, of].get_legend_handles_labels()
        whole.legend(*told, loc="outside lower center", ncols=legend, frameon=False)
    return whole
