"""Binary weights: each kernel is α sign(w), and signs flip where the gradient insists.

    m <- (1 - γ) m + γ ∂L/∂w;   w <- -w where sign(w) m > τ;   α <- α - η <∂L/∂w, sign(w)>

BOP (Helwegen et al. 2019, arXiv 1906.02107) with learned scales, for equilibrium propagation by
Laydevant et al. 2021 (arXiv 2103.08953; code jlaydevant/Binary-Equilibrium-Propagation): all
kernels are binary, those of the output too, α starts as the mean of |w| (XNOR-Net), biases are real
and learn by SGD. Their code steps α along α/2 times the derivative; here it is the derivative.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

Tree = Any
KERNEL, REST = "kernel", "rest"
# α stays over 0, or the signs would be lost.
LEAST = 1e-6


class BopState(NamedTuple):
    """The running mean m of the gradient of each kernel."""

    mean: Tree


def bop(threshold: float, rate: float, scale_rate: float = 0.0) -> optax.GradientTransformation:
    """The update of kernels that are ±α already, see `binarise`; each leaf has an α of its own.

    A gradient that insists is not forgotten by a flip: m goes on, as in the sources.

    Args:
        threshold: τ, of the mean gradient of a weight.
        rate: γ of the running mean, in (0, 1].
        scale_rate: η of α; 0: it stays.
    """

    def init(params: Tree) -> BopState:
        return BopState(jax.tree.map(jnp.zeros_like, params))

    def update(grads: Tree, state: BopState, params: Tree = None):
        if params is None:
            raise ValueError("bop: needs the parameters: update(grads, state, params)")
        mean = jax.tree.map(lambda m, g: (1 - rate) * m + rate * g, state.mean, grads)

        def change(kernel: jax.Array, mean: jax.Array, grad: jax.Array) -> jax.Array:
            sign = jnp.sign(kernel)
            scale = jnp.max(jnp.abs(kernel)) - scale_rate * jnp.sum(grad * sign)
            flipped = jnp.where(sign * mean > threshold, -sign, sign)
            return flipped * jnp.maximum(scale, LEAST) - kernel

        return jax.tree.map(change, params, mean, grads), BopState(mean)

    return optax.GradientTransformation(init, update)


def of_kernels(transform: optax.GradientTransformation, others: Callable) -> Callable:
    """The function rate -> optimizer that moves kernels by `transform`, the rest by `others(rate)`.

    Args:
        transform: as `bop` gives it.
        others: rate -> optimizer, as of `optimizer.update_rule`.
    """
    return lambda rate: optax.partition({KERNEL: transform, REST: others(rate)}, kernels)


def binarise(params: Tree) -> Tree:
    """Each kernel as ±α with α the mean of its |w|; a weight of 0 counts as positive."""

    def binary(label: str, leaf: jax.Array) -> jax.Array:
        if label == REST:
            return leaf
        return jnp.where(leaf < 0, -1, 1).astype(leaf.dtype) * _mean_size(leaf)

    return jax.tree.map(binary, kernels(params), params)


def _mean_size(kernel: jax.Array) -> jax.Array:
    """Of the weights that are there: those of a `Sparse` coupling that are not are 0."""
    return jnp.sum(jnp.abs(kernel)) / jnp.maximum(jnp.count_nonzero(kernel), 1)


def kernels(params: Tree) -> Tree:
    """KERNEL for each leaf of that name and REST for the others, as `optax.partition` wants."""

    def label(path: tuple, leaf: Any) -> str:
        return KERNEL if path and getattr(path[-1], "key", None) == "kernel" else REST

    return jax.tree.map_with_path(label, params)
