"""What runs on the device: a state, one update, chunks of an epoch, evaluation.

Data order and random keys are functions of the seed, the epoch and the step, and a state holds all
else, so a run that goes on from a saved state equals one that was never interrupted.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from jaxep.run import health
from jaxep.training import optimizer
from jaxep.training.tasks import Task


@struct.dataclass
class TrainState:
    """All that changes in training.

    Attributes:
        params: parameters.
        opt_state: of the task's optimizer.
        extra: state without gradients: batch statistics of a teacher, else {}.
        step: updates done, dropped ones included, an int32 scalar.
        totals: sums of the metrics over the updates of this epoch so far, and their number that
            was dropped ("skipped"): scalars by name.
    """

    params: Any
    opt_state: Any
    extra: Any
    step: jax.Array
    totals: dict[str, jax.Array]


def init_state(task: Task, key: jax.Array) -> TrainState:
    """The state before the first update."""
    params, extra = task.init(key)
    step = jnp.zeros((), jnp.int32)
    return TrainState(params, task.optimizer.init(params), extra, step, zero_totals(task))


def zero_totals(task: Task) -> dict[str, jax.Array]:
    """The sums at the start of an epoch; no two share a buffer, for all are donated."""
    # float32 with and without JAX_ENABLE_X64: a run may go on under the other.
    return {name: jnp.zeros((), jnp.float32) for name in (*task.metrics, "skipped")}


def train_step(task: Task, state: TrainState, images, labels, key):
    """One update from one batch: (state, metrics).

    An update that is not finite is dropped: of the state only the step and the number of dropped
    updates change.
    """
    grads, extra, metrics = task.update(state.params, state.extra, state.step, images, labels, key)
    params, opt_state = optimizer.apply(task.optimizer, grads, state.opt_state, state.params)
    finite = health.is_finite((params, extra), metrics)
    old, new = (state.params, state.opt_state, state.extra), (params, opt_state, extra)
    params, opt_state, extra = jax.tree.map(functools.partial(jnp.where, finite), new, old)
    added = {name: jnp.where(finite, value, 0) for name, value in metrics.items()}
    added["skipped"] = 1 - finite.astype(jnp.float32)
    totals = {name: t + added[name].astype(t.dtype) for name, t in state.totals.items()}
    return TrainState(params, opt_state, extra, state.step + 1, totals), metrics


def epoch_batches(batch_size: int, split, key):
    """The function step -> (images, labels, key) of the epoch whose key is `key`.

    What is left over of the data at the end of an epoch waits for another order in the next.
    """
    count = split.labels.shape[0]
    order = jax.random.permutation(jax.random.fold_in(key, 0), count)

    def batch_at(step):
        place = step % (count // batch_size)
        picked = jax.lax.dynamic_slice(order, (place * batch_size,), (batch_size,))
        return split.images[picked], split.labels[picked], jax.random.fold_in(key, place + 1)

    return batch_at


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
def train_chunk(
    task: Task, batch_size: int, state: TrainState, split, stop, key, tolerated
) -> TrainState:
    """Updates until `stop` of the run, with no word to the host.

    Args:
        task: what to train.
        batch_size: images per update.
        state: before.
        split: images [n, height, width, channels] and labels [n], on the device.
        stop: updates of the run to reach, within this epoch.
        key: of the epoch.
        tolerated: dropped updates of this epoch that do not end the chunk.
    """
    batch_at = epoch_batches(batch_size, split, key)

    def unfinished(state):
        return (state.step < stop) & (state.totals["skipped"] <= tolerated)

    def body(state):
        images, labels, step_key = batch_at(state.step)
        return train_step(task, state, images, labels, step_key)[0]

    return jax.lax.while_loop(unfinished, body, state)


@functools.partial(jax.jit, static_argnums=(0, 1))
def gradient_at(task: Task, batch_size: int, state: TrainState, split, step, key):
    """(gradients, metrics) of update `step` at `state`: to see why one was dropped."""
    images, labels, step_key = epoch_batches(batch_size, split, key)(step)
    grads, _, metrics = task.update(state.params, state.extra, step, images, labels, step_key)
    return grads, metrics


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
        found = jnp.where(valid, loss, 0), valid & correct
        return tuple(t + jnp.sum(f, dtype=t.dtype) for t, f in zip(totals, found, strict=True))

    loss, correct = jax.lax.fori_loop(0, batches, body, (jnp.zeros(()), jnp.zeros(())))
    return loss / count, correct / count


@functools.partial(jax.jit, static_argnums=0)
def layer_report(task: Task, params, extra, step, images, labels, key):
    """{row: {column: scalar}} of one batch."""
    return task.report(params, extra, step, images, labels, key)
