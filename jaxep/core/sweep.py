"""The scalar primitive function and its dynamics, for any phi and any loss over any pytree.

Nothing here knows a network. An `Energy` is a pair of pure functions with the little that the
dynamics need beside them; `Sweep` is one pass of the transition ξ <- σ(∂Φ_Aug/∂ξ).
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

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
        recall: (params, x, states, memory) -> (Φ, memory), for a Φ whose derivative in a leaf
            needs something of that leaf that is worth keeping while it does not move. `memory` is
            a list with an entry for each leaf: what an earlier call returned for it, or None. Φ
            and its derivatives must equal those of `phi`. None: nothing is kept.
    """

    phi: Callable[[Tree, Tree, Tree], jax.Array]
    loss: Callable[[Tree, Tree, Tree], jax.Array]
    init_states: Callable[[jax.Array, Tree], Tree]
    activation: Any = hard_sigmoid
    prepare: Callable[[Tree, Tree], tuple[Tree, Tree]] = _keep
    blocks: Any = None
    recall: Callable[[Tree, Tree, Tree, list], tuple[jax.Array, list]] | None = None


@dataclasses.dataclass(frozen=True)
class Value:
    """Φ or Φ_Aug as a function of the states alone, summed over the batch: a scalar.

    Attributes:
        recall: (states, memory) -> (value, memory), see `Energy.recall`.
    """

    recall: Callable[[Tree, list], tuple[jax.Array, list]]

    def __call__(self, states: Tree) -> jax.Array:
        return self.recall(states, _nothing(states))[0]


class Position(NamedTuple):
    """Where a solver stands: the states, and what Φ remembers of each of their leaves."""

    states: Tree
    memory: list


def _nothing(states: Tree) -> list:
    return [None] * len(jax.tree.leaves(states))


def phi_aug(
    energy: Energy, params: Tree, x: Tree, states: Tree, targets: Tree, beta: jax.Array | float
) -> jax.Array:
    """Φ_Aug = Φ - β L_Total (eq. 10), summed over the batch: a scalar."""
    return _phi_aug(energy, params, x, targets, states, _nothing(states), beta)[0]


def _phi(energy: Energy, params: Tree, x: Tree, states: Tree, memory: list):
    if energy.recall is None:
        return jnp.sum(energy.phi(params, x, states)), memory
    phi, memory = energy.recall(params, x, states, memory)
    return jnp.sum(phi), memory


def _phi_aug(energy: Energy, params: Tree, x: Tree, targets: Tree, states: Tree, memory, beta):
    phi, memory = _phi(energy, params, x, states, memory)
    return phi - beta * jnp.sum(energy.loss(params, states, targets)), memory


def free_value(energy: Energy, params: Tree, x: Tree) -> Value:
    """ξ -> Φ(x, ξ, w), summed over the batch: what the free phase climbs."""
    return Value(functools.partial(_phi, energy, params, x))


def nudged_value(energy: Energy, params: Tree, x: Tree, targets: Tree, betas: jax.Array) -> Value:
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

    phase = functools.partial(_phi_aug, energy, params, x, targets)

    def recall(states: Tree, memory: list):
        values, memory = jax.vmap(phase)(states, memory, betas)
        return jnp.sum(values), memory

    return Value(recall)


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


@dataclasses.dataclass(frozen=True)
class Sweep:
    """One pass of the transition over all states, ξ <- σ(∂value/∂ξ): states -> states.

    `synchronous` moves all leaves at once (the paper). `alternating` moves the blocks of the
    energy one after the other, each from the newest states: in a layered net each half of such a
    sweep is a majorise-minimise step of E, so with σ = clip(., 0, 1) the energy never rises.
    Over-relaxation, ξ <- σ(ξ + ω (∂value/∂ξ - ξ)) with 0 < ω < 2, has the same fixed points where
    σ is a projection (hard_sigmoid, relu).

    A loop goes by `begin` and `step`, which carry what Φ remembers: one alternating sweep then
    costs what one synchronous step costs.

    Attributes:
        energy: gives the activation and the blocks.
        value: Φ or Φ_Aug as a function of the states alone.
        order: "synchronous" or "alternating".
        relaxation: ω.
    """

    energy: Energy
    value: Value
    order: str
    relaxation: float = 1.0

    def __call__(self, states: Tree) -> Tree:
        return self.step(Position(states, _nothing(states))).states

    def begin(self, states: Tree) -> Position:
        """The states with a memory of the shape that `step` returns."""
        moves = _moves(self.energy, states, self.order)
        if len(moves) == 1:
            return Position(states, _nothing(states))
        return Position(states, _forget(self.value.recall(states, _nothing(states))[1], moves[-1]))

    def step(self, position: Position) -> Position:
        """One sweep. What it remembers in the end is of the leaves that did not move last."""
        leaves, tree = jax.tree.flatten(position.states)
        memory = position.memory
        for moving in _moves(self.energy, position.states, self.order):
            leaves, memory = self._move(leaves, tree, memory, moving)
        return Position(jax.tree.unflatten(tree, leaves), memory)

    def _move(self, leaves: list, tree: Any, memory: list, moving: list[int]):
        """`leaves` with those of index in `moving` moved by one step of the transition."""

        def of_moving(some):
            merged = list(leaves)
            for index, leaf in zip(moving, some, strict=True):
                merged[index] = leaf
            return self.value.recall(jax.tree.unflatten(tree, merged), memory)

        climb = jax.grad(of_moving, has_aux=True)
        arguments, seen = climb([leaves[index] for index in moving])
        activations = per_leaf(self.energy.activation, jax.tree.unflatten(tree, leaves))
        moved = list(leaves)
        for index, argument in zip(moving, arguments, strict=True):
            if self.relaxation != 1.0:
                argument = leaves[index] + self.relaxation * (argument - leaves[index])
            moved[index] = activations[index](argument)
        return moved, _forget(seen, moving)


def _forget(memory: list, moved: list[int]) -> list:
    """What is remembered of a leaf no longer holds when it has moved."""
    return [None if index in moved else entry for index, entry in enumerate(memory)]
