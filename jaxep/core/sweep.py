"""One pass of the transition ξ <- σ(∂Φ_Aug/∂ξ), over any pytree of states.

A `Sweep` moves all states once. What Φ keeps of a leaf while it does not move is carried along.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax

from jaxep.core import blocks
from jaxep.core.activations import is_projection
from jaxep.core.objective import Objective, empty_cache

Tree = Any
ORDERS = ("synchronous", "alternating")


class SweepState(NamedTuple):
    """Where a solver stands: the states, and what Φ keeps of each of their leaves."""

    states: Tree
    cache: list


def _without(cache: list, moved: tuple[int, ...]) -> list:
    """What is kept of a leaf does not hold when it has moved."""
    return [None if index in moved else entry for index, entry in enumerate(cache)]


@dataclasses.dataclass(frozen=True)
class Sweep:
    """One pass of the transition over all states, ξ <- σ(∂Φ_Aug/∂ξ): states -> states.

    `synchronous` moves all leaves at once (the paper). `alternating` moves the blocks of the
    energy one after the other, each from the newest states: where no two leaves of a block
    interact, each part of such a sweep is a majorise-minimise step of E, so with σ = clip(., 0, 1)
    the energy never rises.

    Over-relaxation with 0 < ω < 2 keeps the fixed points: ξ <- σ(ξ + ω (∂Φ_Aug/∂ξ - ξ)) where σ is
    a projection (hard_sigmoid, relu), and ξ <- ξ + ω (σ(∂Φ_Aug/∂ξ) - ξ) elsewhere.

    A loop goes by `begin` and `step`, which carry what Φ keeps: one alternating sweep then costs
    what one synchronous step costs.

    Attributes:
        objective: what is climbed.
        moves: numbers of the leaves that move together, one tuple for each part of the sweep.
        relaxation: ω.
        first: the moves of the first sweeps, in which leaves rest that the nudge has not reached.
    """

    objective: Objective
    moves: blocks.Moves
    relaxation: float = 1.0
    first: tuple[blocks.Moves, ...] = ()

    @classmethod
    def over(
        cls, objective: Objective, states: Tree, order: str, relaxation: float = 1.0
    ) -> "Sweep":
        """The sweep of states like `states`.

        Args:
            objective: what is climbed.
            states: arrays or their shapes.
            order: "synchronous" or "alternating".
            relaxation: ω.

        Raises:
            ValueError: leaves of one block interact.
        """
        alternating, numbers = order == "alternating", [0] * len(jax.tree.leaves(states))
        wanted = alternating or objective.rest is not None
        joined, driven = objective.graph(states) if wanted else ([], [])
        if alternating:
            numbers = blocks.of_leaves(objective.energy.blocks, joined, driven, states)
        moves = tuple(
            tuple(i for i, number in enumerate(numbers) if number == block)
            for block in sorted(set(numbers))
        )
        if objective.rest is None:
            return cls(objective, moves, relaxation)
        first = blocks.spread(moves, joined, objective.rest.pushed(states))
        return cls(objective, moves, relaxation, first)

    def __call__(self, states: Tree) -> Tree:
        return self.step(SweepState(states, empty_cache(states))).states

    def begin(self, states: Tree, early: int = 0) -> SweepState:
        """The states with a cache of the shape that `step` returns.

        Args:
            states: in which a phase begins.
            early: how many of the sweeps in `first` are done.
        """
        if len(self.moves) == 1 and not early:
            return SweepState(states, empty_cache(states))
        position = SweepState(states, self.objective.kept(states))
        for moves in self.first[:early]:
            for moving in filter(None, moves):
                position = self._move(position, moving)
        return SweepState(position.states, _without(position.cache, self.moves[-1]))

    def step(self, position: SweepState) -> SweepState:
        """One sweep. What is kept in the end is of the leaves that did not move last."""
        for moving in self.moves:
            position = self._move(position, moving)
        return position

    def _move(self, position: SweepState, moving: tuple[int, ...]) -> SweepState:
        """The leaves numbered in `moving` moved by one step of the transition."""
        leaves, tree = jax.tree.flatten(position.states)
        arguments, seen = self.objective.drive(position.states, position.cache, moving)
        moved = list(leaves)
        for index, argument in zip(moving, arguments, strict=True):
            moved[index] = self.relaxed(index, leaves[index], argument, position.states, seen)
        return SweepState(jax.tree.unflatten(tree, moved), _without(seen, moving))

    def relaxed(
        self, index: int, old: jax.Array, argument: jax.Array, states: Tree, cache: list
    ) -> jax.Array:
        """The leaf `index` moved from `old` by the relaxed transition.

        Args:
            index: of the leaf.
            old: its values.
            argument: ∂Φ_Aug/∂ξ of it.
            states: the newest, of all leaves.
            cache: what Φ keeps of each of them, or None for each.
        """
        activate = functools.partial(self.objective.activate, index, states=states, cache=cache)
        if self.relaxation == 1.0:
            return activate(argument)
        if is_projection(self.objective.activations(states)[index]):
            return activate(old + self.relaxation * (argument - old))
        return old + self.relaxation * (activate(argument) - old)
