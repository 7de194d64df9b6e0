"""Kernels and biases: how they start, and how a bias is added."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxep.core.holomorphic import complex_type

Params = dict[str, jax.Array]
Shape = tuple[int, ...]
# A number for all weights, or one by the name of each and "default" for the others.
Gain = float | Mapping[str, float]


def gain_of(gain: Gain, name: str) -> float:
    """The gain of a weight by name; 1 where neither it nor a default is there."""
    return gain.get(name, gain.get("default", 1.0)) if isinstance(gain, Mapping) else gain


def uniform_init(key: jax.Array, shape: Shape, fan_in: int, gain: float, dtype) -> jax.Array:
    """U(-gain/sqrt(fan_in), gain/sqrt(fan_in)): PyTorch's Kaiming-uniform default at gain 1."""
    bound = gain / math.sqrt(fan_in)
    return jax.random.uniform(key, shape, dtype, -bound, bound)


def with_bias(output: jax.Array, bias: jax.Array) -> jax.Array:
    """output + bias of the last axis; also where JAX is told to promote no ranks."""
    if jnp.iscomplexobj(output):
        bias = bias.astype(output.dtype)
    return output + jnp.broadcast_to(bias, output.shape)


def typed_as(operators: Any, states: jax.Array) -> jax.Array:
    """States in the type of the operators: with states in bfloat16 gradients stay float32.

    Complex states stay complex, of the width of the operators.
    """
    leaves = jax.tree.leaves(operators)
    if not leaves:
        return states
    dtype = leaves[0].dtype
    return states.astype(complex_type(dtype) if jnp.iscomplexobj(states) else dtype)


def initial_weights(
    key: jax.Array, shape: Shape, fan_in: int, use_bias: bool, gain: float, dtype
) -> Params:
    """Kernel of `shape`, and bias [last axis] where there is one."""
    if not use_bias:
        return {"kernel": uniform_init(key, shape, fan_in, gain, dtype)}
    kernel_key, bias_key = jax.random.split(key)
    return {
        "kernel": uniform_init(kernel_key, shape, fan_in, gain, dtype),
        "bias": uniform_init(bias_key, shape[-1:], fan_in, gain, dtype),
    }
