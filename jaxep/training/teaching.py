"""Teachers at work: their training task, and their features for a student's signals."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxep.nets import teachers
from jaxep.nets.losses import cross_entropy
from jaxep.run import console
from jaxep.run.checkpoints import read_state
from jaxep.run.errors import CheckpointError, SettingsError, TeacherError
from jaxep.run.files import local_path
from jaxep.training import data as data_lib
from jaxep.training import optimizer, parallel
from jaxep.training.networks import build_network, signal_layers
from jaxep.training.rules import numbers, refuse
from jaxep.training.settings import Settings, from_config, load_config_file
from jaxep.training.tasks import Task, TeacherFeatures, augment, build_rule
from jaxep.training.workdata import read_facts


def build_teacher(settings: Settings, num_classes: int) -> teachers.VGG:
    """The VGG of a teacher's settings."""
    return teachers.VGG(settings.conv, settings.hidden, num_classes)


def teacher_task(settings: Settings, data: data_lib.Dataset, steps: int) -> Task:
    """Trains a teacher by backpropagation in the same loop as the EP networks."""
    model = build_teacher(settings, data.num_classes)
    (first,) = numbers(settings.learning_rates)
    rate = optimizer.rate_schedule(settings.lr_schedule, first, steps)

    def update(params, extra, step, images, labels, key):
        images = augment(settings, data, key, images)
        x = data_lib.normalise(images, data.mean, data.std)
        loss, grads, extra, correct = teachers.loss_and_grads(model, params, extra, x, labels)
        return grads, extra, {"loss": loss, "accuracy": correct / len(labels)}

    def evaluate(params, extra, images, labels, key):
        x = data_lib.normalise(images, data.mean, data.std)
        logits, _ = teachers.predict(model, params, extra, x)
        return cross_entropy(logits, labels), logits.argmax(-1) == labels

    rows = _weighted_layers(shapes_of(model, data.image_shape)[0])

    def report(params, extra, step, images, labels, key):
        x = data_lib.normalise(images, data.mean, data.std)
        _, grads, _, _ = teachers.loss_and_grads(model, params, extra, x, labels)
        return {name: {"gradient": jnp.mean(jnp.abs(grads[name]["kernel"]))} for name in rows}

    return Task(
        init=lambda key: teachers.init(model, key, data.image_shape),
        update=update,
        metrics=("loss", "accuracy"),
        evaluate=evaluate,
        optimizer=build_rule(settings)(rate),
        rate=rate,
        kappa=None,
        report=report,
        rows=rows,
        mesh=parallel.uncut_mesh(),  # batch norm wants its batch whole
    )


def shapes_of(model: teachers.VGG, image_shape: tuple[int, int, int]) -> tuple[Any, Any]:
    """Shapes of a teacher's parameters and statistics."""
    init = functools.partial(teachers.init, model, image_shape=image_shape)
    return jax.eval_shape(lambda key: init(key=key), jax.random.key(0))


def _weighted_layers(params: Any) -> tuple[str, ...]:
    """Names of the modules with a kernel, from the image upwards (Conv_0, ..., Dense_0, ...)."""
    named = [name.rsplit("_", 1) for name, sub in params.items() if "kernel" in sub]
    return tuple(
        f"{kind}_{number}" for kind, number in sorted(named, key=lambda n: (n[0], int(n[1])))
    )


def load_teacher(
    settings: Settings, data: data_lib.Dataset, train: Callable[[Settings, Path], Any]
) -> tuple[TeacherFeatures, tuple[tuple[int, ...], ...]]:
    """The frozen teacher of a KD or KDW run.

    Args:
        settings: of the student; names the teacher's config file.
        data: of the student.
        train: trains the teacher first where its checkpoint is missing and
            `settings.train_teacher` says so.

    Returns:
        (features of images for each layer of Υ, their shapes without the batch).

    Raises:
        TeacherError: no checkpoint, or another data set or other shapes than the student's.
    """
    try:
        config = load_config_file(settings.teacher)
    except SettingsError as error:
        told = str(error).removeprefix(f"{settings.teacher}: ")
        raise refuse("teacher", settings.teacher, told) from error
    theirs = from_config(config)
    workdir = local_path(settings.teacher_workdir or f"runs/{theirs.name}")
    if (theirs.task, theirs.dataset) != ("teacher", settings.dataset):
        raise TeacherError(
            f"config.teacher = {settings.teacher}: must be a config of task teacher on "
            f"{settings.dataset}, is one of task {theirs.task} on {theirs.dataset}"
        )
    if not (workdir / "summary.json").exists():
        command = f"python train.py --config {settings.teacher} --workdir {workdir}"
        if not settings.train_teacher:
            raise TeacherError(
                f"config.teacher = {settings.teacher}: no trained teacher in {workdir}; train it "
                f"by `{command}` or set --config.train_teacher=True"
            )
        console.say(f"training the teacher first: {command}")
        train(theirs, workdir)
    return _frozen_teacher(settings, theirs, workdir, data)


def _frozen_teacher(settings: Settings, theirs: Settings, workdir: Path, data: data_lib.Dataset):
    def refuse(reason: object) -> TeacherError:
        return TeacherError(f"config.teacher = {settings.teacher}: {reason}")

    model = build_teacher(theirs, data.num_classes)
    params, extra = shapes_of(model, data.image_shape)
    try:
        seen = read_facts(workdir)
        state, _ = read_state(workdir, {"params": params, "extra": extra}, best=True)
    except CheckpointError as error:
        raise refuse(error) from error
    own = build_network(settings, data.image_shape, data.num_classes)
    layers, places = signal_layers(settings, own), teachers.layers_of_blocks(settings.conv)
    blocks = [places[layer] for layer in layers]
    there = sum(spec.pool is not None for spec in teachers.parse_teacher(theirs.conv))
    if max(blocks) >= there:
        raise refuse(
            f"a student layer of Υ = {settings.signal_layers} ends in pool {max(blocks) + 1}, the "
            "teacher has fewer blocks"
        )

    def features(images: jax.Array) -> tuple[jax.Array, ...]:
        # A teacher sees the images as it was trained on them, whatever the student's std_scale is.
        x = data_lib.normalise(images, seen["mean"], seen["std"])
        every = teachers.predict(model, state["params"], state["extra"], x)[1]
        return tuple(every[block] for block in blocks)

    images = jax.ShapeDtypeStruct((1, *data.image_shape), data.train.images.dtype)
    shapes = tuple(feature.shape[1:] for feature in jax.eval_shape(features, images))
    for layer, shape in zip(layers, shapes, strict=True):
        if settings.signal == "kd" and own.network.shapes[layer] != shape:
            raise refuse(
                f"its block is {shape} where student layer {layer} is "
                f"{own.network.shapes[layer]}; kd compares equal shapes (kdw maps one to the other)"
            )
    return features, shapes
