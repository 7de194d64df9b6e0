"""What a run tells its reader: tables, TensorBoard events, a line per epoch or a bar, a summary."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from tensorboardX import SummaryWriter
from tqdm import tqdm

from jaxep.run import console
from jaxep.run.errors import CheckpointError, reason
from jaxep.run.files import StrPath, local_path, write_atomically
from jaxep.run.provenance import peak_bytes, provenance

# Numbers by column, for each row of layers.csv by its name: a column that is None or absent is an
# empty cell.
Rows = Mapping[str, Mapping[str, Any]]

METRIC_COLUMNS = (
    "epoch", "train_loss", "train_acc", "test_loss", "test_acc", "kappa", "lr",
    "free_steps", "nudge_steps", "free_residual", "nudge_residual", "seconds", "skipped",
)  # fmt: skip
LAYER_COLUMNS = ("epoch", "layer", "activity", "gradient", "displacement", "zeros", "ones")


class Reporter:
    """Tells how a run goes, epoch by epoch; a context manager.

    Args:
      workdir: existing directory of the run.
      total_epochs: epochs of the whole run, shown in the progress.
      start_epoch: number of the first epoch to come, 1 in a new run. Rows of it and of later
        epochs, left by a run that was cut off after its last checkpoint, are dropped.
      more: columns of metrics.csv after `METRIC_COLUMNS`, which this run alone has.

    Raises:
      CheckpointError: metrics.csv or layers.csv in `workdir` is not one of this library's.
    """

    def __init__(
        self, workdir: StrPath, *, total_epochs: int, start_epoch: int, more: Sequence[str] = ()
    ) -> None:
        self._workdir, self._columns = local_path(workdir), (*METRIC_COLUMNS, *more)
        self._total, self._start, self._epoch = total_epochs, start_epoch, start_epoch
        self._terminal = sys.stderr is not None and sys.stderr.isatty()
        self._stdout_failed = False
        self._bar: tqdm | None = None
        self._metrics = self._rows_before("metrics.csv", self._columns)
        self._layers = self._rows_before("layers.csv", LAYER_COLUMNS)

    def _rows_before(self, name: str, columns: Sequence[str]) -> list[list[str]]:
        path = self._workdir / name
        rows = _read_rows(path, columns) if path.exists() else []
        return [list(row.values()) for row in rows if int(row["epoch"]) < self._start]

    def __enter__(self) -> Reporter:
        self._write_tables()
        self._began = time.time()
        self._events = SummaryWriter(
            str(self._workdir),
            # A kill loses events that the tables have: all are told again, in the place of these.
            purge_step=1,
            flush_secs=5,  # its flush() does not wait for what is queued
            # Its files are named by the second: a quick resumption would write over the first.
            filename_suffix=f".{self._start}",
        )
        self._repeat_events()
        return self

    def _repeat_events(self) -> None:
        layers: dict[int, dict[str, dict[str, Any]]] = {}
        for cells in self._layers:
            row = _numbers(LAYER_COLUMNS, cells)
            layers.setdefault(row.pop("epoch"), {})[row.pop("layer")] = row
        for cells in self._metrics:
            metrics = _numbers(self._columns, cells)
            self._write_events(metrics["epoch"], metrics, layers.get(metrics["epoch"], {}))

    def __exit__(self, *_: object) -> None:
        self._close_bar()
        self._events.close()

    def progress(self, done: int, total: int) -> None:
        """Moves the bar of this epoch to `done` of `total` steps; nothing without a terminal."""
        if not self._terminal:
            return
        try:
            if self._bar is None:
                title = f"epoch {self._epoch}/{self._total}"
                self._bar = tqdm(
                    total=total, desc=title, leave=False, unit="step", dynamic_ncols=True
                )
                self._bar.start_t = self._began  # it first hears of the epoch when steps are done
            self._bar.update(done - self._bar.n)
        except OSError:  # the terminal is gone
            self._terminal = False

    def epoch(self, metrics: Mapping[str, Any], layers: Rows | None = None) -> None:
        """Writes one epoch to the tables and to TensorBoard, and prints its line.

        Args:
          metrics: numbers by the columns of metrics.csv, epochs counted from 1; a column that is
            None or absent is an empty cell.
          layers: for each row of layers.csv, by its name, numbers by `LAYER_COLUMNS`.
        """
        epoch, layers = int(metrics["epoch"]), layers or {}
        self._metrics.append(_cells(metrics, self._columns))
        for name, row in layers.items():
            cells = {**row, "epoch": epoch, "layer": name}
            self._layers.append(_cells(cells, LAYER_COLUMNS))
        self._write_tables()
        self._write_events(epoch, metrics, layers)
        self._close_bar()
        self._say(_line(metrics, self._total))
        self._epoch, self._began = epoch + 1, time.time()

    def _say(self, line: str) -> None:
        """Prints a line; where it cannot be, says so once: a reader who has left knows."""
        error = console.say(line)
        if error and not isinstance(error, BrokenPipeError) and not self._stdout_failed:
            self._stdout_failed = True
            console.warn(
                f"stdout cannot be written ({reason(error)}): its lines are in "
                f"{self._workdir / 'metrics.csv'} alone"
            )

    def _close_bar(self) -> None:
        # A terminal that is gone takes no bar; nothing of the run depends on it.
        with suppress(OSError):
            if self._bar is not None:
                self._bar.close()
        self._bar = None

    def _write_tables(self) -> None:
        # Whole files: they are small, and a row is never half there.
        _write_table(self._workdir / "metrics.csv", self._columns, self._metrics)
        _write_table(self._workdir / "layers.csv", LAYER_COLUMNS, self._layers)

    def _write_events(self, epoch: int, metrics: Mapping[str, Any], layers: Rows) -> None:
        # "train_loss" as "loss/train": TensorBoard groups by the part before the slash.
        scalars = {"/".join(c.split("_")[::-1]): metrics.get(c) for c in self._columns[1:]}
        for name, row in layers.items():
            scalars |= {f"{quantity}/{name}": value for quantity, value in row.items()}
        for tag, value in scalars.items():
            if value is not None and math.isfinite(value):
                self._events.add_scalar(tag, float(value), epoch)


def _cells(values: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    if unknown := sorted(set(values) - set(columns)):
        raise ValueError(f"no such columns: {unknown}")
    return [_cell(values.get(column)) for column in columns]


def _cell(value: Any) -> str:
    """A number with the nine digits that bring a float32 back bit for bit; None as nothing."""
    if value is None or isinstance(value, str):
        return value or ""
    number = np.asarray(value).item()
    return str(number) if isinstance(number, int) else format(number, ".9g")


def _write_table(path: Path, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    write_atomically(path, text.getvalue())


def _line(metrics: Mapping[str, Any], total: int) -> str:
    shown = [f"epoch {int(metrics['epoch']):{len(str(total))}d}/{total}"]
    for name, column, form in (
        ("loss", "train_loss", ".3f"),
        ("acc", "train_acc", ".3f"),
        ("test", "test_acc", ".3f"),
        ("kappa", "kappa", ".3g"),
        ("residual", "free_residual", ".0e"),
    ):
        if metrics.get(column) is not None:
            shown.append(f"{name} {float(metrics[column]):{form}}".replace("e-0", "e-"))
    if metrics.get("seconds") is not None:
        shown.append(f"{float(metrics['seconds']):.1f} s")
    return "  ".join(shown)


def _read_rows(path: StrPath, columns: Sequence[str], more: bool = False) -> list[dict[str, str]]:
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


def _numbers(columns: Sequence[str], cells: Sequence[str]) -> dict[str, Any]:
    return {column: _number(column, cell) for column, cell in zip(columns, cells, strict=True)}


def read_metrics(path: StrPath) -> dict[str, list[Any]]:
    """Reads metrics.csv: for each column its values by epoch, None for an empty cell.

    Raises:
      CheckpointError: it has not the `METRIC_COLUMNS` first.
    """
    rows = _read_rows(path, METRIC_COLUMNS, more=True)
    columns = rows[0] if rows else METRIC_COLUMNS
    return {column: [_number(column, row[column]) for row in rows] for column in columns}


def read_layers(path: StrPath) -> list[dict[str, Any]]:
    """Reads layers.csv: one mapping by `LAYER_COLUMNS` per epoch and layer, None for an empty cell.

    Raises:
      CheckpointError: it has other columns.
    """
    rows = _read_rows(path, LAYER_COLUMNS)
    return [_numbers(LAYER_COLUMNS, list(row.values())) for row in rows]


def write_summary(workdir: StrPath, *, parameters: int, **more: Any) -> dict[str, Any]:
    """Writes `workdir`/summary.json from its metrics.csv, and returns its content.

    Seconds are summed over all epochs, so that those before a resumption count.

    Args:
      workdir: directory of the run.
      parameters: number of trained parameters.
      more: further JSON values, under names of their own.
    """
    workdir = local_path(workdir)
    metrics = read_metrics(workdir / "metrics.csv")
    accuracies = [
        (accuracy, -epoch)
        for epoch, accuracy in zip(metrics["epoch"], metrics["test_acc"], strict=True)
        if accuracy is not None and math.isfinite(accuracy)
    ]
    best, epoch = max(accuracies, default=(None, None))
    final = metrics["test_acc"][-1] if metrics["test_acc"] else None
    summary = dict(
        final_test_accuracy=final if final is None or math.isfinite(final) else None,
        best_test_accuracy=best,
        best_epoch=None if epoch is None else -epoch,
        epochs=len(metrics["epoch"]),
        seconds=math.fsum(value for value in metrics["seconds"] if value is not None),
        parameters=parameters,
        peak_bytes=peak_bytes(),
        **provenance(),
        **more,
    )
    text = json.dumps(summary, indent=2, allow_nan=False) + "\n"
    write_atomically(workdir / "summary.json", text)
    return summary
