"""What a run tells its reader: tables, TensorBoard events, a line per epoch or a bar, a summary."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from tensorboardX import SummaryWriter
from tensorboardX.summary import hparams

from jaxep.run import console
from jaxep.run.errors import reason
from jaxep.run.files import StrPath, local_path, write_atomically
from jaxep.run.progress import Bar, line
from jaxep.run.provenance import peak_bytes, provenance
from jaxep.run.tables import (
    LAYER_COLUMNS,
    METRIC_COLUMNS,
    Rows,
    cells_of,
    numbers,
    read_metrics,
    read_rows,
    write_table,
)


class Reporter:
    """Tells how a run goes, epoch by epoch; a context manager.

    Args:
      workdir: existing directory of the run.
      total_epochs: epochs of the whole run, shown in the progress.
      start_epoch: number of the first epoch to come, 1 in a new run. Rows of it and of later
        epochs, left by a run that was cut off after its last checkpoint, are dropped.
      more: columns of metrics.csv after `METRIC_COLUMNS`, which this run alone has.
      config: settings of the run as JSON values, for the hyperparameters of TensorBoard.

    Raises:
      CheckpointError: metrics.csv or layers.csv in `workdir` is not one of this library's.
    """

    def __init__(
        self,
        workdir: StrPath,
        *,
        total_epochs: int,
        start_epoch: int,
        more: Sequence[str] = (),
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self._workdir, self._columns = local_path(workdir), (*METRIC_COLUMNS, *more)
        self._total, self._start, self._epoch = total_epochs, start_epoch, start_epoch
        self._config, self._stdout_failed, self._bar = config, False, Bar()
        self._metrics = self._rows_before("metrics.csv", self._columns)
        self._layers = self._rows_before("layers.csv", LAYER_COLUMNS)

    def _rows_before(self, name: str, columns: Sequence[str]) -> list[list[str]]:
        path = self._workdir / name
        rows = read_rows(path, columns) if path.exists() else []
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

    def _tell_hyperparameters(self) -> None:
        # Not add_hparams: it writes a run of its own beside this one, and anew at each resumption.
        if self._config is not None:
            plain = (bool, int, float, str)
            settings = {k: v if isinstance(v, plain) else str(v) for k, v in self._config.items()}
            for told in hparams(settings, {"acc/test": 0.0, "loss/test": 0.0}):
                self._events.file_writer.add_summary(told)

    def _repeat_events(self) -> None:
        layers: dict[int, dict[str, dict[str, Any]]] = {}
        for cells in self._layers:
            row = numbers(LAYER_COLUMNS, cells)
            layers.setdefault(row.pop("epoch"), {})[row.pop("layer")] = row
        for cells in self._metrics:
            metrics = numbers(self._columns, cells)
            self._write_events(metrics["epoch"], metrics, layers.get(metrics["epoch"], {}))

    def __exit__(self, error: object, *_: object) -> None:
        self._bar.close()
        try:
            # Not earlier: their 10 kB would be the first to meet a full disk, and hide its error.
            if error is None:
                self._tell_hyperparameters()
            self._events.close()
        except OSError as lost:
            if error is None:  # else what ended the run is told, and that alone
                told = f"{reason(lost)}; metrics.csv and layers.csv have all"
                console.warn(f"the events of TensorBoard cannot be written ({told})")

    def progress(self, done: int, total: int) -> None:
        """Moves the bar of this epoch to `done` of `total` steps; nothing where nobody watches."""
        self._bar.move(f"epoch {self._epoch}/{self._total}", done, total, self._began)

    def epoch(self, metrics: Mapping[str, Any], layers: Rows | None = None) -> None:
        """Writes one epoch to the tables and to TensorBoard, and prints its line.

        Args:
          metrics: numbers by the columns of metrics.csv, epochs counted from 1; a column that is
            None or absent is an empty cell.
          layers: for each row of layers.csv, by its name, numbers by `LAYER_COLUMNS`.
        """
        epoch, layers = int(metrics["epoch"]), layers or {}
        self._metrics.append(cells_of(metrics, self._columns))
        for name, row in layers.items():
            cells = {**row, "epoch": epoch, "layer": name}
            self._layers.append(cells_of(cells, LAYER_COLUMNS))
        self._write_tables()
        self._write_events(epoch, metrics, layers)
        self._bar.close()
        self.say(line(metrics, self._total, self._seconds()))
        self._epoch, self._began = epoch + 1, time.time()

    def say(self, line: str) -> None:
        """Prints a line; where it cannot be, says so once: a reader who has left knows."""
        error = console.say(line)
        if error and not isinstance(error, BrokenPipeError) and not self._stdout_failed:
            self._stdout_failed = True
            console.warn(
                f"stdout cannot be written ({reason(error)}): its lines are in "
                f"{self._workdir / 'metrics.csv'} alone"
            )

    def _seconds(self) -> list[float]:
        """Of the epochs so far."""
        place = self._columns.index("seconds")
        return [float(cells[place]) for cells in self._metrics if cells[place]]

    def _write_tables(self) -> None:
        # Whole files: they are small, and a row is never half there.
        write_table(self._workdir / "metrics.csv", self._columns, self._metrics)
        write_table(self._workdir / "layers.csv", LAYER_COLUMNS, self._layers)

    def _write_events(self, epoch: int, metrics: Mapping[str, Any], layers: Rows) -> None:
        # "train_loss" as "loss/train": TensorBoard groups by the part before the slash.
        scalars = {"/".join(c.split("_")[::-1]): metrics.get(c) for c in self._columns[1:]}
        for name, row in layers.items():
            scalars |= {f"{quantity}/{name}": value for quantity, value in row.items()}
        for tag, value in scalars.items():
            if value is not None and math.isfinite(value):
                self._events.add_scalar(tag, float(value), epoch)


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
