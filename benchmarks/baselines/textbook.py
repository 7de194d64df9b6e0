"""Φ in naive JAX: the backend's convolution and pooling with JAX's own derivatives.

What a user would write first. step_time compares with it, and tests/nets/test_couplings.py tests
the fast couplings and all their derivatives against it.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxep.nets.couplings import Conv, Coupling, Identity
from jaxep.nets.graph import Network


def drive(coupling: Coupling, params: dict[str, jax.Array], lower: jax.Array) -> jax.Array:
    """P(w * lower + b), W flat(lower) + b, or lower."""
    if isinstance(coupling, Identity):
        return lower
    if not isinstance(coupling, Conv):
        return lower.reshape(lower.shape[0], -1) @ params["kernel"] + params.get("bias", 0)
    output = lax.conv_general_dilated(
        lower,
        params["kernel"],
        window_strides=(coupling.stride, coupling.stride),
        padding=[(coupling.padding, coupling.padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    output = output + params.get("bias", 0)
    return POOLS[coupling.pool](output) if coupling.pool else output


def max_pool(x: jax.Array) -> jax.Array:
    """2x2 max pool with stride 2; an odd last row or column is cut."""
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def average_pool(x: jax.Array) -> jax.Array:
    """2x2 average pool with stride 2; an odd last row or column is cut."""
    return lax.reduce_window(x, 0.0, lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID") / 4


POOLS = {"max": max_pool, "average": average_pool}


def phi(
    network: Network, params: dict[str, Any], x: jax.Array, states: dict[str, jax.Array]
) -> jax.Array:
    """Φ(x, ξ, w), eq. 1, one value per sample, [batch], of a network with one input."""
    total: Any = 0.0
    lowers = {network.inputs[0].name: x, **states}
    for edge in network.edges:
        own = params["edges"].get(edge.name, {})
        product = states[edge.upper] * drive(edge.coupling, own, lowers[edge.lower])
        total = total + product.reshape(product.shape[0], -1).sum(-1)
    return total
