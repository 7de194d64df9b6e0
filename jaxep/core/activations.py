"""σ: the neurons' activation functions, and what the dynamics need to know of one."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Tree = Any
Activation = Callable[[jax.Array], jax.Array]


def hard_sigmoid(x: jax.Array) -> jax.Array:
    """σ(x) = clip(x, 0, 1)."""
    return jnp.clip(x, 0, 1)


def relu(x: jax.Array) -> jax.Array:
    """σ(x) = max(x, 0)."""
    return jnp.maximum(x, 0)


def relu6(x: jax.Array) -> jax.Array:
    """σ(x) = clip(x, 0, 6)."""
    return jnp.clip(x, 0, 6)


def hard_tanh(x: jax.Array) -> jax.Array:
    """σ(x) = clip(x, -1, 1)."""
    return jnp.clip(x, -1, 1)


def linear(x: jax.Array) -> jax.Array:
    """σ(x) = x."""
    return x


def shifted_sigmoid(x: jax.Array) -> jax.Array:
    """σ(x) = 1 / (1 + exp(2 - 4x)), a smooth `hard_sigmoid` (Laborieux & Zenke 2022, MLPs)."""
    return jax.nn.sigmoid(4 * x - 2)


def soft_clip(x: jax.Array) -> jax.Array:
    """σ(x) = (silu(x) - silu(x - 2)) / 2, a smooth clip(x / 2, 0, 1).

    The σ of the convolutional nets of Laborieux & Zenke 2022, as their public code has it. Its
    slope is 0.43 at most, and its poles are at imaginary parts of ±π.
    """
    return (jax.nn.silu(x) - jax.nn.silu(x - 2)) / 2


@dataclasses.dataclass(frozen=True)
class ContextualActivation:
    """A σ that needs more than its argument.

    Attributes:
        function: (argument, params, x, states) -> the new leaf. `argument` is ∂Φ_Aug/∂ξ of the
            leaf, [batch, ...]; `params` and `x` are as Φ gets them in the loop (see
            `FastPhi.prepare`); `states` are the newest ones, a tree of [batch, ...].
        takes_cache: the function takes one argument more, what Φ keeps of each leaf of these
            states, or None for each: the cache of `FastPhi.phi_and_cache`.
    """

    function: Callable[..., jax.Array]
    takes_cache: bool = False


@dataclasses.dataclass(frozen=True)
class Projection:
    """A σ that projects the states as a whole on a set, which no trial of numbers could tell.

    A relaxed sweep is then the projected gradient step ξ <- σ(ξ + ω (∂Φ_Aug/∂ξ - ξ)).

    Attributes:
        function: [batch, ...] -> the nearest states in the set, a layer norm for example.
    """

    function: Activation

    def __call__(self, x: jax.Array) -> jax.Array:
        """`function` of x."""
        return self.function(x)


@functools.lru_cache(256)
def _tried(sigma: Any) -> tuple[np.ndarray, np.ndarray] | None:
    """σ(v) and σ(σ(v)) for numbers v that rise; None where σ does not act on each by itself.

    It is tried when a sweep is traced, so that a σ of the user's own is known too.
    """
    grid = np.sort(np.concatenate([np.linspace(-20, 20, 401), np.linspace(-1.5, 1.5, 301)]))
    try:
        with jax.ensure_compile_time_eval():
            once = np.asarray(sigma(jnp.asarray(grid, jnp.float32)))
            twice = np.asarray(sigma(jnp.asarray(once)))
            half = np.asarray(sigma(jnp.asarray(grid[::2], jnp.float32)))
    except Exception:  # whatever a σ of one shape of states alone raises, or one that sees more
        return None
    alone = once.shape == twice.shape == grid.shape and np.array_equal(once[::2], half)
    return (once, twice) if alone else None


def is_rising(sigma: Any) -> bool:
    """Whether σ acts on each number by itself and never falls: no slope is negative."""
    tried = _tried(sigma)
    return tried is not None and bool(np.all(np.diff(tried[0]) >= 0))


def is_projection(sigma: Any) -> bool:
    """Whether σ projects on an interval, as clip and relu do (it rises, and σ(σ(v)) = σ(v)), or is
    told to be a `Projection`.
    """
    if isinstance(sigma, Projection):
        return True
    tried = _tried(sigma)
    return tried is not None and is_rising(sigma) and np.array_equal(*tried)
