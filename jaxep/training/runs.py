"""A trained network out of its work directory, to evaluate, to predict, to look at its states."""

from __future__ import annotations

import dataclasses
import functools
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxep.core.energy import Energy
from jaxep.nets.model import Model
from jaxep.run.checkpoints import Checkpoints, read_state
from jaxep.run.errors import CheckpointError, DataError, reason
from jaxep.run.files import local_path
from jaxep.run.tables import read_metrics
from jaxep.run.workdir import check_run, read_config
from jaxep.training import arrays, dynamics, parallel, steps, tasks, workdata
from jaxep.training.data import Dataset, Split
from jaxep.training.loop import make_task
from jaxep.training.networks import build_model, build_network
from jaxep.training.settings import Settings, from_config
from jaxep.training.systems import SYSTEMS

States = dict[str, jax.Array]
# What a work directory tells of a run, beside its checkpoints.
TOLD = ("config.json", "format.json", "data.json", "metrics.csv", "summary.json")


@dataclasses.dataclass(frozen=True)
class Run:
    """A trained network.

    Attributes:
        settings: of its training.
        model: the network with its heads; without those of a teacher's signals (kd, kdw).
        params: of the model.
        energy: the model's, to be given to solvers and estimators of `jaxep`.
        step: updates that `params` have seen.
        facts: of the data, see `data.facts`.
        workdir: where it is kept.
    """

    settings: Settings
    model: Model
    params: dict[str, Any]
    energy: Energy
    step: int
    facts: dict[str, Any]
    workdir: Path
    _data: Dataset | None = None

    @property
    def metrics(self) -> dict[str, list[Any]]:
        """metrics.csv: the values of each column by epoch, None where there is none."""
        return read_metrics(self.workdir / "metrics.csv")

    def states(self, images: Any) -> States:
        """The free equilibria of images, by the names of layers: [n, ...] each.

        Args:
            images: [n, height, width, channels] or [n, height, width], as the training images were
                given: integers in 0..255, or floats.

        Raises:
            DataError: images of another shape or type.
        """
        found = [self._settle(batch, key) for batch, key in self._batches(images)]
        return jax.tree.map(lambda *parts: jnp.concatenate(parts), *found)

    def inputs(self, images: Any) -> jax.Array:
        """The x of images, for `energy`: normalised as in training, [n, height, width, channels].

        Args:
            images: as of `states`.

        Raises:
            DataError: images of another shape or type.
        """
        images = arrays.images_of("the call", images)
        self._check_images(images)
        return tasks.network_input(self.settings, self._mean, self._std, jnp.asarray(images))

    def outputs(self, images: Any) -> jax.Array:
        """Logits, or the states of output neurons, [n, classes]."""
        return self.model.outputs(self.params, self.states(images))

    def predict(self, images: Any) -> jax.Array:
        """The class of each image, from 0: [n]."""
        return self.outputs(images).argmax(-1)

    def judge(self, images: Any, labels: Any) -> tuple[jax.Array, jax.Array]:
        """(loss, whether the answer is right) of each image, both [n].

        Args:
            images: as of `states`.
            labels: their classes, from 0: [n].

        Raises:
            DataError: images of another shape or type.
        """
        found, first = [], 0
        for batch, key in self._batches(images):
            own = jnp.asarray(labels[first : first + len(batch)])
            found.append(tasks.judge(self.model, self.params, self._settle(batch, key), own))
            first += len(batch)
        return jax.tree.map(lambda *parts: jnp.concatenate(parts), *found)

    def evaluate(self, data: Dataset | None = None) -> tuple[float, float]:
        """(mean loss, accuracy) over the test part, as metrics.csv has them.

        Args:
            data: of `data.from_arrays`; None: those of `load_run`, or those that the settings name.

        Raises:
            DataError: they cannot be loaded, or are of another shape.
        """
        given = data if data is not None else self._data
        used = workdata.load_data(self.settings, given)
        self._check_images(used.test.images)
        # The network alone is judged: a signal's teacher is not needed.
        settings = dataclasses.replace(self.settings, signal="none", signal_layers=(), teacher="")
        task = make_task(settings, used._replace(mean=self._mean, std=self._std))
        everywhere = self.params, used.test, self._key
        params, test, key = parallel.replicated(everywhere, task.mesh)
        size = min(settings.eval_batch_size, len(test.labels))
        loss, accuracy = steps.evaluate(task, size, params, {}, Split(*test), key)
        return float(loss), float(accuracy)

    def export(self, folder: str | Path) -> None:
        """Writes a work directory of the weights alone, to give away: `load_run` reads it.

        The optimizer's state is left out, so training cannot go on there.

        Args:
            folder: new or empty.

        Raises:
            CheckpointError: it holds something, or cannot be written.
        """
        folder = local_path(folder)
        if folder.is_dir() and any(folder.iterdir()):
            raise CheckpointError(f"export: {folder} holds something: must be new or empty")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name in TOLD:
                if (self.workdir / name).exists():
                    shutil.copyfile(self.workdir / name, folder / name)
        except OSError as error:
            raise CheckpointError(f"export: {folder} cannot be written: {reason(error)}") from error
        with Checkpoints(folder) as checkpoints:
            checkpoints.save(self.step, {"params": self.params}, {})
        for mark in folder.rglob("commit_success.txt"):
            mark.unlink()  # it names this folder of this machine; orbax reads without it

    @property
    def _mean(self) -> tuple[float, ...]:
        return tuple(self.facts["mean"])

    @property
    def _std(self) -> tuple[float, ...]:
        return tuple(self.facts["std"])

    @property
    def _key(self) -> jax.Array:
        """Of the evaluations during training."""
        return jax.random.fold_in(jax.random.key(self.settings.seed), 0)

    def _check_images(self, images: Any) -> None:
        here = f"{images.dtype} {list(images.shape[1:])}"
        there = f"{self.facts['image_type']} {self.facts['image_shape']}"
        if here != there:
            raise DataError(f"the images are {here}, those of the run were {there}")

    def _batches(self, images: Any):
        images = arrays.images_of("the call", images)
        self._check_images(images)
        for number, first in enumerate(range(0, len(images), self.settings.eval_batch_size)):
            key = jax.random.fold_in(self._key, number)
            yield jnp.asarray(images[first : first + self.settings.eval_batch_size]), key

    def _settle(self, images: jax.Array, key: jax.Array) -> States:
        return self._settled(self.params, images, tasks.keys_of_samples(key, images))

    @functools.cached_property
    def _settled(self):
        solver, settings = dynamics.free_solver(self.settings), self.settings

        def settled(params, images, keys):
            x = tasks.network_input(settings, self._mean, self._std, images)
            return tasks.settle(self.energy, solver, params, x, keys)

        return jax.jit(settled)


def load_run(workdir: str | Path, data: Dataset | None = None, *, best: bool = True) -> Run:
    """The trained network of a run's work directory; nothing is written there.

    Args:
        workdir: of `fit` or of the command.
        data: of `data.from_arrays`, for `Run.evaluate` of a run on data of one's own.
        best: the weights of the epoch with the highest test accuracy; False: the last ones.

    Raises:
        CheckpointError: there is no run of this version, or none of its checkpoints can be read.
    """
    workdir = local_path(workdir)
    config = read_config(workdir)
    check_run(workdir, config)
    settings = from_config(config)
    if settings.task != "ep":
        raise CheckpointError(
            f"workdir {workdir} holds a run of task {settings.task}: must be one of task ep"
        )
    facts = workdata.read_facts(workdir)
    build = build_network if settings.signal in ("kd", "kdw") else build_model
    model = build(settings, tuple(facts["image_shape"]), facts["num_classes"])
    template = jax.eval_shape(model.init_params, jax.random.key(0))
    state, metadata = read_state(workdir, {"params": template}, best=best)
    params = jax.tree.map(jnp.asarray, state["params"])
    energy = SYSTEMS[settings.system].energy(settings, model)
    return Run(settings, model, params, energy, metadata["step"], facts, workdir, data)
