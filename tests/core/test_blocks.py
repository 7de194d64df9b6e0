"""Blocks are read off Φ, whatever its leaves are called, and checked where they are given."""

import dataclasses
import itertools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxep import Energy, Tolerance, equilibrium
from jaxep.core import blocks
from jaxep.core.objective import free_objective
from jaxep.core.sweep import Sweep

SIZE, BATCH = 3, 2


def system(phi, names, loss=None):
    """An energy whose states are [BATCH, SIZE] each, by name."""
    loss = loss or (lambda params, states, targets: jnp.sum(states[names[-1]], -1))
    return Energy(phi, loss, lambda key, params, x: {n: jnp.zeros((BATCH, SIZE)) for n in names})


def chain(names, weights=None):
    """x -> names[0] -> names[1] -> ..., each joined with the next."""
    weights = jnp.ones((len(names), SIZE, SIZE)) if weights is None else weights

    def phi(params, x, states):
        path = [x, *(states[name] for name in names)]
        links = zip(weights, path, path[1:], strict=False)
        return sum(jnp.sum((lower @ w) * upper, -1) for w, lower, upper in links)

    return system(phi, names)


def drive(x, leaf):
    return jnp.sum(x * leaf, -1)


def read_off(energy, objective=None, states=None):
    """{path of a leaf: its block}, of Φ alone."""
    x = jnp.ones((BATCH, SIZE))
    states = energy.init_states(None, None, x) if states is None else states
    objective = objective or free_objective(energy, None, x)
    numbers = blocks.of_leaves(None, *objective.graph(states), states)
    return jax.tree.unflatten(jax.tree.structure(states), numbers)


def mixed_derivatives(value, states):
    """Which pairs of leaves have a mixed second derivative, by a dense Hessian at random states."""
    leaves, tree = jax.tree.flatten(states)
    keys = jax.random.split(jax.random.key(0), len(leaves))
    drawn = [jax.random.normal(k, leaf.shape) for k, leaf in zip(keys, leaves, strict=True)]
    hessian = jax.hessian(lambda some: value(jax.tree.unflatten(tree, some)))(drawn)
    pairs = itertools.permutations(range(len(leaves)), 2)
    return {(i, j) for i, j in pairs if np.any(hessian[i][j])}


PHIS = {
    "one leaf reads two": lambda p, x, s: (
        drive(x, s["a"]) + jnp.sum((s["a"] + s["b"]) * s["c"], -1)
    ),
    "logsumexp over two of three": lambda p, x, s: (
        drive(x, s["b"])
        + jax.nn.logsumexp(jnp.concatenate([s["c"], s["a"]], -1), -1)
        + jax.nn.logsumexp(s["b"], -1)
    ),
    "a product of three": lambda p, x, s: jnp.sum(x * s["a"] * s["b"] * s["c"], -1),
    "nothing of x": lambda p, x, s: jnp.sum(s["c"] * s["a"] + s["a"] * s["b"], -1),
    "no interaction": lambda p, x, s: drive(x, s["a"]) + jnp.sum(s["b"] ** 2 + s["c"], -1),
    "the sum over the batch": lambda p, x, s: jnp.sum(s["c"] * jnp.sin(s["a"]) + s["b"]),
}


@pytest.mark.parametrize("name", PHIS)
def test_leaves_interact_where_the_hessian_of_phi_is_not_zero(name):
    energy = system(PHIS[name], "abc")
    objective = free_objective(energy, None, jnp.ones((BATCH, SIZE)))
    states = energy.init_states(None, None, None)
    joined, _ = objective.graph(states)
    found = {(i, j) for i, others in enumerate(joined) for j in others}
    assert found == mixed_derivatives(objective.value, states)
    numbers = list(read_off(energy).values())
    assert all(numbers[i] != numbers[j] for i, j in found)
    assert set(numbers) == set(range(max(numbers) + 1))


@pytest.mark.parametrize("names", list(itertools.permutations("dbca")), ids="".join)
def test_a_chain_moves_every_second_layer_from_the_input_on_whatever_the_names(names):
    assert read_off(chain(names)) == {name: i % 2 for i, name in enumerate(names)}


def test_a_chain_without_an_input_still_has_two_blocks():
    energy = system(lambda p, x, s: drive(s["b"], s["c"]) + drive(s["c"], s["a"]), "abc")
    found = read_off(energy)
    assert found["a"] == found["b"] != found["c"] and set(found.values()) == {0, 1}


def test_states_of_one_array_and_of_nested_trees():
    def phi(params, x, states):
        first, (second, third) = states
        return drive(first["u"] + third, second) + drive(x, third)

    zeros = jnp.zeros((BATCH, SIZE))
    nested = Energy(phi, phi, lambda key, p, x: ({"u": zeros}, (zeros, zeros)))
    found = read_off(nested)
    assert found == ({"u": 0}, (1, 0))
    alone = Energy(lambda p, x, s: drive(x, s), lambda p, s, t: s[:, 0], lambda key, p, x: zeros)
    assert read_off(alone) == 0


def test_a_loss_that_joins_two_leaves_makes_blocks_in_the_nudged_phase_alone():
    def loss(params, states, targets):
        return jnp.sum((states["a"] - states["c"]) ** 2, -1)

    energy = dataclasses.replace(chain("abc"), loss=loss)
    x, states = jnp.ones((BATCH, SIZE)), energy.init_states(None, None, None)
    free = free_objective(energy, None, x)
    both = jax.tree.map(lambda s: jnp.stack([s, s]), states)
    nudged = Sweep.over(free.nudged(None, jnp.asarray([0.1, -0.1])), both, "alternating")
    assert Sweep.over(free, states, "alternating").moves == ((0, 2), (1,))
    assert len(nudged.moves) == 3
    given = dataclasses.replace(energy, blocks={"a": 0, "b": 1, "c": 0})
    free = free_objective(given, None, x)
    Sweep.over(free, states, "alternating")
    with pytest.raises(ValueError, match="a and c interact"):
        Sweep.over(free.nudged(None, jnp.asarray([0.1])), both, "alternating")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"a": 0, "b": 0, "c": 1}, "blocks: a and b interact in Φ and are both in block 0"),
        ({"a": 0, "b": 1, "c": 1}, "blocks: b and c interact in Φ and are both in block 1"),
        (0, "blocks: a and b interact"),
        ({"a": 0, "b": 1}, "blocks does not fit the states.* a, b, c"),
        ({"a": 0, "b": 1, "c": 0, "d": 0}, "blocks does not fit the states"),
    ],
)
def test_wrong_blocks_are_refused_with_the_names_of_the_leaves(given, words):
    energy = dataclasses.replace(chain("abc"), blocks=given)
    x = jnp.ones((BATCH, SIZE))
    with pytest.raises(ValueError, match=words):
        jax.jit(lambda x: equilibrium(energy, Tolerance(3, "alternating"), None, x))(x)
    equilibrium(energy, Tolerance(3, "synchronous"), None, x)


@pytest.mark.parametrize("seed", range(4))
def test_renaming_the_states_of_a_chain_leaves_the_number_of_sweeps(seed):
    """Where leaves moved by the parity of their alphabetical place, 36 sweeps became thousands."""
    depth, size, batch = 10, 16, 6
    keys = jax.random.split(jax.random.key(0), depth + 1)
    weights = [0.4 * jax.random.normal(k, (size, size)) for k in keys[:depth]]
    x = jax.random.uniform(keys[depth], (batch, size))
    order = np.random.default_rng(seed).permutation(depth)

    def solve(names):
        energy = dataclasses.replace(
            chain(names, weights),
            init_states=lambda key, p, x: {name: jnp.zeros((batch, size)) for name in names},
        )
        return equilibrium(energy, Tolerance(3000, "alternating", 1.7, 1e-5), None, x)

    sorted_names = [f"layer{i:02d}" for i in range(depth)]
    expected = solve(sorted_names)
    assert int(expected.steps) < 45
    for names in ([f"layer{i}" for i in range(1, 11)], [f"layer{i:02d}" for i in order]):
        renamed = solve(names)
        assert int(renamed.steps) == int(expected.steps)
        for mine, other in zip(names, sorted_names, strict=True):
            np.testing.assert_allclose(renamed.states[mine], expected.states[other], atol=1e-5)


@st.composite
def graphs(draw):
    """(joined, side of each leaf or None): some graph, and some that two blocks are enough for."""
    count = draw(st.integers(1, 9))
    sides = draw(st.none() | st.lists(st.booleans(), min_size=count, max_size=count))
    possible = [
        (i, j)
        for i, j in itertools.combinations(range(count), 2)
        if sides is None or sides[i] != sides[j]
    ]
    joined = [set() for _ in range(count)]
    for i, j in draw(st.lists(st.sampled_from(possible), unique=True)) if possible else ():
        joined[i].add(j)
        joined[j].add(i)
    return joined, sides, draw(st.permutations(range(count)))


@hypothesis.given(graphs())
@hypothesis.settings(max_examples=200, deadline=None)
def test_no_two_that_interact_share_a_block_and_two_are_taken_where_two_are_enough(graph):
    joined, sides, rank = graph
    found = blocks.colours(joined, rank)
    assert all(found[i] != found[j] for i, others in enumerate(joined) for j in others)
    assert max(found) <= max(len(others) for others in joined)
    if sides is not None:
        assert max(found) <= 1


def test_a_nudge_spreads_over_a_chain_leaf_by_leaf_and_block_by_block():
    joined = [{1}, {0, 2}, {1, 3}, {2, 4}, {3}]
    blockwise = ((0, 2, 4), (1, 3))
    assert blocks.spread(blockwise, joined, {4}) == (((4,), (3,)), ((2, 4), (1, 3)))
    assert blocks.spread(blockwise[::-1], joined, {4})[:2] == (((), (4,)), ((3,), (2, 4)))
    at_once = ((0, 1, 2, 3, 4),)
    expected = [((4,),), ((3, 4),), ((2, 3, 4),), ((1, 2, 3, 4),)]
    assert blocks.spread(at_once, joined, {4}) == tuple(expected)
    assert blocks.spread(at_once, joined, set(range(5))) == ()
    # Where nothing pushes or a part is joined with nothing, whole sweeps change nothing there.
    assert blocks.spread(at_once, joined, set()) == ()
    assert blocks.spread(at_once, [set(), {2}, {1}, set(), set()], {2}) == (((2,),), ((1, 2),))


def test_which_leaves_a_loss_needs_is_read_off_it():
    states = {name: jax.ShapeDtypeStruct((BATCH, SIZE), jnp.float32) for name in "abc"}
    assert blocks.needed(lambda s: jnp.sum(s["c"] * s["a"]) + 0 * s["b"].size, states) == {0, 2}
    assert blocks.needed(lambda s: jnp.zeros(()), states) == set()
