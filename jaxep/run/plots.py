"""The pictures of a run: learning curves (as Fig. 1 and 4) and quantities per layer (Fig. 5).

Figures are made and drawn without pyplot, on the Agg canvas and with matplotlib's own defaults: no
global state of matplotlib is touched, and none of the user's settings is asked for.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from jaxep.run.files import StrPath, write_atomically


@contextmanager
def _no_backend_chosen() -> Iterator[None]:
    """Keeps MPLBACKEND from matplotlib's first import: it fails where that backend is not there.

    The backend is chosen again after it, as matplotlib does, for the pictures of others.
    """
    chosen = None if "matplotlib" in sys.modules else os.environ.pop("MPLBACKEND", None)
    try:
        yield
    finally:
        if chosen is not None:
            os.environ["MPLBACKEND"] = chosen
            with suppress(Exception):
                matplotlib.rcParams["backend"] = chosen


with _no_backend_chosen():
    import matplotlib
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

_DPI = 120
_COLORS = ("tab:blue", "tab:orange", "tab:green")


def curves(metrics: Mapping[str, Sequence[Any]], path: StrPath) -> None:
    """Draws loss, accuracy, schedules and the convergence of both phases over the epochs.

    Args:
      metrics: values by column, from `reporting.read_metrics`; None and nan are gaps, and a column
        without any value is left out.
      path: PNG file, replaced in one step.
    """
    panels = (
        ("loss", "mean loss per sample", {"train_loss": "train", "test_loss": "test"}),
        ("accuracy", "accuracy (%)", {"train_acc": "train", "test_acc": "test"}),
        ("κ", "weight of the intermediate losses", {"kappa": "κ"}),
        ("residual", "‖F(ξ) − ξ‖ / ‖ξ‖", {"free_residual": "free", "nudge_residual": "nudged"}),
        ("steps", "steps per batch", {"free_steps": "free", "nudge_steps": "nudged"}),
        ("learning rate", "learning rate", {"lr": "learning rate"}),
    )
    epochs = _values(metrics, "epoch")
    # A dot per epoch where a line alone would not show, as with a single one or between gaps.
    marker = "." if len(epochs) < 40 else ""
    with _figure(path, 13, 7) as figure:
        for axes, (title, label, columns) in zip(figure.subplots(2, 3).flat, panels, strict=True):
            for color, (column, name) in zip(_COLORS, columns.items(), strict=False):
                values = _values(metrics, column) * (100 if title == "accuracy" else 1)
                if np.isfinite(values).any():
                    axes.plot(epochs, values, marker=marker, color=color, label=name)
            if title == "residual":
                _log_where_positive(axes)
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            _finish(axes, title, label)


def layers(layer_rows: Sequence[Mapping[str, Any]], path: StrPath) -> None:
    """Draws Fig. 5 of a run: activity, gradient and displacement by layer, at up to three epochs.

    Args:
      layer_rows: one mapping per epoch and layer, from `reporting.read_layers`; None, nan and, on
        the logarithmic axes, zero are gaps.
      path: PNG file, replaced in one step.
    """
    names = list(dict.fromkeys(str(row["layer"]) for row in layer_rows))
    epochs = sorted({int(row["epoch"]) for row in layer_rows})
    # The ends of the first, second and last third of the run.
    shown = sorted({epochs[max(len(epochs) * k // 3 - 1, 0)] for k in (1, 2, 3) if epochs})
    cells = {(int(row["epoch"]), str(row["layer"])): row for row in layer_rows}
    panels = (
        ("activity", "mean |ξ| per neuron", False),
        ("gradient", "mean |∂w| per parameter", True),
        ("displacement", "‖ξ$^β$ − ξ*‖ per sample", True),
    )
    with _figure(path, 13, 4.2) as figure:
        for axes, (quantity, label, logarithmic) in zip(figure.subplots(1, 3), panels, strict=True):
            for epoch, marker, color in zip(shown, "os^", _COLORS, strict=False):
                column = [_number(cells.get((epoch, name), {}).get(quantity)) for name in names]
                values = np.array(column, float)
                if logarithmic:
                    values[~(values > 0)] = np.nan
                if np.isfinite(values).any():
                    style = {"marker": marker, "markersize": 4, "color": color}
                    axes.plot(values, **style, label=f"epoch {epoch}")
            if logarithmic:
                _log_where_positive(axes)
            else:
                axes.set_ylim(bottom=0)
            turned = {"rotation": 60, "ha": "right", "rotation_mode": "anchor"}
            axes.set_xticks(range(len(names)), names, **turned, parse_math=False)
            axes.set_xlim(-0.5, max(len(names), 1) - 0.5)
            axes.set_xlabel("layer")
            _finish(axes, quantity, label)


def _finish(axes: Axes, title: str, label: str) -> None:
    axes.set_title(title)
    axes.set_ylabel(label)
    axes.grid(alpha=0.3)
    if axes.get_lines():
        axes.legend()
    else:
        axes.text(0.5, 0.5, "no values", transform=axes.transAxes, ha="center", color="gray")
        axes.set_yticks([])


def _log_where_positive(axes: Axes) -> None:
    values = [np.asarray(line.get_ydata(), float) for line in axes.get_lines()]
    if any((value > 0).any() for value in values):
        axes.set_yscale("log", nonpositive="mask")


def _values(metrics: Mapping[str, Sequence[Any]], column: str) -> np.ndarray:
    return np.array([_number(value) for value in metrics[column]], float)


def _number(value: Any) -> float:
    return np.nan if value is None else float(value)


@contextmanager
def _figure(path: StrPath, width: float, height: float) -> Iterator[Figure]:
    """A figure of this size in inches to draw on, saved as `path` afterwards."""
    defaults = matplotlib.rcParamsDefault
    settings = {key: defaults[key] for key in defaults if not key.startswith("backend")}
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        _save(figure, path)


def _save(figure: Figure, path: StrPath) -> None:
    png = io.BytesIO()
    FigureCanvasAgg(figure).print_figure(png, format="png", dpi=_DPI)
    write_atomically(path, png.getvalue())
