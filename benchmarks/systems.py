"""A network of a benchmark as an `Energy` with weights and a batch: what the diagnostics take."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks import runs
from jaxep.core.sweep import Energy
from jaxep.nets import heads as signals
from jaxep.nets.graph import Network
from jaxep.run.checkpoints import Checkpoints
from jaxep.training import data as data_lib
from jaxep.training import loop as training
from jaxep.training.settings import Settings
from jaxep.training.steps import init_state
from jaxep.training.tasks import TeacherFeatures, build_network, build_signal, ep_task

Tree = Any


class System(NamedTuple):
    """What the settings of a run name, for use outside of a training loop.

    Attributes:
        settings: of the run.
        network: its CRNN.
        signal: its intermediate signal.
        model: network and signal as an energy.
        data: images and labels.
    """

    settings: Settings
    network: Network
    signal: signals.Signal
    model: Energy
    data: data_lib.Dataset

    def initial(self) -> Tree:
        """The parameters with which the run starts."""
        key = jax.random.fold_in(jax.random.key(self.settings.seed), 0)
        return signals.init_params(self.network, self.signal, key)

    def batch(
        self, count: int, teacher: TeacherFeatures = lambda images: (), first: int = 0
    ) -> tuple[jax.Array, signals.Targets]:
        """`count` test images from the one numbered `first` on, normalised, and their targets.

        Args:
            count: of images.
            teacher: gives what KD and KDW compare with, for each layer of Υ.
            first: from 0.
        """
        images, labels = (part[first : first + count] for part in self.data.test)
        x = data_lib.normalise(images, self.data.mean, self.data.std)
        kappa = jnp.asarray(self.settings.kappa, jnp.float32)
        return x, signals.Targets(labels, kappa, teacher(images))


def system(run: runs.Run, teacher_shapes: tuple = ()) -> System:
    """Data, network and energy of a run; a KDW run needs the shapes of its teacher's blocks."""
    settings = runs.settings_of(run)
    data = training.load_data(settings)
    network = build_network(settings, data)
    signal = build_signal(settings, network, data.num_classes, teacher_shapes)
    model = signals.energy(network, signal, settings.init_states)
    return System(settings, network, signal, model, data)


def weights(run: runs.Run, folder: Path, epochs: list[int]) -> dict[int, Tree]:
    """Parameters of a finished run without a teacher after the given epochs, 0 for the start.

    Raises:
        CheckpointError: an epoch's checkpoint was not kept (see `config.keep_checkpoints`).
    """
    mine = system(run)
    task = ep_task(mine.settings, mine.data, steps=1)
    with jax.enable_x64(False):  # as train.py saved it
        template = jax.eval_shape(lambda key: init_state(task, key), jax.random.key(0))
    found = {0: mine.initial()} if 0 in epochs else {}
    updates = len(mine.data.train.labels) // mine.settings.batch_size
    with Checkpoints(runs.place(run, folder), keep=mine.settings.keep_checkpoints) as checkpoints:
        for epoch in epochs:
            if epoch > 0:
                found[epoch] = checkpoints.restore(template, epoch * updates)[0].params
    return found


def as_float64(tree: Tree) -> Tree:
    """Floating leaves in double precision; needs jax_enable_x64."""
    return jax.tree.map(
        lambda a: a.astype(jnp.float64) if jnp.issubdtype(a.dtype, jnp.floating) else a, tree
    )
