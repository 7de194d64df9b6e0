"""The picture of `jaxep show`: an image, the states of each layer, and what the nudge moves."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxep.run import figures
from jaxep.run.files import StrPath

# Channels of a map that are shown: more would be too small to see.
CHANNELS = 64
# Pixels of the picture for a map, at least.
FINE = 12
# Inches of a column and a row, and of the title; a strip has this share of a column.
WIDTH, HEIGHT, HEADER, STRIP = 2.0, 2.2, 0.5, 0.6
# Half of a colour scale, where all states are 0.
LEAST = 1e-12


class Shown(NamedTuple):
    """What is drawn of one image; arrays without a batch.

    Attributes:
        title: above all.
        image: [height, width, channels], in 0..1.
        free: states of each layer by name.
        moved: what each phase moved, (its name, states - free states by the names of layers).
        outputs: a number for each class.
        output_name: what they are.
        label: the class of the image.
    """

    title: str
    image: np.ndarray
    free: dict[str, np.ndarray]
    moved: Sequence[tuple[str, dict[str, np.ndarray]]]
    outputs: np.ndarray
    output_name: str
    label: int


def draw(shown: Shown, path: StrPath) -> None:
    """Draws it as a PNG file: a column for each layer, a row for the free phase and each nudged."""
    rows = 1 + len(shown.moved)
    widths = [1.0, *(STRIP if free.ndim == 1 else 1.0 for free in shown.free.values()), 1.0]
    size = WIDTH * sum(widths) + 0.5, HEIGHT * rows + HEADER
    with figures.figure(path, *size) as page:
        page.suptitle(shown.title, parse_math=False)
        grid = page.add_gridspec(rows, len(widths), width_ratios=widths)
        _draw_image(page.add_subplot(grid[0, 0]), shown.image)
        _draw_outputs(page.add_subplot(grid[0, len(widths) - 1]), shown)
        for row, (name, _) in enumerate(shown.moved, 1):
            axes = page.add_subplot(grid[row, 0])
            axes.axis("off")
            axes.text(0.5, 0.5, name, ha="center", va="center", fontsize=11)
        for column, (name, free) in enumerate(shown.free.items(), 1):
            low, high = min(float(free.min()), 0.0), max(float(free.max()), LEAST)
            axes = page.add_subplot(grid[0, column])
            _draw_states(page, axes, free, _title(name, free), "viridis", (low, high))
            every = [moved[name] for _, moved in shown.moved]
            largest = max([LEAST, *(float(np.abs(moved).max()) for moved in every)])
            for row, moved in enumerate(every, 1):
                axes = page.add_subplot(grid[row, column])
                text = f"up to {np.abs(moved).max():.2g}"
                _draw_states(page, axes, moved, text, "RdBu_r", (-largest, largest))


def _title(name: str, states: np.ndarray) -> str:
    size = "x".join(map(str, states.shape))
    some = states.ndim == 3 and states.shape[-1] > CHANNELS
    return f"{name}\n{size}" + (f", first {CHANNELS}" if some else "")


def _draw_image(axes: Any, image: np.ndarray) -> None:
    in_color = image.shape[-1] == 3
    axes.imshow(image if in_color else image[..., 0], cmap="gray", vmin=0, vmax=1)
    axes.set_title("image, and the free\nequilibrium of each layer", fontsize=9)
    axes.axis("off")


def _draw_outputs(axes: Any, shown: Shown) -> None:
    classes = np.arange(len(shown.outputs))
    colors = ["tab:green" if number == shown.label else "tab:gray" for number in classes]
    axes.barh(classes, shown.outputs, color=colors)
    axes.set_title(f"{shown.output_name}\nlabel {shown.label} green", fontsize=9)
    if len(classes) <= 20:
        axes.set_yticks(classes)
    axes.invert_yaxis()
    axes.tick_params(labelsize=7)
    axes.axvline(0, color="black", linewidth=0.5)


def _draw_states(
    page: Any, axes: Any, states: np.ndarray, title: str, colors: str, limits: tuple[float, float]
) -> None:
    # What is between maps is no state: gray.
    shades = figures.matplotlib.colormaps[colors].with_extremes(bad="0.75")
    # A strip, and tokens, fill their axes; maps keep their shape.
    aspect = "equal" if states.ndim == 3 else "auto"
    low, high = limits
    drawn = axes.imshow(
        as_plane(states), cmap=shades, vmin=low, vmax=high, aspect=aspect, interpolation="nearest"
    )
    axes.set_title(title, fontsize=9, parse_math=False)
    axes.set_xticks([])
    axes.set_yticks([])
    bar = page.colorbar(drawn, ax=axes, shrink=0.8)
    bar.ax.tick_params(labelsize=6)
    bar.ax.yaxis.get_offset_text().set_fontsize(6)
    bar.ax.locator_params(nbins=4)


def as_plane(states: np.ndarray) -> np.ndarray:
    """The states of a layer as a picture [rows, columns], nan between maps.

    Args:
        states: maps [height, width, channels] become a grid of channels, a dense layer [n] a strip
            of one column, and tokens [n, size] stay.
    """
    if states.ndim == 1:
        return states[:, None]
    if states.ndim != 3:
        return states.reshape(states.shape[0], -1)
    maps = np.moveaxis(states[..., :CHANNELS], -1, 0)
    # The gap is one pixel: those of small maps are drawn as several, for it to stay thin.
    fine = -(-FINE // max(maps.shape[1:]))
    maps = maps.repeat(fine, 1).repeat(fine, 2)
    count, height, width = maps.shape
    columns = min(count, math.ceil(math.sqrt(count * height / width)))
    rows = math.ceil(count / columns)
    plane = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1), np.nan)
    for channel, drawn in enumerate(maps):
        top, left = channel // columns * (height + 1), channel % columns * (width + 1)
        plane[top : top + height, left : left + width] = drawn
    return plane
