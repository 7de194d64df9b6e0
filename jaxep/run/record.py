"""What a run keeps while it trains, in one place: lock, configuration, checkpoints and tables."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from jaxep.run.checkpoints import Checkpoints
from jaxep.run.health import Warnings
from jaxep.run.reporting import Reporter
from jaxep.run.workdir import held, open_run
from jaxep.training.parallel import on_host
from jaxep.training.settings import Settings, to_dict

PyTree = Any
StrPath = str | os.PathLike[str]


class Record:
    """The work directory of a run, open for this process alone; a context manager.

    Args:
      settings: of the run.
      workdir: its directory, made where missing.

    Raises:
      CheckpointError: on entering, of another run's directory, or one in use; at any time, where
        it cannot be written.
    """

    def __init__(self, settings: Settings, workdir: StrPath) -> None:
        self._settings, self._workdir = settings, workdir
        self._told: set[tuple[str, str]] = set()

    def __enter__(self) -> Record:
        with ExitStack() as stack:
            stack.enter_context(held(self._workdir))
            open_run(self._workdir, to_dict(self._settings))
            keep = self._settings.keep_checkpoints
            self._checkpoints = stack.enter_context(Checkpoints(self._workdir, keep=keep))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def restore(self, state: PyTree, updates_per_epoch: int) -> tuple[PyTree, float]:
        """(the last readable checkpoint or `state` in a new run, seconds spent in its epoch)."""
        metadata: dict[str, Any] = {"step": 0, "seconds": 0.0}
        if self._checkpoints.latest_step() is not None:
            state, metadata = self._checkpoints.restore(state)
        epoch = metadata["step"] // updates_per_epoch + 1
        reporter = Reporter(self._workdir, total_epochs=self._settings.epochs, start_epoch=epoch)
        self._reporter = self._stack.enter_context(reporter)
        return state, metadata["seconds"]

    def progress(self, done: int, total: int) -> None:
        """Moves the bar of the epoch."""
        self._reporter.progress(done, total)

    def epoch(self, row: Mapping[str, Any], layers: Sequence[Mapping[str, Any]]) -> None:
        """Writes an epoch's rows; they are on the disk when this returns."""
        self._reporter.epoch(row, layers)

    def warn(self, warnings: Warnings) -> None:
        """Prints what was not yet said of a layer, a line each."""
        for about, line in warnings.items():
            if about not in self._told:
                print(f"warning: {line}", file=sys.stderr)
            self._told.add(about)

    def save(self, step: int, state: PyTree, metadata: Mapping[str, Any]) -> None:
        """Starts to save `state` as checkpoint `step`, the number of updates done."""
        self._checkpoints.save(step, on_host(state), metadata)

    def last(self) -> str:
        """Waits for the last save, and names it."""
        self.wait()
        step = self._checkpoints.latest_step()
        return "no checkpoint" if step is None else f"the checkpoint of update {step}"

    def wait(self) -> None:
        """Waits until the last save is on the disk."""
        self._checkpoints.wait()


class Bystander:
    """In the place of a `Record` where another process keeps it: does nothing."""

    def __init__(self, settings: Settings, workdir: StrPath) -> None:
        del settings, workdir

    def __enter__(self) -> Bystander:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def restore(self, state: PyTree, updates_per_epoch: int) -> tuple[PyTree, float]:
        """(`state`, 0.0), of the right shapes; process 0 has the numbers."""
        del updates_per_epoch
        return state, 0.0

    def progress(self, done: int, total: int) -> None:
        """Nothing."""

    def epoch(self, row: Mapping[str, Any], layers: Sequence[Mapping[str, Any]]) -> None:
        """Nothing."""

    def warn(self, warnings: Warnings) -> None:
        """Nothing."""

    def save(self, step: int, state: PyTree, metadata: Mapping[str, Any]) -> None:
        """Nothing."""

    def last(self) -> str:
        """Where to look for what was kept."""
        return "what process 0 saved"

    def wait(self) -> None:
        """Nothing."""
