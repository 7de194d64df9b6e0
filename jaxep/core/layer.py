"""EP as a layer: a block of neurons at its equilibrium, inside a net that backpropagates.

Forward, the states are the free equilibrium ξ*(w, x). Backward, with the cotangent g = ∂L/∂ξ* that
arrives from above, the phases are nudged by the loss <g, ξ>, and

    ∂L/∂(w, x) ≈ -(1/β) Σ_m c_m ∂Φ/∂(w, x)(ξ^{p_m β})

chains EP with backpropagation (Nest & Ernoult 2024, "ff-EBM", arXiv 2409.03306). With `Implicit` in
the place of EP the same layer has its exact derivative.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxep.core import checks
from jaxep.core.energy import Energy, begin, is_one_key, phi_per_sample
from jaxep.core.estimators import EP
from jaxep.core.implicit import Implicit, inner_transition
from jaxep.core.objective import Tree, free_objective
from jaxep.core.solvers import Solution, as_solver


def layer(energy: Energy, ep: EP | Implicit) -> Callable[..., Tree]:
    """The free equilibrium as a function of parameters and input, which EP differentiates.

    By EP the cotangent of each sample is scaled to norm 1 for the nudged phases, and their contrast
    is scaled back: `ep.beta` is the norm of the force on a sample, however small the cotangent is,
    and it is of a mean over the batch. As it stands it would move the states by less than float32
    tells apart, and by less than the tolerance of a solver that has one.

    Args:
        energy: the block, with one value of Φ for each sample. Its `loss` is not used.
        ep: the solver of the free phase, forward; β, stencil and solver of the nudged ones. Or an
            `Implicit`, to compare with.

    Returns:
        (params, x, key=None) -> states, for `jax.grad` in `params` and `x`, summed over the batch
        as any derivative is. `key` is one random key, or one for each sample, where the initial
        states or the sign of β are random.

    Raises:
        ValueError: one of the two is none; where it is traced: Φ is a sum over the batch, or a
            random sign has no key.
    """
    settle = settling(energy, ep)
    return lambda params, x, key=None: settle(params, x, key).states


def settling(energy: Energy, ep: EP | Implicit) -> Callable[..., Solution]:
    """As `layer`, with steps and residual of the free phase, which have no derivative."""
    if not isinstance(energy, Energy):
        raise ValueError(f"layer: energy = {energy!r}: must be an Energy")
    if not isinstance(ep, EP | Implicit):
        raise ValueError(f"layer: ep = {ep!r}: must be an EP or an Implicit")
    nudging = dataclasses.replace(energy, loss=_inner)

    @jax.custom_vjp
    def settled(params: Tree, x: Tree, key: jax.Array | None) -> Solution:
        states = begin(nudging, params, x, _keys(key)[0], None)
        return as_solver(ep.free).run(free_objective(nudging, params, x), states)

    def forward(params: Tree, x: Tree, key: jax.Array | None):
        free = settled(params, x, key)
        return free, (params, x, key, free.states)

    def backward(kept: tuple, cotangent: Solution):
        params, x, key, free = kept
        value_of = _scalar(ep, nudging, params, x, key, free, cotangent.states)
        # Not `jax.grad`: inputs may be integers.
        value, pull = jax.vjp(value_of, params, x)
        return *pull(jnp.ones_like(value)), None

    def apply(params: Tree, x: Tree, key: jax.Array | None = None) -> Solution:
        if isinstance(ep, EP) and ep.stencil.random_sign and key is None:
            raise ValueError("layer: a stencil of random sign needs a random key, is given None")
        return settled(params, x, key)

    settled.defvjp(forward, backward)
    return apply


@functools.singledispatch
def _scalar(
    ep: Any, energy: Energy, params: Tree, x: Tree, key: Tree, free: Tree, cotangent: Tree
) -> Callable[[Tree, Tree], jax.Array]:
    """The function of (params, x) whose gradient is the pullback of the cotangent at `free`."""
    force, norms = _unit(cotangent)
    beta = ep.stencil.scale(ep.beta, _keys(key)[1])
    nudged = ep.nudged(free_objective(energy, params, x), free, force, beta)
    points = ep.stencil.all_points(free, nudged.states)

    def contrast(params: Tree, x: Tree) -> jax.Array:
        values = jax.vmap(lambda states: phi_per_sample(energy, params, x, states))(points)
        total = ep.stencil.weighted(values)
        return -jnp.sum(total * norms.astype(total.dtype)) / beta

    return contrast


@_scalar.register
def _(ep: Implicit, energy, params, x, key, free, cotangent):
    adjoint, _ = ep.adjoint(free_objective(energy, params, x), cotangent, free)
    return lambda params, x: inner_transition(free_objective(energy, params, x), free, adjoint)


def _keys(key: jax.Array | None) -> tuple:
    """(of the initial states, of the sign)."""
    if key is None:
        return None, None
    return tuple(jax.random.split(key)) if is_one_key(key) else (key, jax.random.fold_in(key[0], 0))


def _inner(params: Tree, states: Tree, force: Tree) -> jax.Array:
    """<force, states> of each sample, [batch]: the loss of the nudged phases."""
    del params
    return jnp.sum(_rows(jax.tree.map(jnp.multiply, force, states)), axis=1)


def _unit(cotangent: Tree) -> tuple[Tree, jax.Array]:
    """(the cotangent with norm 1 of each sample, 0 where it is 0; the norms before, [batch])."""
    rows = _rows(cotangent)
    # By the largest first: the squares of small numbers are 0.
    largest = jnp.max(jnp.abs(rows), axis=1)
    norms = largest * jnp.linalg.norm(rows / jnp.where(largest > 0, largest, 1)[:, None], axis=1)
    by = jnp.where(norms > 0, norms, 1)

    def scaled(g: jax.Array) -> jax.Array:
        return (g.astype(by.dtype) / by.reshape(-1, *(1,) * (g.ndim - 1))).astype(g.dtype)

    return jax.tree.map(scaled, cotangent), norms


def _rows(tree: Tree) -> jax.Array:
    """All leaves of each sample in a row, [batch, units], in float32 at least."""
    batch = checks.batch_size(tree)
    wide = [leaf.astype(jnp.result_type(leaf, jnp.float32)) for leaf in jax.tree.leaves(tree)]
    return jnp.concatenate([leaf.reshape(batch, -1) for leaf in wide], axis=1)
