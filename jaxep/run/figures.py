"""Figures without pyplot, on the Agg canvas and with matplotlib's own defaults.

No global state of matplotlib is touched, and none of the user's settings is asked for.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

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
COLORS = ("tab:blue", "tab:orange", "tab:green")


@contextmanager
def figure(path: StrPath, width: float, height: float) -> Iterator[Figure]:
    """A figure of this size in inches to draw on, saved as `path` afterwards."""
    defaults = matplotlib.rcParamsDefault
    settings = {key: defaults[key] for key in defaults if not key.startswith("backend")}
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        _save(figure, path)


@contextmanager
def grid(path: StrPath, title: str, count: int) -> Iterator[list[Axes]]:
    """So many panels under a title, in up to three columns, saved as `path` afterwards."""
    columns = 2 if count == 4 else min(count, 3)
    rows = -(-count // columns)
    with figure(path, 4.4 * columns, 3.6 * rows + 0.4) as page:
        page.suptitle(title)
        places = list(page.subplots(rows, columns, squeeze=False).flat)
        for axes in places[count:]:
            axes.remove()
        yield places[:count]


def _save(figure: Figure, path: StrPath) -> None:
    png = io.BytesIO()
    FigureCanvasAgg(figure).print_figure(png, format="png", dpi=_DPI)
    write_atomically(path, png.getvalue())


def finish(axes: Axes, title: str, label: str) -> None:
    """Title, grid and legend; "no values" where nothing was drawn."""
    axes.set_title(title)
    axes.set_ylabel(label)
    axes.grid(alpha=0.3)
    if axes.get_lines():
        axes.legend()
    else:
        axes.text(0.5, 0.5, "no values", transform=axes.transAxes, ha="center", color="gray")
        axes.set_yticks([])


def over_epochs(axes: Axes) -> None:
    """Whole epochs along the horizontal axis."""
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def log_where_positive(axes: Axes) -> None:
    """A logarithmic axis, where a line has a value that it can show."""
    values = [np.asarray(line.get_ydata(), float) for line in axes.get_lines()]
    if any((value > 0).any() for value in values):
        axes.set_yscale("log", nonpositive="mask")
