"""What a phase climbs: Φ or Φ_Aug as a function of the states alone, over any pytree of them."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxep.core import blocks, checks
from jaxep.core.activations import ContextualActivation
from jaxep.core.energy import total_loss

Tree = Any


def _as_it_is(function: Callable) -> Callable:
    return function


class Rest(NamedTuple):
    """Of nudged phases that begin at the exact equilibrium without the nudge.

    Attributes:
        pushed: states -> numbers of the leaves on which the nudge acts; no other moves first.
        kept: states -> the cache of all leaves, computed once for all phases.
    """

    pushed: Callable[[Tree], set[int]]
    kept: Callable[[Tree], list]


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
        rest: what is known where a phase begins at an exact equilibrium, or None.
    """

    energy: Any
    params: Tree
    prepared: tuple[Tree, Tree]
    value_and_cache: Callable[[Tree, list], tuple[jax.Array, list]]
    graph: Callable[[Tree], tuple[blocks.Graph, blocks.Graph]]
    over_phases: Callable[[Callable], Callable] = _as_it_is
    symmetric: bool = True
    rest: Rest | None = None

    def value(self, states: Tree) -> jax.Array:
        """A scalar."""
        return self.value_and_cache(states, empty_cache(states))[0]

    def kept(self, states: Tree) -> list:
        """The cache of all leaves of the states in which a phase begins."""
        if self.rest is not None:
            return self.rest.kept(states)
        return self.value_and_cache(states, empty_cache(states))[1]

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

    def nudged(
        self, targets: Tree, betas: jax.Array, from_equilibrium: bool = False
    ) -> "Objective":
        """The sum of Φ_Aug over several nudged phases, which are run as one batch.

        Args:
            targets: the same in every phase.
            betas: nudging factors, [phases].
            from_equilibrium: every phase begins at the exact equilibrium of this objective, so
                that a leaf rests until the nudge has reached it.

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
            one = _of_one_phase(states)
            joined, driven = self.graph(one)
            more, _ = blocks.interactions(lambda _, states: loss(states), (), one)
            return [a | b for a, b in zip(joined, more, strict=True)], driven

        def pushed(states: Tree) -> set[int]:
            return blocks.needed(loss, _of_one_phase(states))

        def kept(states: Tree) -> list:
            of_one = self.kept(jax.tree.map(lambda s: s[0], states))
            return jax.tree.map(lambda c: jnp.broadcast_to(c, (*betas.shape, *c.shape)), of_one)

        return dataclasses.replace(
            self,
            value_and_cache=value_and_cache,
            graph=graph,
            over_phases=_vmap_phases,
            rest=Rest(pushed, kept) if from_equilibrium else None,
        )

    def activate(self, index: int, argument: jax.Array, states: Tree, cache: list) -> jax.Array:
        """σ of the leaf `index` at its argument; states, and the cache of Φ, are its context."""
        sigma = self.activations(states)[index]
        if not isinstance(sigma, ContextualActivation):
            return sigma(argument)
        more = (states, cache) if sigma.takes_cache else (states,)
        moved = self.over_phases(lambda a, *rest: sigma.function(a, *self.prepared, *rest))
        return moved(argument, *more)

    def activations(self, states: Tree) -> list:
        """σ of each leaf of the states."""
        return checks.per_leaf("activation", self.energy.activation, states)


def _of_one_phase(states: Tree) -> Tree:
    """The shapes of [phases, batch, ...] without the phases."""
    return jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape[1:], s.dtype), states)


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


def empty_cache(states: Tree) -> list:
    """Nothing kept of any leaf."""
    return [None] * len(jax.tree.leaves(states))
