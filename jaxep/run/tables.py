"""metrics.csv and layers.csv: numbers that come back bit for bit."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxep.run.errors import CheckpointError
from jaxep.run.files import StrPath, write_atomically

# Numbers by column, for each row of layers.csv by its name: a column that is None or absent is an
# empty cell.
Rows = Mapping[str, Mapping[str, Any]]

METRIC_COLUMNS = (
    "epoch", "train_loss", "train_acc", "test_loss", "test_acc", "kappa", "lr",
    "free_steps", "nudge_steps", "free_residual", "nudge_residual", "seconds", "skipped",
)  # fmt: skip
LAYER_COLUMNS = ("epoch", "layer", "activity", "gradient", "displacement", "zeros", "ones")


def cells_of(values: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    """The cells of a row, in the order of the columns.

    Raises:
      ValueError: a value is of no column.
    """
    if unknown := sorted(set(values) - set(columns)):
        raise ValueError(f"no such columns: {unknown}")
    return [_cell(values.get(column)) for column in columns]


def _cell(value: Any) -> str:
    """A number with the nine digits that bring a float32 back bit for bit; None as nothing."""
    if value is None or isinstance(value, str):
        return value or ""
    number = np.asarray(value).item()
    return str(number) if isinstance(number, int) else format(number, ".9g")


def write_table(path: Path, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Writes a whole table in one step."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    write_atomically(path, text.getvalue())


def read_rows(path: StrPath, columns: Sequence[str], more: bool = False) -> list[dict[str, str]]:
    """The rows of a table of just these columns, or with `more` after them."""
    with open(path, newline="", encoding="utf-8") as file:
        header, *rows = list(csv.reader(file)) or [[]]
    known = header[: len(columns)] if more else header
    if known != list(columns) or any(len(row) != len(header) for row in rows):
        raise CheckpointError(f"{path} is not a table of {', '.join(columns)}")
    return [dict(zip(header, row, strict=True)) for row in rows]


def _number(column: str, cell: str) -> Any:
    if column in ("epoch", "layer"):
        return int(cell) if column == "epoch" else cell
    return float(cell) if cell else None


def numbers(columns: Sequence[str], cells: Sequence[str]) -> dict[str, Any]:
    """What the cells of a row say, by column; None for an empty one."""
    return {column: _number(column, cell) for column, cell in zip(columns, cells, strict=True)}


def read_metrics(path: StrPath) -> dict[str, list[Any]]:
    """Reads metrics.csv: for each column its values by epoch, None for an empty cell.

    Raises:
      CheckpointError: it has not the `METRIC_COLUMNS` first.
    """
    rows = read_rows(path, METRIC_COLUMNS, more=True)
    columns = rows[0] if rows else METRIC_COLUMNS
    return {column: [_number(column, row[column]) for row in rows] for column in columns}


def read_layers(path: StrPath) -> list[dict[str, Any]]:
    """Reads layers.csv: one mapping by `LAYER_COLUMNS` per epoch and layer, None for an empty cell.

    Raises:
      CheckpointError: it has other columns.
    """
    rows = read_rows(path, LAYER_COLUMNS)
    return [numbers(LAYER_COLUMNS, list(row.values())) for row in rows]
