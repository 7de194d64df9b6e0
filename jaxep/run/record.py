"""What a run keeps while it trains, in one place: lock, configuration, checkpoints and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from jaxep.run import console
from jaxep.run.checkpoints import Checkpoints
from jaxep.run.files import StrPath, local_path
from jaxep.run.health import Warnings
from jaxep.run.reporting import Reporter
from jaxep.run.tables import Rows
from jaxep.run.workdir import MayChange, held, open_run

PyTree = Any


class Record:
    """The work directory of a run, open for this process alone; a context manager.

    Args:
      config: settings of the run as JSON values.
      workdir: its directory, made where missing.
      epochs: of the whole run.
      keep: how many of the last checkpoints are kept.
      may_change: keys of `config` that may have another value in a run that goes on, each with
        None, or with a sentence that says why it may not.
      more: columns of metrics.csv that this run alone has.

    Raises:
      CheckpointError: on entering, of another run's directory, or one in use; at any time, where
        it cannot be written.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        workdir: StrPath,
        *,
        epochs: int,
        keep: int = 2,
        may_change: MayChange | None = None,
        more: Sequence[str] = (),
    ) -> None:
        self._config, self._workdir = config, local_path(workdir)
        self._epochs, self._keep = epochs, keep
        self._may_change, self._more = may_change, more
        self._told: set[tuple[str, str]] = set()

    def __enter__(self) -> Record:
        with ExitStack() as stack:
            stack.enter_context(held(self._workdir))
            open_run(self._workdir, self._config, self._may_change)
            checkpoints = Checkpoints(self._workdir, keep=self._keep)
            self._checkpoints = stack.enter_context(checkpoints)
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
        reporter = Reporter(
            self._workdir,
            total_epochs=self._epochs,
            start_epoch=epoch,
            more=self._more,
            config=self._config,
        )
        self._reporter = self._stack.enter_context(reporter)
        if epoch <= self._epochs:
            self._reporter.say(self._told_first(metadata["step"], updates_per_epoch))
        return state, metadata["seconds"]

    def _told_first(self, step: int, updates_per_epoch: int) -> str:
        """What is said before an update is compiled, which takes its time."""
        goes_on = f", on from update {step}" if step else ""
        return (
            f"{self._workdir}: {self._epochs} epochs of {updates_per_epoch} updates{goes_on}; "
            "compiling the first"
        )

    def progress(self, done: int, total: int) -> None:
        """Moves the bar of the epoch."""
        self._reporter.progress(done, total)

    def epoch(self, row: Mapping[str, Any], layers: Rows) -> None:
        """Writes an epoch's rows; they are on the disk when this returns."""
        self._reporter.epoch(row, layers)

    def warn(self, warnings: Warnings) -> None:
        """Prints what was not yet said of a layer, a line each."""
        for about, line in warnings.items():
            if about not in self._told:
                console.warn(line)
            self._told.add(about)

    def save(self, step: int, state: PyTree, metadata: Mapping[str, Any]) -> None:
        """Starts to save `state`, arrays of this process alone, as checkpoint `step`.

        The number of a checkpoint is that of the updates done.
        """
        self._checkpoints.save(step, state, metadata)

    def last(self) -> str:
        """Waits for the last save, and names it."""
        self.wait()
        step = self._checkpoints.latest_step()
        return "no checkpoint" if step is None else f"the checkpoint of update {step}"

    def wait(self) -> None:
        """Waits until the last save is on the disk."""
        self._checkpoints.wait()


class NullRecord:
    """In the place of a `Record` where another process keeps it: does nothing."""

    def __enter__(self) -> NullRecord:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def restore(self, state: PyTree, updates_per_epoch: int) -> tuple[PyTree, float]:
        """(`state`, 0.0), of the right shapes; process 0 has the numbers."""
        del updates_per_epoch
        return state, 0.0

    def progress(self, done: int, total: int) -> None:
        """Nothing."""

    def epoch(self, row: Mapping[str, Any], layers: Rows) -> None:
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
