"""Updates that are not finite change nothing, and how an epoch is cut changes nothing."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxep.training import parallel
from jaxep.training.data import Split
from jaxep.training.loop import chunk_ends
from jaxep.training.steps import epoch_batches, gradient_at, init_state, train_chunk, train_step
from jaxep.training.tasks import Task

BATCH, STEPS = 4, 10
POISON = 9
IMAGES = np.arange(43, dtype=np.uint8).reshape(43, 1, 1, 1)


def update(params, extra, step, images, labels, key):
    """Least squares on noisy pixels; a batch with the label POISON has a gradient of NaN."""
    noise = jax.random.normal(key, (len(labels),))

    def loss_of(params):
        return jnp.mean((params["w"] * images[:, 0, 0, 0] / 255 + noise - 1) ** 2)

    loss, grads = jax.value_and_grad(loss_of)(params)
    poison = jnp.where(jnp.any(labels == POISON), jnp.nan, 1.0)
    grads = jax.tree.map(lambda g: g * poison, grads)
    return grads, {"seen": extra["seen"] + len(labels) * poison}, {"loss": loss}


TASK = Task(
    init=lambda key: ({"w": jnp.ones(())}, {"seen": jnp.zeros(())}),
    update=update,
    metrics=("loss",),
    evaluate=lambda *_: None,
    optimizer=optax.sgd(0.1, 0.9),
    rate=lambda step: 0.1,
    kappa=None,
    report=lambda *_: {},
    rows=("w",),
    mesh=parallel.mesh_for(1),
)
KEY = jax.random.key(1)


def data(*poisoned):
    labels = np.zeros(43, np.int32)
    labels[list(poisoned)] = POISON
    return Split(jnp.asarray(IMAGES), jnp.asarray(labels))


def epoch(split, ends=(STEPS,), tolerated=0.0):
    state = init_state(TASK, KEY)
    for end in ends:
        state = train_chunk(TASK, BATCH, state, split, end, KEY, tolerated)
    return state


def image_of_update(number):
    """Index of an image that update `number` (from 0) of the epoch sees."""
    images, _, _ = epoch_batches(BATCH, data(), KEY)(number)
    return int(images[0, 0, 0, 0])


@pytest.mark.parametrize("every", [0, 1, 3, 7, 100])
def test_cutting_an_epoch_changes_no_bit(every):
    ends = [end for end, _ in chunk_ends(0, STEPS, every)]
    assert ends[-1] == STEPS and ends == sorted(set(ends))
    whole, cut = epoch(data()), epoch(data(), ends)
    for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(cut), strict=True):
        np.testing.assert_array_equal(one, other)
    assert int(whole.step) == STEPS and float(whole.totals["loss"]) > 0


def test_checkpoints_fall_on_chunks_and_a_resumed_epoch_keeps_them():
    every = list(chunk_ends(0, 390, 100))
    assert [end for end, saved in every if saved] == [100, 200, 300]
    assert list(chunk_ends(150, 390, 100)) == [pair for pair in every if pair[0] > 150]
    assert list(chunk_ends(390, 390, 100)) == []
    assert list(chunk_ends(0, 3, 0)) == [(1, False), (2, False), (3, False)]


def test_a_chunk_stops_at_the_first_update_that_is_not_finite():
    split = data(image_of_update(6))
    stopped, before = epoch(split), epoch(split, (6,))
    assert int(stopped.step) == 7 and float(stopped.totals["skipped"]) == 1
    for name in ("params", "opt_state", "extra"):
        old, new = (jax.tree.leaves(getattr(s, name)) for s in (before, stopped))
        np.testing.assert_array_equal(np.array(old), np.array(new))
    grads, _ = gradient_at(TASK, BATCH, stopped, split, 6, KEY)
    assert math.isnan(grads["w"])
    assert math.isfinite(gradient_at(TASK, BATCH, stopped, split, 5, KEY)[0]["w"])


def test_a_dropped_update_is_as_if_it_had_not_been():
    """Against the same updates done one by one, without the two that are poisoned."""
    split = data(image_of_update(2), image_of_update(6))
    got = epoch(split, tolerated=math.inf)
    state = init_state(TASK, KEY)
    for number in (0, 1, 3, 4, 5, 7, 8, 9):
        images, labels, key = epoch_batches(BATCH, split, KEY)(number)
        state, _ = train_step(TASK, state, images, labels, key)
    assert int(got.step) == STEPS and float(got.totals["skipped"]) == 2
    assert float(got.extra["seen"]) == 8 * BATCH
    np.testing.assert_allclose(got.params["w"], state.params["w"], rtol=1e-6)
    np.testing.assert_allclose(got.totals["loss"], state.totals["loss"], rtol=1e-6)


def test_every_image_but_the_rest_is_seen_once():
    batch_at = epoch_batches(BATCH, data(), KEY)
    seen = [int(i) for step in range(STEPS) for i in batch_at(STEPS + step)[0].ravel()]
    assert len(set(seen)) == STEPS * BATCH
