"""The scalar primitive function and its dynamics, for any phi and any loss over any pytree.

Nothing here knows a network. An `Energy` is a pair of pure functions with the little that the
dynamics need beside them; `sweep` is one pass of the transition ξ <- σ(∂Φ_Aug/∂ξ).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Tree = Any
Activation = Callable[[jax.Array], jax.Array]


def hard_sigmoid(x: jax.Array) -> jax.Array:
    """σ(x) = clip(x, 0, 1)."""
    return jnp.clip(x, 0, 1)


def relu(x: jax.Array) -> jax.Array:
    """σ(x) = max(x, 0)."""
    return jnp.maximum(x, 0)


def _keep(params: Tree, x: Tree) -> tuple[Tree, Tree]:
    return params, x


@dataclasses.dataclass(frozen=True)
class Energy:
    """An energy-based model: E(ξ) = 1/2 ||ξ||^2 - Φ(x, ξ, w), and the loss that nudges it.

    Attributes:
        phi: Φ(params, x, states), one value per sample [batch] or their sum. Samples must not
            interact, and every leaf of `states` leads with the batch.
        loss: L(params, states, targets) -> one value per sample, [batch].
        init_states: (key, x) -> the states at the start of the free phase.
        activation: σ, for all states, or a tree of functions that is a prefix of the states' tree.
        prepare: (params, x) -> (params, x) for `phi` inside the loop: work that does not depend
            on the states, done once per batch. phi(*prepare(params, x), states) must equal
            phi(params, x, states).
        blocks: for alternating sweeps, the number of the block in which each leaf moves: a tree of
            ints that is a prefix of the states' tree. None: leaves take turns 0, 1, 0, 1, ... as
            the layers of a chain do.
    """

    phi: Callable[[Tree, Tree, Tree], jax.Array]
    loss: Callable[[Tree, Tree, Tree], jax.Array]
    init_states: Callable[[jax.Array, Tree], Tree]
    activation: Any = hard_sigmoid
    prepare: Callable[[Tree, Tree], tuple[Tree, Tree]] = _keep
    blocks: Any = None


def phi_aug(
    energy: Energy, params: Tree, x: Tree, states: Tree, targets: Tree, beta: jax.Array | float
) -> jax.Array:
    """Φ_Aug = Φ - β L_Total (eq. 10), summed over the batch: a scalar."""
    phi = jnp.sum(energy.phi(params, x, states))
    return phi - beta * jnp.sum(energy.loss(params, states, targets))


def free_value(energy: Energy, params: Tree, x: Tree) -> Callable[[Tree], jax.Array]:
    """ξ -> Φ(x, ξ, w), summed over the batch: what the free phase climbs."""
    return lambda states: jnp.sum(energy.phi(params, x, states))


def nudged_value(
    energy: Energy, params: Tree, x: Tree, targets: Tree, betas: jax.Array
) -> Callable[[Tree], jax.Array]:
    """ξ -> the sum of Φ_Aug over several nudged phases, which are run as one batch.

    Args:
        energy: the model.
        params: as `phi` takes them.
        x: the same input in every phase.
        targets: the same targets in every phase.
        betas: nudging factors, [phases].

    Returns:
        A function of states whose leaves are [phases, batch, ...].
    """

    def value(states: Tree) -> jax.Array:
        phases = jax.vmap(lambda s, beta: phi_aug(energy, params, x, s, targets, beta))
        return jnp.sum(phases(states, betas))

    return value


def per_leaf(prefix: Tree, states: Tree) -> list:
    """The leaf of `prefix` that stands over each leaf of `states`, in the order of the leaves."""
    full = jax.tree.map(lambda leaf, below: jax.tree.map(lambda _: leaf, below), prefix, states)
    return jax.tree.leaves(full)


def _moves(energy: Energy, states: Tree, order: str) -> list[list[int]]:
    """Indices of the leaves that move together, one list for each part of a sweep."""
    count = len(jax.tree.leaves(states))
    if order == "synchronous":
        return [list(range(count))]
    numbers = [i % 2 for i in range(count)]
    if energy.blocks is not None:
        numbers = per_leaf(energy.blocks, states)
    return [[i for i in range(count) if numbers[i] == block] for block in sorted(set(numbers))]


def sweep(
    energy: Energy, value: Callable[[Tree], jax.Array], order: str, relaxation: float = 1.0
) -> Callable[[Tree], Tree]:
    """One pass of the transition over all states: ξ <- σ(∂value/∂ξ).

    `synchronous` moves all leaves at once (the paper). `alternating` moves the blocks of the
    energy one after the other, each from the newest states: in a layered net each half of such a
    sweep is a majorise-minimise step of E, so with σ = clip(., 0, 1) the energy never rises.
    Over-relaxation, ξ <- σ(ξ + ω (∂value/∂ξ - ξ)) with 0 < ω < 2, has the same fixed points where
    σ is a projection (hard_sigmoid, relu).

    Args:
        energy: gives the activation and the blocks.
        value: Φ or Φ_Aug as a function of the states alone, a scalar.
        order: "synchronous" or "alternating".
        relaxation: ω.

    Returns:
        states -> states.
    """

    def run(states: Tree) -> Tree:
        leaves, tree = jax.tree.flatten(states)
        activations = per_leaf(energy.activation, states)
        for moving in _moves(energy, states, order):
            leaves = _move(value, activations, relaxation, leaves, tree, moving)
        return jax.tree.unflatten(tree, leaves)

    return run


def _move(value, activations, relaxation, leaves, tree, moving):
    """`leaves` with those of index in `moving` moved by one step of the transition."""

    def of_moving(some):
        merged = list(leaves)
        for index, leaf in zip(moving, some, strict=True):
            merged[index] = leaf
        return value(jax.tree.unflatten(tree, merged))

    arguments = jax.grad(of_moving)([leaves[index] for index in moving])
    moved = list(leaves)
    for index, argument in zip(moving, arguments, strict=True):
        if relaxation != 1.0:
            argument = leaves[index] + relaxation * (argument - leaves[index])
        moved[index] = activations[index](argument)
    return moved
