"""The picture of several runs: learning curves of groups that differ by seed alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxep.run import figures
from jaxep.run.comparison import Group
from jaxep.run.files import StrPath


def draw(groups: Sequence[Group], path: StrPath) -> None:
    """Draws test accuracy and loss over the epochs: a colour for each group, mean ± std over seeds.

    The line is solid as far as all runs of the group are, dotted where some have ended before.

    Args:
        groups: of `group`.
        path: PNG file, replaced in one step.
    """
    panels = (
        ("accuracy: mean ± std over seeds", "test accuracy (%)", "test_acc"),
        ("loss: mean ± std over seeds", "test loss", "test_loss"),
    )
    # The legend stands beside the panels: it takes its width and height from the labels.
    width = 11 + max(2, 0.09 * max(len(one.label) for one in groups))
    with figures.figure(path, width, max(5, 0.24 * len(groups) + 0.5)) as page:
        for axes, (title, label, column) in zip(page.subplots(1, 2), panels, strict=True):
            for color, one in zip(_colors(len(groups)), groups, strict=True):
                _draw_group(axes, one, column, color)
            figures.over_epochs(axes)
            figures.finish(axes, title, label)
            if legend := axes.get_legend():
                legend.remove()  # one for both, beside them
        handles: dict[str, Any] = {}
        for axes in page.axes:
            handles.update(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
        if handles:
            legend = page.legend(handles.values(), list(handles), loc="outside right upper")
            for text in legend.get_texts():
                text.set_parse_math(False)


def _colors(count: int) -> list[Any]:
    if count <= 10:
        return [figures.matplotlib.colormaps["tab10"](place) for place in range(count)]
    return [figures.matplotlib.colormaps["viridis"](place / (count - 1)) for place in range(count)]


def _draw_group(axes: Any, one: Group, column: str, color: Any) -> None:
    longest, shortest = (f(run.epochs for run in one.runs) for f in (max, min))
    values = np.full((len(one.runs), longest), np.nan)
    for row, run in zip(values, one.runs, strict=True):
        row[: run.epochs] = run.values(column) * (100 if column == "test_acc" else 1)
    values[~np.isfinite(values)] = np.nan
    there = np.isfinite(values).sum(0)
    if not there.any():
        return
    mean = np.nansum(values, 0) / np.where(there, there, np.nan)
    spread = np.nansum((values - mean) ** 2, 0) / np.where(there > 1, there - 1, np.nan)
    epochs, std = np.arange(1, longest + 1), np.sqrt(spread)
    marker = "." if longest < 40 else ""
    whole = slice(0, shortest)
    axes.plot(epochs[whole], mean[whole], color=color, marker=marker, label=one.label)
    axes.plot(epochs[shortest - 1 :], mean[shortest - 1 :], color=color, linestyle=":")
    axes.fill_between(epochs, mean - std, mean + std, color=color, alpha=0.2, linewidth=0)
