"""Teachers at work: their training task, and their features for a student's signals (SPEC 6)."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxep.nets import teachers
from jaxep.nets.graph import parse_conv
from jaxep.nets.losses import cross_entropy
from jaxep.run.checkpoints import read_state
from jaxep.run.errors import CheckpointError, TeacherError
from jaxep.training import data as data_lib
from jaxep.training import optimizer, parallel
from jaxep.training.settings import Settings, from_config, load_config_file
from jaxep.training.tasks import Task, TeacherFeatures, augment, build_network


def build_teacher(settings: Settings, data: data_lib.Dataset) -> teachers.VGG:
    """The VGG of a teacher's settings."""
    return teachers.VGG(settings.conv, settings.hidden, data.num_classes)


def teacher_task(settings: Settings, data: data_lib.Dataset, steps: int) -> Task:
    """Trains a teacher by backpropagation in the same loop as the EP networks."""
    model = build_teacher(settings, data)
    rate = optimizer.rate_schedule(settings.lr_schedule, settings.learning_rates[0], steps)

    def update(params, extra, images, labels, key, kappa):
        x = data_lib.normalise(augment(settings, key, images), data.mean, data.std)
        loss, grads, extra, correct = teachers.loss_and_grads(model, params, extra, x, labels)
        return grads, extra, {"loss": loss, "accuracy": correct / len(labels)}

    def evaluate(params, extra, images, labels, key):
        x = data_lib.normalise(images, data.mean, data.std)
        logits, _ = teachers.predict(model, params, extra, x)
        return cross_entropy(logits, labels), logits.argmax(-1) == labels

    layer_names = _weighted_layers(_shapes(model, data)[0])

    def report(params, extra, images, labels, key, kappa):
        x = data_lib.normalise(images, data.mean, data.std)
        _, grads, _, _ = teachers.loss_and_grads(model, params, extra, x, labels)
        sizes = [jnp.mean(jnp.abs(grads[name]["kernel"])) for name in layer_names]
        return {"gradient": jnp.asarray(sizes)}

    return Task(
        init=lambda key: teachers.init(model, key, data.image_shape),
        update=update,
        metrics=("loss", "accuracy"),
        evaluate=evaluate,
        optimizer=optimizer.sgd(rate, settings.momentum, settings.weight_decay),
        rate=rate,
        kappa=None,
        report=report,
        layer_names=layer_names,
        mesh=parallel.uncut_mesh(),  # batch norm wants its batch whole
    )


def _shapes(model: teachers.VGG, data: data_lib.Dataset) -> tuple[Any, Any]:
    """Shapes of the teacher's parameters and statistics."""
    init = functools.partial(teachers.init, model, image_shape=data.image_shape)
    return jax.eval_shape(lambda key: init(key=key), jax.random.key(0))


def _weighted_layers(params: Any) -> tuple[str, ...]:
    """Names of the modules with a kernel, from the image upwards (Conv_0, ..., Dense_0, ...)."""
    named = [name.rsplit("_", 1) for name, sub in params.items() if "kernel" in sub]
    return tuple(
        f"{kind}_{number}" for kind, number in sorted(named, key=lambda n: (n[0], int(n[1])))
    )


def load_teacher(
    settings: Settings, data: data_lib.Dataset, train: Callable[[Settings, str], Any]
) -> tuple[TeacherFeatures, tuple[tuple[int, ...], ...]]:
    """The frozen teacher of a KD or KDW run.

    Args:
        settings: of the student; names the teacher's config file.
        data: of the student.
        train: trains the teacher first where its checkpoint is missing and
            `settings.train_teacher` says so.

    Returns:
        (features of uint8 images for each layer of Υ, their shapes without the batch).

    Raises:
        TeacherError: no checkpoint, or another data set or other shapes than the student's.
    """
    theirs = from_config(load_config_file(settings.teacher))
    workdir = settings.teacher_workdir or f"runs/{theirs.name}"
    if (theirs.task, theirs.dataset) != ("teacher", settings.dataset):
        raise TeacherError(
            f"config.teacher = {settings.teacher}: must be a config of task teacher on "
            f"{settings.dataset}, is one of task {theirs.task} on {theirs.dataset}"
        )
    if not (Path(workdir) / "summary.json").exists():
        command = f"python train.py --config {settings.teacher} --workdir {workdir}"
        if not settings.train_teacher:
            raise TeacherError(
                f"config.teacher = {settings.teacher}: no trained teacher in {workdir}; train it "
                f"by `{command}` or set --config.train_teacher=True"
            )
        print(f"training the teacher first: {command}", flush=True)
        train(theirs, workdir)
    return _frozen_teacher(settings, theirs, workdir, data)


def _frozen_teacher(settings: Settings, theirs: Settings, workdir: str, data: data_lib.Dataset):
    model = build_teacher(theirs, data)
    params, extra = _shapes(model, data)
    try:
        state, _ = read_state(workdir, {"params": params, "extra": extra}, best=True)
    except CheckpointError as error:
        raise TeacherError(f"config.teacher = {settings.teacher}: {error}") from error
    # A teacher sees the images as it was trained on them, whatever the student's std_scale is.
    mean, std = data_lib.moments(theirs.dataset, theirs.std_scale)
    blocks = [teachers.block_of_layer(settings.conv, layer) for layer in settings.signal_layers]
    if max(blocks) >= sum(spec.pool for spec in parse_conv(theirs.conv)):
        raise TeacherError(
            f"config.teacher = {settings.teacher}: a student layer of Υ = "
            f"{settings.signal_layers} ends in pool {max(blocks) + 1}, the teacher has fewer blocks"
        )

    def features(images: jax.Array) -> tuple[jax.Array, ...]:
        x = data_lib.normalise(images, mean, std)
        every = teachers.predict(model, state["params"], state["extra"], x)[1]
        return tuple(every[block] for block in blocks)

    images = jax.ShapeDtypeStruct((1, *data.image_shape), jnp.uint8)
    shapes = tuple(feature.shape[1:] for feature in jax.eval_shape(features, images))
    own = build_network(settings, data).state_shapes
    for layer, shape in zip(settings.signal_layers, shapes, strict=True):
        if settings.signal == "kd" and own[layer] != shape:
            raise TeacherError(
                f"config.teacher = {settings.teacher}: its block is {shape} where student layer "
                f"{layer} is {own[layer]}; kd compares equal shapes (kdw maps one to the other)"
            )
    return features, shapes
