"""Binary weights: BOP by hand, the derivative of α, and kernels that stay ±α in training."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxep.training.binary import binarise, bop, kernels, of_kernels
from jaxep.training.loop import make_task
from jaxep.training.optimizer import update_rule
from jaxep.training.steps import init_state, train_chunk
from tests.training.test_systems import DATA, PLAIN


def test_flips_follow_the_rule_by_hand():
    """γ 1/2, τ 1: means 0.5, 1.25, 1.625, ... of gradients 1, 2, 2; only along the weight."""
    rule = bop(threshold=1.0, rate=0.5)
    weights = {"kernel": jnp.asarray([0.25, -0.25, 0.25])}
    state = rule.init(weights)
    steps = [
        ([1.0, 1.0, -4.0], [0.5, 0.5, -2.0], [0.25, -0.25, 0.25]),
        ([2.0, 2.0, 8.0], [1.25, 1.25, 3.0], [-0.25, -0.25, -0.25]),
        ([2.0, -6.0, -8.0], [1.625, -2.375, -2.5], [-0.25, 0.25, 0.25]),
    ]
    for grads, means, expected in steps:
        updates, state = rule.update({"kernel": jnp.asarray(grads)}, state, weights)
        weights = optax.apply_updates(weights, updates)
        np.testing.assert_array_equal(state.mean["kernel"], means)
        np.testing.assert_array_equal(weights["kernel"], expected)


def test_the_scale_follows_the_derivative_of_the_loss_in_it():
    with jax.enable_x64(True):
        sign = jnp.sign(jax.random.normal(jax.random.key(0), (5, 4), jnp.float64))

        def loss(kernel):
            return jnp.sum(jnp.sin(kernel) * jnp.arange(20.0).reshape(5, 4))

        slope = float(loss(0.3001 * sign) - loss(0.2999 * sign)) / 0.0002
        kernel = 0.3 * sign
        rule = bop(threshold=1e9, rate=0.5, scale_rate=1e-3)
        updates, _ = rule.update(jax.grad(loss)(kernel), rule.init(kernel), kernel)
        expected = 0.3 - 1e-3 * slope
        np.testing.assert_allclose(jnp.abs(kernel + updates), expected, rtol=1e-7)
        steep = bop(threshold=1e9, rate=0.5, scale_rate=1e9)
        updates, _ = steep.update(sign, steep.init(kernel), kernel)
        np.testing.assert_allclose(jnp.abs(kernel + updates), 1e-6)


def test_weights_start_at_the_mean_of_their_size_and_the_rest_stays():
    params = {"fc1": {"kernel": jnp.asarray([[1.0, -2.0], [0.5, -2.5]]), "bias": jnp.ones(2)}}
    assert kernels(params) == {"fc1": {"kernel": "kernel", "bias": "rest"}}
    found = binarise(params)["fc1"]
    np.testing.assert_array_equal(found["kernel"], [[1.5, -1.5], [1.5, -1.5]])
    np.testing.assert_array_equal(found["bias"], params["fc1"]["bias"])
    with pytest.raises(ValueError, match="needs the parameters"):
        bop(1.0, 0.5).update(params, bop(1.0, 0.5).init(params))


def test_biases_move_as_sgd_moves_them():
    params = {"kernel": jnp.asarray([0.5, -0.5]), "bias": jnp.asarray([1.0, 2.0])}
    grads = {"kernel": jnp.asarray([1.0, 1.0]), "bias": jnp.asarray([3.0, 4.0])}
    rule = of_kernels(bop(1e9, 0.5), update_rule("sgd", 0.0, False, 0.1))(0.2)
    updates, _ = rule.update(grads, rule.init(params), params)
    np.testing.assert_allclose(updates["bias"], -0.2 * (grads["bias"] + 0.1 * params["bias"]))
    np.testing.assert_array_equal(updates["kernel"], 0)


def test_all_kernels_are_binary_before_during_and_after_training():
    binary = {"optimizer": "bop", "flip_threshold": 1e-4, "flip_rate": 0.1, "scale_rate": 1e-4}
    task = make_task(dataclasses.replace(PLAIN, **binary), DATA)
    state = init_state(task, jax.random.key(0))
    start = jax.device_get(state.params)
    for stop in (1, 5):
        state = train_chunk(task, 12, state, DATA.train, stop, jax.random.key(0), 0.0)
        leaves = jax.tree.leaves_with_path(state.params)
        own = [leaf for path, leaf in leaves if path[-1].key == "kernel"]
        assert len(own) == 3
        for leaf in own:
            np.testing.assert_allclose(jnp.abs(leaf), jnp.max(jnp.abs(leaf)), rtol=1e-6)
    moved = jax.tree.map(lambda a, b: bool(np.any(np.sign(a) != np.sign(b))), start, state.params)
    assert moved["edges"]["fc1"]["kernel"] and moved["heads"]["readout"]["kernel"]
