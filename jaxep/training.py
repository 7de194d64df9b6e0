"""The training loop: a state, jitted chunks of an epoch, evaluation, and `fit`.

Data order and random keys are functions of the seed, the epoch and the step, so a resumed run
equals one that was never interrupted.
"""

import functools
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxep import data as data_lib
from jaxep import settings as settings_lib
from jaxep.checkpoints import Checkpoints
from jaxep.errors import DataError
from jaxep.reporting import Reporter, read_layers, read_metrics, write_summary
from jaxep.settings import Settings
from jaxep.tasks import Task, ep_task
from jaxep.teaching import load_teacher, teacher_task
from jaxep.workdir import open_run

# An epoch is cut in as many calls of the device, so that the progress bar moves.
CHUNKS = 20
# Images of the per-layer report of each epoch (Fig. 5).
REPORT_IMAGES = 100


@struct.dataclass
class TrainState:
    """All that changes in training.

    Attributes:
        params: parameters.
        opt_state: of the task's optimizer.
        extra: state without gradients: batch statistics of a teacher, else {}.
        step: updates done, an int32 scalar.
    """

    params: Any
    opt_state: Any
    extra: Any
    step: jax.Array


def init_state(task: Task, key: jax.Array) -> TrainState:
    """The state before the first update."""
    params, extra = task.init(key)
    return TrainState(params, task.optimizer.init(params), extra, jnp.zeros((), jnp.int32))


def train_step(task: Task, state: TrainState, images, labels, key, kappa):
    """One update from one batch: (state, metrics)."""
    grads, extra, metrics = task.update(state.params, state.extra, images, labels, key, kappa)
    updates, opt_state = task.optimizer.update(grads, state.opt_state, state.params)
    params = jax.tree.map(jnp.add, state.params, updates)
    return TrainState(params, opt_state, extra, state.step + 1), metrics


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=(2, 3))
def train_chunk(
    task: Task, batch_size: int, state: TrainState, totals, split, start, stop, key, kappa
):
    """Steps `start` to `stop` of the epoch whose key is `key`, with no word to the host.

    Args:
        task: what to train.
        batch_size: images per update; what is left over at the end of the epoch waits for another
            order of the data in the next.
        state: before.
        totals: sums of the metrics over the steps so far in this epoch.
        split: uint8 images [n, height, width, channels] and labels [n], on the device.
        start: first step, from 0, counted in this epoch.
        stop: one past the last.
        key: of the epoch.
        kappa: κ of the epoch.

    Returns:
        (state, totals).
    """
    order = jax.random.permutation(jax.random.fold_in(key, 0), split.labels.shape[0])

    def body(step, carry):
        state, totals = carry
        picked = jax.lax.dynamic_slice(order, (step * batch_size,), (batch_size,))
        step_key = jax.random.fold_in(key, step + 1)
        batch = split.images[picked], split.labels[picked]
        state, metrics = train_step(task, state, *batch, step_key, kappa)
        return state, jax.tree.map(jnp.add, totals, metrics)

    return jax.lax.fori_loop(start, stop, body, (state, totals))


@functools.partial(jax.jit, static_argnums=(0, 1))
def evaluate(task: Task, batch_size: int, params, extra, split, key):
    """(mean loss, accuracy) over a whole split; the last batch is filled up and masked."""
    count = split.labels.shape[0]
    batches = -(-count // batch_size)

    def body(index, totals):
        places = index * batch_size + jnp.arange(batch_size)
        picked = jnp.minimum(places, count - 1)
        batch = split.images[picked], split.labels[picked]
        loss, correct = task.evaluate(params, extra, *batch, jax.random.fold_in(key, index))
        valid = places < count
        return totals[0] + jnp.sum(loss * valid), totals[1] + jnp.sum(correct * valid)

    loss, correct = jax.lax.fori_loop(0, batches, body, (jnp.zeros(()), jnp.zeros(())))
    return loss / count, correct / count


@functools.partial(jax.jit, static_argnums=0)
def layer_report(task: Task, params, extra, images, labels, key, kappa):
    """Per-layer arrays of one batch by column name, [layers] each."""
    return task.report(params, extra, images, labels, key, kappa)


def metric_zeros(task: Task, batch_size: int, state: TrainState, split, key) -> Any:
    """Zeros in the shape of the metrics of `task`, found without computing."""
    images, labels = split.images[:batch_size], split.labels[:batch_size]
    shapes = jax.eval_shape(
        functools.partial(train_step, task), state, images, labels, key, jnp.zeros(())
    )
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes[1])


def run_epoch(task: Task, batch_size: int, state: TrainState, split, key, kappa, progress):
    """One epoch in `CHUNKS` calls: (state, means of the metrics as floats)."""
    steps = split.labels.shape[0] // batch_size
    totals = metric_zeros(task, batch_size, state, split, key)
    for bounds in np.array_split(np.arange(steps), min(CHUNKS, steps)):
        start, stop = int(bounds[0]), int(bounds[-1]) + 1
        state, totals = train_chunk(task, batch_size, state, totals, split, start, stop, key, kappa)
        # Waiting keeps the bar honest and the queue short; chunks are long enough to hide it.
        jax.block_until_ready(state.step)
        progress(stop, steps)
    return state, {name: float(total) / steps for name, total in totals.items()}


def make_task(settings: Settings, data: data_lib.Dataset) -> Task:
    """The task that the settings name; loads the teacher that it needs, or trains it first."""
    steps = len(data.train.labels) // settings.batch_size * settings.epochs
    if settings.task == "teacher":
        return teacher_task(settings, data, steps)
    if settings.signal in ("kd", "kdw"):
        return ep_task(settings, data, steps, *load_teacher(settings, data, train=fit))
    return ep_task(settings, data, steps)


def fit(settings: Settings, workdir: str | Path) -> dict[str, Any]:
    """Trains what the settings say, or goes on where `workdir` stopped (SPEC 8).

    Returns:
        What summary.json holds.

    Raises:
        UserError: bad data, a missing teacher, another run's work directory.
    """
    data = load_data(settings)
    task = make_task(settings, data)
    open_run(workdir, settings_lib.to_dict(settings))
    key = jax.random.key(settings.seed)
    state = init_state(task, jax.random.fold_in(key, 0))
    with Checkpoints(workdir, keep=settings.keep_checkpoints) as checkpoints:
        first = 0
        if checkpoints.latest_step() is not None:
            state, metadata = checkpoints.restore(state)
            first = metadata["step"]
        with Reporter(workdir, total_epochs=settings.epochs, start_epoch=first + 1) as reporter:
            for epoch in range(first, settings.epochs):
                state, row, layers = _epoch(settings, task, data, state, key, epoch, reporter)
                checkpoints.save(epoch + 1, state, {"test_acc": row["test_acc"]})
                reporter.epoch(row, layers)
    return _conclude(Path(workdir), state)


def _conclude(workdir: Path, state: TrainState) -> dict[str, Any]:
    """Draws the run and writes its summary."""
    # Matplotlib takes a second to import, and a run that fails early needs none of it.
    from jaxep import plots

    plots.curves(read_metrics(workdir / "metrics.csv"), workdir / "curves.png")
    plots.layers(read_layers(workdir / "layers.csv"), workdir / "layers.png")
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    return write_summary(workdir, parameters=parameters)


def load_data(settings: Settings) -> data_lib.Dataset:
    """The data of the settings, on the device.

    Raises:
        DataError: missing or bad data, or fewer images than one batch.
    """
    data = data_lib.load(
        settings.dataset,
        data_dir=settings.data_dir,
        train_size=settings.train_size,
        test_size=settings.test_size,
        split=settings.split,
        std_scale=settings.std_scale,
    )
    if len(data.train.labels) < settings.batch_size:
        raise DataError(
            f"config.batch_size = {settings.batch_size}: at most {len(data.train.labels)}, "
            f"the number of training images"
        )
    return data._replace(
        train=jax.tree.map(jnp.asarray, data.train), test=jax.tree.map(jnp.asarray, data.test)
    )


def _epoch(settings, task, data, state, key, epoch, reporter):
    """One epoch with its evaluation: (state, row of metrics.csv, rows of layers.csv)."""
    began = time.perf_counter()
    epoch_key = jax.random.fold_in(key, epoch + 1)
    kappa = jnp.asarray(task.kappa(epoch) if task.kappa else 0.0, jnp.float32)
    rate = float(task.rate(state.step))
    state, means = run_epoch(
        task, settings.batch_size, state, data.train, epoch_key, kappa, reporter.progress
    )
    # The key of the evaluation is one for the whole run: test numbers differ by the weights alone.
    test_key = jax.random.fold_in(key, 0)
    test_loss, test_acc = evaluate(
        task, settings.eval_batch_size, state.params, state.extra, data.test, test_key
    )
    count = min(REPORT_IMAGES, len(data.test.labels))
    images, labels = data.test.images[:count], data.test.labels[:count]
    columns = layer_report(task, state.params, state.extra, images, labels, test_key, kappa)
    row = {
        "epoch": epoch + 1,
        "train_loss": means.pop("loss"),
        "train_acc": means.pop("accuracy"),
        "test_loss": float(test_loss),
        "test_acc": float(test_acc),
        "kappa": float(kappa) if task.kappa else None,
        "lr": rate,
        **means,
        "seconds": time.perf_counter() - began,
    }
    layers = [
        {"layer": name, **{k: float(v[i]) for k, v in columns.items()}}
        for i, name in enumerate(task.layer_names)
    ]
    return state, row, layers
