"""Which leaves of the states may move together: read off the derivatives of Φ.

Two leaves interact where the derivative of Φ in one needs the other. Alternating sweeps move
leaves that do not interact at once: then each part of a sweep is a majorise-minimise step of E.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.interpreters import partial_eval

from jaxep.core import checks

Tree = Any
Graph = list[set[int]]
Moves = tuple[tuple[int, ...], ...]


def interactions(value: Callable[[Tree, Tree], Any], x: Tree, states: Tree) -> tuple[Graph, Graph]:
    """Reads off the jaxpr of ∂value/∂states, dead code removed, what each leaf's needs.

    Args:
        value: (x, states) -> a scalar.
        x: inputs, arrays or their shapes.
        states: arrays or their shapes.

    Returns:
        (for each leaf of the states, by number, the other leaves with which it interacts; for each
        the leaves of `x` that drive it).
    """

    def real(x: Tree, states: Tree) -> Any:
        return jax.numpy.real(value(x, states))  # of complex states: see `Objective.drive`

    return dependencies(jax.grad(real, argnums=1), x, states)


def dependencies(drive: Callable[[Tree, Tree], Tree], x: Tree, states: Tree) -> tuple[Graph, Graph]:
    """As `interactions`, of a drive that need not be a gradient: (x, states) -> a tree like states.

    Two leaves interact where one of them needs the other.
    """
    shaped = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), (x, states))
    closed = jax.make_jaxpr(drive)(*shaped)
    inputs, count = len(jax.tree.leaves(x)), len(jax.tree.leaves(states))
    joined: Graph = [set() for _ in range(count)]
    driven: Graph = [set() for _ in range(count)]
    for i in range(count):
        wanted = [i == output for output in range(count)]
        _, used = partial_eval.dce_jaxpr(closed.jaxpr, wanted)
        driven[i] = {k for k in range(inputs) if used[k]}
        for j in range(count):
            if used[inputs + j] and i != j:
                joined[i].add(j)
                joined[j].add(i)
    return joined, driven


def needed(value: Callable[[Tree], Any], states: Tree) -> set[int]:
    """The numbers of the leaves of `states`, arrays or their shapes, that a scalar depends on."""
    closed = jax.make_jaxpr(value)(states)
    _, used = partial_eval.dce_jaxpr(closed.jaxpr, [True])
    return {index for index, is_used in enumerate(used) if is_used}


def spread(moves: Moves, joined: Graph, pushed: set[int]) -> tuple[Moves, ...]:
    """The sweeps before the first in which every leaf may move, if all begin at an equilibrium.

    A leaf stays there until the nudge or a leaf with which it interacts has moved.

    Args:
        moves: numbers of the leaves that move together in a whole sweep, part after part.
        joined: of `interactions`.
        pushed: numbers of the leaves that the nudge acts on.

    Returns:
        For each of these sweeps its moves, as many parts as in `moves`; some may be empty.
    """
    found: list[Moves] = []
    moved: set[int] = set()
    while True:
        before, sweep = len(moved), []
        for leaves in moves:
            sweep.append(tuple(i for i in leaves if i in pushed or joined[i] & moved))
            moved |= set(sweep[-1])
        if tuple(sweep) == moves or len(moved) == before:
            return tuple(found)
        found.append(tuple(sweep))


def distances(joined: Graph, driven: Graph) -> list[int]:
    """Steps from the nearest leaf that the input drives, for each leaf; the count where none is."""
    found = [0 if driven[i] else len(joined) for i in range(len(joined))]
    for step in range(len(joined)):
        for i in range(len(joined)):
            if found[i] == step:
                for j in joined[i]:
                    found[j] = min(found[j], step + 1)
    return found


def colours(joined: Graph, rank: Sequence[int]) -> list[int]:
    """The number of the block of each leaf: no two that interact have the same.

    The next leaf is the one whose neighbours have the most different blocks already, of equals the
    one of the lowest rank, and gets the lowest block that is free (Brélaz 1979): two blocks where
    two are enough, so a chain gets 0, 1, 0, 1 from the input upwards.

    Args:
        joined: of `interactions`.
        rank: which of equals comes first; by distance from the input the names of the leaves, in
            whose order JAX keeps them, decide nothing in a chain.
    """
    found: dict[int, int] = {}

    def taken(i: int) -> set[int]:
        return {found[j] for j in joined[i] if j in found}

    while len(found) < len(joined):
        waiting = [i for i in range(len(joined)) if i not in found]
        i = min(waiting, key=lambda i: (-len(taken(i)), rank[i], -len(joined[i]), i))
        found[i] = min(set(range(len(joined) + 1)) - taken(i))
    return [found[i] for i in range(len(joined))]


def check(blocks: Sequence[int], joined: Graph, names: Sequence[str]) -> None:
    """Refuses blocks in which leaves that interact would move at once.

    Raises:
        ValueError: names two such leaves.
    """
    for i, others in enumerate(joined):
        for j in others:
            if blocks[i] == blocks[j]:
                raise ValueError(
                    f"blocks: {names[min(i, j)]} and {names[max(i, j)]} interact in Φ and are both "
                    f"in block {blocks[i]}: they must move one after the other, or leave blocks "
                    "None and they are read off Φ"
                )


def of_leaves(blocks: Tree, joined: Graph, driven: Graph, states: Tree) -> list[int]:
    """The block of each leaf: `blocks`, checked, or where it is None the colours of the graph."""
    if blocks is None:
        return colours(joined, distances(joined, driven))
    given = checks.per_leaf("blocks", blocks, states)
    check(given, joined, checks.leaf_names(states))
    return given
