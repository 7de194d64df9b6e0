"""The pictures of a run: learning curves (as Fig. 1 and 4) and quantities per layer (Fig. 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxep.run.about import About
from jaxep.run.figures import COLORS, Axes, finish, grid, log_where_positive, over_epochs
from jaxep.run.files import StrPath


class Panel(NamedTuple):
    """Lines over the epochs: the column of metrics.csv and the name of each."""

    title: str
    label: str
    lines: Mapping[str, str]
    # What is set and not found out: where it stays the same it is told in words.
    setting: bool = False


def panels(augmented: bool) -> tuple[Panel, ...]:
    """What curves.png shows, where there are values."""
    # A test image is never changed: the two curves are of different images.
    train = "train (augmented images)" if augmented else "train"
    return (
        Panel("loss", "mean loss per sample", {"train_loss": train, "test_loss": "test"}),
        Panel("accuracy", "accuracy (%)", {"train_acc": train, "test_acc": "test"}),
        Panel(
            "residual", "‖F(ξ) − ξ‖ / ‖ξ‖", {"free_residual": "free", "nudge_residual": "nudged"}
        ),
        Panel("steps", "steps per batch", {"free_steps": "free", "nudge_steps": "nudged"}, True),
        Panel("κ", "weight of the intermediate losses", {"kappa": "κ"}, True),
        Panel("learning rate", "learning rate", {"lr": "learning rate"}, True),
    )


def curves(metrics: Mapping[str, Sequence[Any]], path: StrPath, about: About | None = None) -> None:
    """Draws loss, accuracy, the convergence of both phases and schedules over the epochs.

    Args:
      metrics: values by column, from `reporting.read_metrics`; None and nan are gaps. A panel
        without any value is left out, and so is one of a setting that stays the same: it is told
        in the title.
      path: PNG file, replaced in one step.
      about: the run.
    """
    about = about or About()
    given = [panel for panel in panels(about.augmented) if _has_values(metrics, panel)]
    flat = [panel for panel in given if panel.setting and _is_flat(metrics, panel)]
    shown = [panel for panel in given if panel not in flat] or list(panels(about.augmented)[:2])
    title = "\n".join(line for line in (about.title, _told(metrics, flat)) if line)
    with grid(path, title, len(shown)) as places:
        for axes, panel in zip(places, shown, strict=True):
            _draw(axes, metrics, panel, about)


def _draw(axes: Axes, metrics: Mapping[str, Sequence[Any]], panel: Panel, about: About) -> None:
    epochs = _values(metrics, "epoch")
    # A dot per epoch where a line alone would not show, as with a single one or between gaps.
    marker = "." if len(epochs) < 40 else ""
    for color, (column, name) in zip(COLORS, panel.lines.items(), strict=False):
        values = _values(metrics, column) * (100 if panel.title == "accuracy" else 1)
        if np.isfinite(values).any():
            axes.plot(epochs, values, marker=marker, color=color, label=name)
            if column in about.tolerances:
                where = f"tolerance, {name}"
                axes.axhline(about.tolerances[column], color=color, ls=":", lw=1, label=where)
    if panel.title == "residual":
        log_where_positive(axes)
    over_epochs(axes)
    finish(axes, panel.title, panel.label)


def _has_values(metrics: Mapping[str, Sequence[Any]], panel: Panel) -> bool:
    return any(np.isfinite(_values(metrics, column)).any() for column in panel.lines)


def _is_flat(metrics: Mapping[str, Sequence[Any]], panel: Panel) -> bool:
    lines = [_values(metrics, column) for column in panel.lines]
    return all(len(set(line[np.isfinite(line)])) <= 1 for line in lines)


def _told(metrics: Mapping[str, Sequence[Any]], flat: Sequence[Panel]) -> str:
    """The settings that stay the same, in words."""
    words = []
    for panel in flat:
        lines = {name: _values(metrics, column) for column, name in panel.lines.items()}
        one = {name: line[np.isfinite(line)] for name, line in lines.items()}
        values = {name: f"{line[0]:g}" for name, line in one.items() if len(line)}
        several = " + ".join(f"{value} {name}" for name, value in values.items())
        words.append(f"{several} {panel.title}" if len(panel.lines) > 1 else "")
        words[-1] = words[-1] or f"{panel.title} {next(iter(values.values()))}"
    return f"throughout: {', '.join(words)}" if words else ""


def layers(
    layer_rows: Sequence[Mapping[str, Any]], path: StrPath, about: About | None = None
) -> None:
    """Draws Fig. 5 of a run: what its layers do after the first epoch, in the middle, at the end.

    Activity, gradient, displacement, and the shares of the states that are 0 and 1, by layer.

    Args:
      layer_rows: one mapping per epoch and layer, from `reporting.read_layers`; None, nan and, on
        the logarithmic axes, zero are gaps, and a panel without any value is left out.
      path: PNG file, replaced in one step.
      about: the run.
    """
    names = list(dict.fromkeys(str(row["layer"]) for row in layer_rows))
    epochs = sorted({int(row["epoch"]) for row in layer_rows})
    middle = epochs[(len(epochs) - 1) // 2 : (len(epochs) + 1) // 2]
    chosen = sorted({*epochs[:1], *middle, *epochs[-1:]})
    cells = {(int(row["epoch"]), str(row["layer"])): row for row in layer_rows}
    found = {
        (quantity, epoch): np.array(
            [_number(cells.get((epoch, name), {}).get(quantity)) for name in names], float
        )
        for quantity in QUANTITIES
        for epoch in chosen
    }
    shown = [q for q in QUANTITIES if any(np.isfinite(found[q, e]).any() for e in chosen)]
    shown = shown or list(QUANTITIES)[:1]
    with grid(path, (about or About()).title, len(shown)) as places:
        for axes, quantity in zip(places, shown, strict=True):
            told, logarithmic = QUANTITIES[quantity]
            for epoch, marker, color in zip(chosen, "os^", COLORS, strict=False):
                values = found[quantity, epoch]
                if logarithmic:
                    values = np.where(values > 0, values, np.nan)
                if np.isfinite(values).any():
                    label = f"epoch {epoch}"
                    axes.plot(values, marker=marker, markersize=4, color=color, label=label)
            if logarithmic:
                log_where_positive(axes)
            else:
                axes.set_ylim(bottom=0)
            _name_layers(axes, names)
            finish(axes, quantity, told)


# By column of layers.csv: what its axis says, and whether that is logarithmic.
QUANTITIES = {
    "activity": ("mean |ξ| per neuron", False),
    "gradient": ("mean |∂w| per parameter", True),
    "displacement": ("‖ξ$^β$ − ξ*‖ per sample", True),
    "zeros": ("share of the states that are 0", False),
    "ones": ("share of the states that are 1", False),
}


def _name_layers(axes: Axes, names: Sequence[str]) -> None:
    axes.set_xticks(range(len(names)), names, parse_math=False)
    for label in axes.get_xticklabels():
        label.set(rotation=60, ha="right", rotation_mode="anchor")
    axes.set_xlim(-0.5, max(len(names), 1) - 0.5)
    axes.set_xlabel("layer")


def _values(metrics: Mapping[str, Sequence[Any]], column: str) -> np.ndarray:
    return np.array([_number(value) for value in metrics[column]], float)


def _number(value: Any) -> float:
    return np.nan if value is None else float(value)
