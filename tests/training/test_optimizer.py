"""Layer-wise SGD against PyTorch's rule written out by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxep.training.optimizer import layer_labels, layerwise_sgd

PARAMS = {
    "layers": ({"kernel": jnp.asarray([1.0])}, {"kernel": jnp.asarray([2.0])}),
    "readout": {"kernel": jnp.asarray([3.0])},
    "signals": {"1": {"kernel": jnp.asarray([4.0])}},
}
RATES = (0.1, 0.2, 0.3)


def test_signals_use_the_rate_of_the_layer_they_read():
    labels = layer_labels(PARAMS)
    assert [label["kernel"] for label in labels["layers"]] == [0, 1]
    assert labels["readout"]["kernel"] == 2
    assert labels["signals"]["1"]["kernel"] == 1


def test_updates_are_coupled_weight_decay_then_momentum_then_the_layers_rate():
    optimizer = layerwise_sgd(RATES, 100, schedule="cosine", momentum=0.9, weight_decay=0.01)
    state, params = optimizer.init(PARAMS), PARAMS
    rates = jax.tree.map(lambda i: RATES[i], layer_labels(PARAMS))
    expected = jax.tree.map(np.asarray, PARAMS)
    velocity = jax.tree.map(np.zeros_like, expected)
    for step in range(5):
        grads = jax.tree.map(lambda p: 0.5 * p + 1, params)
        updates, state = optimizer.update(grads, state, params)
        params = jax.tree.map(jnp.add, params, updates)
        anneal = 0.5 * (1 + np.cos(np.pi * step / 100))
        velocity = jax.tree.map(lambda v, p: 0.9 * v + (0.5 * p + 1 + 0.01 * p), velocity, expected)
        expected = jax.tree.map(lambda p, v, r, a=anneal: p - a * r * v, expected, velocity, rates)
    for got, want in zip(jax.tree.leaves(params), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5)


def test_constant_rates_stay():
    optimizer = layerwise_sgd(RATES, 2, schedule="constant", momentum=0.0, weight_decay=0.0)
    state = optimizer.init(PARAMS)
    ones = jax.tree.map(jnp.ones_like, PARAMS)
    for _ in range(5):
        updates, state = optimizer.update(ones, state, PARAMS)
    np.testing.assert_allclose(updates["readout"]["kernel"], [-0.3], rtol=1e-6)
