"""One pass of the transition ξ <- σ(∂Φ_Aug/∂ξ), over any pytree of states.

An `Objective` is what a phase climbs, Φ or Φ_Aug as a function of the states alone; a `Sweep`
moves all states once. What Φ keeps of a leaf while it does not move is carried along.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxep.core import blocks, checks
from jaxep.core.activations import ContextualActivation, is_projection
from jaxep.core.energy import total_loss

Tree = Any
ORDERS = ("synchronous", "alternating")


def _as_it_is(function: Callable) -> Callable:
    return function


@dataclasses.dataclass(frozen=True, eq=False)  # by identity: `jax.jit` hashes a sweep
class Objective:
    """Φ or Φ_Aug as a function of the states alone, summed over the batch.

    Attributes:
        energy: the model, as a rule an `Energy`; gives the loss, σ and the blocks.
        params: as the loss takes them.
        prepared: (params, x) as Φ gets them in the loop, see `FastPhi.prepare`.
        value_and_cache: (states, cache) -> (value, cache), see `FastPhi.phi_and_cache`.
        graph: states -> which of their leaves interact, and which the input drives.
        over_phases: turns a function of one phase's arrays into one of this objective's.
        symmetric: the Jacobian of `drive` is, as that of a gradient.
    """

    energy: Any
    params: Tree
    prepared: tuple[Tree, Tree]
    value_and_cache: Callable[[Tree, list], tuple[jax.Array, list]]
    graph: Callable[[Tree], tuple[blocks.Graph, blocks.Graph]]
    over_phases: Callable[[Callable], Callable] = _as_it_is
    symmetric: bool = True

    def value(self, states: Tree) -> jax.Array:
        """A scalar."""
        return self.value_and_cache(states, empty_cache(states))[0]

    def defining(self) -> tuple[str, Callable[[Tree], Tree]]:
        """Of what the drive is made, a function of the states with its name in an `Energy`: Φ."""
        return "phi", self.value

    def drive(self, states: Tree, cache: list, moving: tuple[int, ...]) -> tuple[list, list]:
        """∂Φ_Aug/∂ξ of some leaves, the arguments of their σ.

        Args:
            states: of all leaves.
            cache: what Φ keeps of each leaf, see `FastPhi.phi_and_cache`.
            moving: numbers of the leaves asked for.

        Returns:
            (one argument for each of them, the cache of every leaf).
        """
        leaves, tree = jax.tree.flatten(states)

        def of_moving(some):
            merged = list(leaves)
            for index, leaf in zip(moving, some, strict=True):
                merged[index] = leaf
            value, seen = self.value_and_cache(jax.tree.unflatten(tree, merged), cache)
            # Of a holomorphic Φ the gradient of the real part is the complex derivative.
            return jnp.real(value), seen

        return jax.grad(of_moving, has_aux=True)([leaves[index] for index in moving])

    def anchored(self, free: Tree) -> "Objective":
        """What EP nudges from the free equilibrium `free`: this, as a Φ does not depend on it."""
        del free
        return self

    def nudged(self, targets: Tree, betas: jax.Array) -> "Objective":
        """The sum of Φ_Aug over several nudged phases, which are run as one batch.

        Args:
            targets: the same in every phase.
            betas: nudging factors, [phases].

        Returns:
            An objective of states whose leaves are [phases, batch, ...].
        """

        def loss(states: Tree) -> jax.Array:
            return total_loss(self.energy, self.params, states, targets)

        def phase(states: Tree, cache: list, beta: jax.Array):
            phi, cache = self.value_and_cache(states, cache)
            return phi - beta * loss(states), cache

        def value_and_cache(states: Tree, cache: list):
            values, cache = jax.vmap(phase)(states, cache, betas)
            return jnp.sum(values), cache

        def graph(states: Tree):
            one = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape[1:], s.dtype), states)
            joined, driven = self.graph(one)
            more, _ = blocks.interactions(lambda _, states: loss(states), (), one)
            return [a | b for a, b in zip(joined, more, strict=True)], driven

        return dataclasses.replace(
            self, value_and_cache=value_and_cache, graph=graph, over_phases=_vmap_phases
        )

    def activate(self, index: int, argument: jax.Array, states: Tree) -> jax.Array:
        """σ of the leaf `index` at its argument."""
        sigma = self.activations(states)[index]
        if not isinstance(sigma, ContextualActivation):
            return sigma(argument)
        moved = self.over_phases(lambda a, s: sigma.function(a, *self.prepared, s))
        return moved(argument, states)

    def activations(self, states: Tree) -> list:
        """σ of each leaf of the states."""
        return checks.per_leaf("activation", self.energy.activation, states)


def _vmap_phases(function: Callable) -> Callable:
    return jax.vmap(function)


@functools.singledispatch
def free_objective(energy: Any, params: Tree, x: Tree) -> Objective:
    """ξ -> Φ(x, ξ, w), summed over the batch: what the free phase climbs.

    The work of Φ that does not depend on the states is done here, once. A model that is no
    `Energy` registers its own way to make one (`functools.singledispatch`).
    """
    fast = energy.fast()
    prepared = fast.prepare(params, x)

    def value_and_cache(x: Tree, states: Tree, cache: list):
        phi, cache = fast.phi_and_cache(prepared[0], x, states, cache)
        checks.check_phi(phi, checks.batch_size(states))
        return jnp.sum(phi), cache

    def graph(states: Tree):
        def value(x: Tree, states: Tree) -> jax.Array:
            return value_and_cache(x, states, empty_cache(states))[0]

        return blocks.interactions(value, prepared[1], states)

    of_states = functools.partial(value_and_cache, prepared[1])
    return Objective(energy, params, prepared, of_states, once_of_shapes(graph))


def once_of_shapes(graph: Callable[[Tree], Any]) -> Callable[[Tree], Any]:
    """A function of the shapes of states, computed once for each."""

    @functools.cache
    def of(tree: Any, shapes: tuple):
        return graph(jax.tree.unflatten(tree, [jax.ShapeDtypeStruct(*shape) for shape in shapes]))

    def remembered(states: Tree):
        leaves, tree = jax.tree.flatten(states)
        return of(tree, tuple((leaf.shape, leaf.dtype) for leaf in leaves))

    return remembered


class SweepState(NamedTuple):
    """Where a solver stands: the states, and what Φ keeps of each of their leaves."""

    states: Tree
    cache: list


def empty_cache(states: Tree) -> list:
    """Nothing kept of any leaf."""
    return [None] * len(jax.tree.leaves(states))


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
    """

    objective: Objective
    moves: tuple[tuple[int, ...], ...]
    relaxation: float = 1.0

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
        if order == "synchronous":
            return cls(objective, (tuple(range(len(jax.tree.leaves(states)))),), relaxation)
        numbers = blocks.of_leaves(objective.energy.blocks, *objective.graph(states), states)
        moves = [
            tuple(i for i, number in enumerate(numbers) if number == block)
            for block in sorted(set(numbers))
        ]
        return cls(objective, tuple(moves), relaxation)

    def __call__(self, states: Tree) -> Tree:
        return self.step(SweepState(states, empty_cache(states))).states

    def begin(self, states: Tree) -> SweepState:
        """The states with a cache of the shape that `step` returns."""
        if len(self.moves) == 1:
            return SweepState(states, empty_cache(states))
        seen = self.objective.value_and_cache(states, empty_cache(states))[1]
        return SweepState(states, _without(seen, self.moves[-1]))

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
            moved[index] = self.relaxed(index, leaves[index], argument, position.states)
        return SweepState(jax.tree.unflatten(tree, moved), _without(seen, moving))

    def relaxed(self, index: int, old: jax.Array, argument: jax.Array, states: Tree) -> jax.Array:
        """The leaf `index` moved from `old` by the relaxed transition, given ∂Φ_Aug/∂ξ of it."""
        activate = functools.partial(self.objective.activate, index, states=states)
        if self.relaxation == 1.0:
            return activate(argument)
        if is_projection(self.objective.activations(states)[index]):
            return activate(old + self.relaxation * (argument - old))
        return old + self.relaxation * (activate(argument) - old)
