"""A network of a benchmark as an `Energy` with weights and a batch: what the diagnostics take."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from benchmarks.shared import runs
from jaxep import Energy
from jaxep.core.objective import Objective
from jaxep.core.solvers import tree_norm
from jaxep.core.sweep import Sweep
from jaxep.nets import teachers
from jaxep.nets.heads import Targets
from jaxep.nets.model import Model
from jaxep.run.checkpoints import Checkpoints
from jaxep.training import data as data_lib
from jaxep.training import parallel
from jaxep.training.loop import fit
from jaxep.training.networks import build_model, signal_layers
from jaxep.training.settings import Settings, from_config
from jaxep.training.steps import TrainState, init_state, train_chunk
from jaxep.training.systems import SYSTEMS
from jaxep.training.tasks import Task, TeacherFeatures, ep_task, network_input
from jaxep.training.teaching import build_teacher, load_teacher
from jaxep.training.workdata import load_data

Tree = Any


def silent(images: jax.Array) -> tuple:
    """The features of no teacher."""
    return ()


class System(NamedTuple):
    """What the settings of a run name, for use outside of a training loop.

    Attributes:
        settings: of the run.
        model: its CRNN with the heads of its output and its signal.
        energy: of the model.
        data: images and labels.
    """

    settings: Settings
    model: Model
    energy: Energy
    data: data_lib.Dataset

    def initial(self) -> Tree:
        """The parameters with which the run starts."""
        key = jax.random.fold_in(jax.random.key(self.settings.seed), 0)
        return self.model.init_params(key)

    def batch(
        self, count: int, teacher: TeacherFeatures = silent, first: int = 0
    ) -> tuple[jax.Array, Targets]:
        """`count` test images from the one numbered `first` on, normalised, and their targets.

        Args:
            count: of images.
            teacher: gives what KD and KDW compare with, for each layer of Υ.
            first: from 0.
        """
        images, labels = (part[first : first + count] for part in self.data.test)
        names = [head.name for head in self.model.heads[1:]]
        features = dict(zip(names, teacher(images), strict=False))
        kappa = jnp.asarray(self.settings.kappa, jnp.float32)
        x = network_input(self.settings, self.data.mean, self.data.std, images)
        return x, Targets(labels, kappa, features)


def system(
    run: runs.Run, teacher_shapes: tuple = (), data: data_lib.Dataset | None = None
) -> System:
    """Data, model and energy of a run.

    Args:
        run: what to build.
        teacher_shapes: of its teacher's blocks, for KDW.
        data: in the place of the run's own.
    """
    settings = runs.settings_of(run)
    data = load_data(settings) if data is None else data
    model = build_model(settings, data.image_shape, data.num_classes, teacher_shapes)
    return System(settings, model, SYSTEMS[settings.system].energy(settings, model), data)


def model(run: runs.Run) -> Model:
    """The model of a run, without loading its data; not of KDW, whose teacher has a say."""
    return model_of(runs.settings_of(run))


def model_of(settings: Settings) -> Model:
    """The same of checked settings."""
    spec = data_lib.spec_of(settings.dataset)
    assert spec.image_shape is not None and spec.classes is not None
    return build_model(settings, spec.image_shape, spec.classes)


def train(run: runs.Run, epochs: int) -> tuple[System, Task, TrainState]:
    """The first epochs of a run without a teacher, trained here and kept nowhere."""
    mine = system(run)
    settings, data = mine.settings, mine.data
    each = len(data.train.labels) // settings.batch_size
    task = ep_task(settings, data, each * settings.epochs)
    key = jax.random.key(0)
    state, split = parallel.replicated((init_state(task, key), data.train), task.mesh)
    for epoch in range(epochs):
        keys, stop = jax.random.fold_in(key, epoch), (epoch + 1) * each
        state = train_chunk(task, settings.batch_size, state, split, stop, keys, 0.0)
    return mine, task, jax.device_get(state)


class DrawnTeacher(NamedTuple):
    """The teacher of a KD run before any training: init(key), features(variables, images)."""

    init: Callable[[jax.Array], Tree]
    features: Callable[[Tree, jax.Array], tuple[jax.Array, ...]]


def drawn_teacher(mine: System) -> DrawnTeacher:
    """The teacher of a run as it is drawn; of a run without one, no variables and no features."""
    if not mine.settings.teacher:
        return DrawnTeacher(lambda key: (), lambda variables, images: ())
    theirs = from_config(runs.load_config(Path(mine.settings.teacher).stem))
    vgg = build_teacher(theirs, mine.data.num_classes)
    moments = data_lib.moments(theirs.dataset, theirs.std_scale)
    places = teachers.layers_of_blocks(mine.settings.conv)
    blocks = [places[layer] for layer in signal_layers(mine.settings, mine.model)]

    def features(variables: Tree, images: jax.Array) -> tuple[jax.Array, ...]:
        x = data_lib.normalise(images, *moments)
        params, statistics = variables
        every = teachers.predict(vgg, params, statistics, x)[1]
        return tuple(every[block] for block in blocks)

    return DrawnTeacher(lambda key: teachers.init(vgg, key, mine.data.image_shape), features)


def teacher(mine: System, workdir: Path | None) -> TeacherFeatures:
    """What a run's signals compare with: the teacher trained in `workdir`, or if None as drawn."""
    if workdir is not None:
        settings = dataclasses.replace(mine.settings, teacher_workdir=str(workdir))
        return load_teacher(settings, mine.data, train=fit)[0]
    drawn = drawn_teacher(mine)
    return functools.partial(drawn.features, drawn.init(jax.random.key(0)))


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
        for epoch in (epoch for epoch in epochs if epoch > 0):
            found[epoch] = checkpoints.restore(template, epoch * updates)[0].params
    return found


def error(estimate: Tree, exact: Tree) -> float:
    """||g - g*|| / ||g*|| over all leaves; nan or infinite where g* is 0."""
    wrong = tree_norm(jax.tree.map(jnp.subtract, estimate, exact))
    return float(wrong / tree_norm(exact))


def cosine(estimate: Tree, exact: Tree) -> float:
    """Over all leaves; nan where one is 0."""
    u, v = ravel_pytree(estimate)[0], ravel_pytree(exact)[0]
    return float(u @ v / jnp.linalg.norm(u) / jnp.linalg.norm(v))


def follow(
    objective: Objective, states: Tree, order: str, steps: int, tell: Callable[[Tree, Tree], Tree]
) -> tuple[Tree, Tree]:
    """The states after some sweeps, and what `tell` says of (old, new) in each, [steps, ...]."""
    sweep = Sweep.over(objective, states, order)

    def body(old: Tree, _: None) -> tuple[Tree, Tree]:
        new = sweep(old)
        return new, tell(old, new)

    return jax.lax.scan(body, states, length=steps)


def as_float64(tree: Tree) -> Tree:
    """Floating leaves in double precision; needs jax_enable_x64."""
    return jax.tree.map(
        lambda a: a.astype(jnp.float64) if jnp.issubdtype(a.dtype, jnp.floating) else a, tree
    )
