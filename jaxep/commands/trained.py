"""A trained network and the images that it is judged by, for commands that look at a run."""

from pathlib import Path
from typing import Any, NamedTuple

from jaxep import process
from jaxep.run.files import local_path
from jaxep.training import workdata
from jaxep.training.data import Dataset, facts
from jaxep.training.runs import Run, load_run


class Trained(NamedTuple):
    """A run and its data.

    Attributes:
        folder: the work directory; nothing is written there.
        run: with the weights that were asked for.
        data: those of its training.
        best: whether the weights are those of the epoch with the highest test accuracy.
    """

    folder: Path
    run: Run
    data: Dataset
    best: bool

    @property
    def name(self) -> str:
        """That of the folder: the runs of a sweep have one name in their settings."""
        return self.folder.resolve().name

    @property
    def updates_per_epoch(self) -> int:
        """Updates of the weights in each epoch."""
        return len(self.data.train.labels) // self.run.settings.batch_size

    @property
    def weights(self) -> str:
        """Which weights these are."""
        epoch, rest = divmod(self.run.step, self.updates_per_epoch)
        where = f"within epoch {epoch + 1}" if rest else f"after epoch {epoch}"
        kind = "best" if self.best else "last"
        return f"the {kind} weights, {where} (update {self.run.step})"


def load(folder: Any, last: bool) -> Trained:
    """The run in a folder, with its best weights or with the last ones.

    Raises:
        UserError: there is none of task ep, or its data cannot be loaded or are others now.
    """
    process.prepare_jax()
    process.check_devices()
    folder = local_path(folder)
    run = load_run(folder, best=not last)
    data = workdata.load_data(run.settings)
    workdata.check_facts(folder, facts(data))
    return Trained(folder, run, data, not last)
