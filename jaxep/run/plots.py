"""The pictures of a run: learning curves (as Fig. 1 and 4) and quantities per layer (Fig. 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxep.run.figures import COLORS, figure, finish, log_where_positive, over_epochs
from jaxep.run.files import StrPath


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
    with figure(path, 13, 7) as page:
        for axes, (title, label, columns) in zip(page.subplots(2, 3).flat, panels, strict=True):
            for color, (column, name) in zip(COLORS, columns.items(), strict=False):
                values = _values(metrics, column) * (100 if title == "accuracy" else 1)
                if np.isfinite(values).any():
                    axes.plot(epochs, values, marker=marker, color=color, label=name)
            if title == "residual":
                log_where_positive(axes)
            over_epochs(axes)
            finish(axes, title, label)


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
    with figure(path, 13, 4.2) as page:
        for axes, (quantity, label, logarithmic) in zip(page.subplots(1, 3), panels, strict=True):
            for epoch, marker, color in zip(shown, "os^", COLORS, strict=False):
                column = [_number(cells.get((epoch, name), {}).get(quantity)) for name in names]
                values = np.array(column, float)
                if logarithmic:
                    values[~(values > 0)] = np.nan
                if np.isfinite(values).any():
                    style = {"marker": marker, "markersize": 4, "color": color}
                    axes.plot(values, **style, label=f"epoch {epoch}")
            if logarithmic:
                log_where_positive(axes)
            else:
                axes.set_ylim(bottom=0)
            turned = {"rotation": 60, "ha": "right", "rotation_mode": "anchor"}
            axes.set_xticks(range(len(names)), names, **turned, parse_math=False)
            axes.set_xlim(-0.5, max(len(names), 1) - 0.5)
            axes.set_xlabel("layer")
            finish(axes, quantity, label)


def _values(metrics: Mapping[str, Sequence[Any]], column: str) -> np.ndarray:
    return np.array([_number(value) for value in metrics[column]], float)


def _number(value: Any) -> float:
    return np.nan if value is None else float(value)
