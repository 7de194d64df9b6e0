"""An energy of one's own: any Φ over any pytree trains, and every start is possible."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chex import assert_trees_all_close

from jaxep import (
    BPTT,
    EP,
    Energy,
    FastPhi,
    Fixed,
    Implicit,
    energy_per_sample,
    equilibrium,
    hard_sigmoid,
    initial_states,
    phi_aug,
)

BATCH = 6


def phi(params, x, states):
    return jnp.sum((x @ params["w"]) * states["h"], -1) + jnp.sum(states["h"] * states["out"], -1)


def loss(params, states, targets):
    return 0.5 * jnp.sum((states["out"] - targets) ** 2, -1)


def uniform(key, params, x):
    shape = (len(x), 4)
    keys = jax.random.split(key)
    return {"h": jax.random.uniform(keys[0], shape), "out": jax.random.uniform(keys[1], shape)}


def forward(key, params, x):
    hidden = hard_sigmoid(x @ params["w"])
    return {"h": hidden, "out": hard_sigmoid(hidden)}


ENERGY = Energy(phi, loss, uniform)
PARAMS = {"w": 0.3 * jax.random.normal(jax.random.key(0), (3, 4))}
X = jax.random.normal(jax.random.key(1), (BATCH, 3))
Y = jax.random.uniform(jax.random.key(2), (BATCH, 4))
ESTIMATORS = [EP(0.1, 3, 2), BPTT(3), Implicit(3)]


def test_a_user_written_energy_over_a_dict_of_states_trains():
    """A Hopfield MLP with a skip connection, in the twenty lines that the README promises."""

    def phi(params, x, states):
        hidden, out = states["hidden"], states["out"]
        drive = x @ params["input"] + params["bias"]
        skip = jnp.sum((x @ params["skip"]) * out, -1)
        return jnp.sum(drive * hidden, -1) + jnp.sum((hidden @ params["output"]) * out, -1) + skip

    def loss(params, states, targets):
        return 0.5 * jnp.sum((states["out"] - targets) ** 2, -1)

    def init_states(key, params, x):
        return {"hidden": jnp.zeros((len(x), 16)), "out": jnp.zeros((len(x), 1))}

    model = Energy(phi, loss, init_states, activation={"hidden": hard_sigmoid, "out": lambda v: v})
    ep = EP(0.5, free=Fixed(20, "alternating"), nudge=Fixed(10, "alternating"))
    value_and_grad = jax.jit(ep.value_and_grad(model))
    x = jnp.asarray([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    targets = jnp.asarray([[0.0], [1.0], [1.0], [0.0]])  # exclusive or
    keys = jax.random.split(jax.random.key(0), 3)
    params = {
        "input": jax.random.normal(keys[0], (2, 16)),
        "output": 0.2 * jax.random.normal(keys[1], (16, 1)),
        "skip": 0.3 * jax.random.normal(keys[2], (2, 1)),
        "bias": jnp.full((16,), 0.5),
    }
    first, *_ = value_and_grad(params, (x, targets), keys[0])
    for _ in range(600):
        last, grads, _ = value_and_grad(params, (x, targets), keys[0])
        params = jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)
    assert float(first) > 0.1
    assert float(last) < 0.005


def test_phi_aug_and_the_energy_are_those_of_equation_10():
    states = uniform(jax.random.key(3), PARAMS, X)
    per_sample = phi(PARAMS, X, states)
    expected = per_sample.sum() - 0.3 * loss(PARAMS, states, Y).sum()
    assert_trees_all_close(phi_aug(ENERGY, PARAMS, X, states, Y, 0.3), expected, rtol=1e-6)
    squares = sum((np.asarray(s) ** 2).sum(-1) for s in states.values())
    found = energy_per_sample(ENERGY, PARAMS, X, states)
    assert_trees_all_close(found, squares / 2 - per_sample, rtol=1e-5)


def counting_fast_phi(phi, calls):
    """A `FastPhi` that counts how often each of its parts is traced."""

    def prepare(params, x):
        calls.append("prepare")
        return {"drive": x @ params["w"]}, ()

    def phi_and_cache(prepared, x, states, cache):
        calls.append("phi_and_cache")
        drive, h = prepared["drive"], states["h"]
        return jnp.sum(drive * h, -1) + jnp.sum(h * states["out"], -1), cache

    return FastPhi(phi, prepare, phi_and_cache)


@pytest.mark.parametrize("estimator", [EP, BPTT, Implicit])
def test_replacing_phi_leaves_nothing_of_the_old_one(estimator):
    """The fast path belongs to the phi it is derived from: no stale cache function stays."""

    def other(params, x, states):
        return 2 * phi(params, x, states) + jnp.sum(states["out"], -1)

    free = Fixed(5, "alternating")
    solvers = {EP: (0.1, free, free), BPTT: (free,), Implicit: (free,)}[estimator]

    def estimate(phi):
        energy = dataclasses.replace(fast, phi=phi)
        grad = estimator(*solvers).value_and_grad(energy)
        return jax.jit(grad)(PARAMS, (X, Y), jax.random.key(0))

    calls: list[str] = []
    fast = dataclasses.replace(ENERGY, phi=counting_fast_phi(phi, calls))
    plain = estimate(phi)
    assert_trees_all_close(estimate(fast.phi), plain, rtol=1e-5, atol=1e-6)
    assert set(calls) == {"prepare", "phi_and_cache"}
    calls.clear()
    replaced = estimate(other)
    assert not calls
    own = estimator(*solvers).value_and_grad(Energy(other, loss, uniform))
    assert_trees_all_close(replaced, jax.jit(own)(PARAMS, (X, Y), jax.random.key(0)), rtol=1e-6)
    different = np.abs(replaced[1]["w"] - plain[1]["w"])
    assert different.max() > 1e-3


def test_one_key_for_each_sample_makes_the_start_independent_of_how_a_batch_is_cut():
    keys = jax.random.split(jax.random.key(7), BATCH)
    whole = initial_states(ENERGY, keys, PARAMS, X)
    for size in (1, 2, 3):
        cuts = [slice(i, i + size) for i in range(0, BATCH, size)]
        parts = [initial_states(ENERGY, keys[cut], PARAMS, X[cut]) for cut in cuts]
        joined = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)
        assert_trees_all_close(joined, whole, rtol=0)
    flat = np.asarray(whole["h"]).ravel()
    assert len(np.unique(flat)) == flat.size  # no sample starts from the noise of another


@pytest.mark.parametrize("make", [jax.random.key, jax.random.PRNGKey])
def test_one_key_for_the_batch_goes_to_init_states_as_it_is(make):
    key = make(5)
    expected = uniform(key, PARAMS, X)
    assert_trees_all_close(initial_states(ENERGY, key, PARAMS, X), expected, rtol=0)
    each = initial_states(ENERGY, jax.random.split(key, BATCH), PARAMS, X)
    alone = uniform(jax.random.split(key, BATCH)[2], PARAMS, X[2:3])
    assert_trees_all_close(jax.tree.map(lambda leaf: leaf[2:3], each), alone, rtol=0)


def test_without_a_key_a_start_that_is_not_random_is_given():
    energy = dataclasses.replace(ENERGY, init_states=forward)
    assert_trees_all_close(initial_states(energy, None, PARAMS, X), forward(None, PARAMS, X))
    assert_trees_all_close(
        initial_states(energy, jax.random.split(jax.random.key(0), BATCH), PARAMS, X),
        forward(None, PARAMS, X),
    )


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
def test_a_start_takes_the_place_of_the_initial_states(estimator):
    grad = jax.jit(estimator.value_and_grad(ENERGY))
    start = jax.tree.map(lambda leaf: leaf + 0.5, uniform(jax.random.key(9), PARAMS, X))
    mine = grad(PARAMS, (X, Y), jax.random.key(0), start)
    given = dataclasses.replace(ENERGY, init_states=lambda key, params, x: start)
    other = jax.jit(estimator.value_and_grad(given))(PARAMS, (X, Y), jax.random.key(0))
    assert_trees_all_close(mine, other, rtol=1e-6)
    drawn = grad(PARAMS, (X, Y), jax.random.key(0))
    assert np.abs(drawn[2].free.states["h"] - mine[2].free.states["h"]).max() > 1e-3


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
def test_a_start_that_depends_on_the_parameters_passes_them_no_gradient(estimator):
    energy = dataclasses.replace(ENERGY, init_states=forward)
    mine = jax.jit(estimator.value_and_grad(energy))(PARAMS, (X, Y), jax.random.key(0))
    start = forward(None, PARAMS, X)
    given = jax.jit(estimator.value_and_grad(ENERGY))(PARAMS, (X, Y), jax.random.key(0), start)
    assert_trees_all_close(mine, given, rtol=1e-6)


def test_a_forward_pass_is_told_to_be_the_equilibrium_by_one_step():
    def upwards(params, x, states):
        return jnp.sum((x @ params["w"]) * states["h"], -1)

    def start(key, params, x):
        return {"h": hard_sigmoid(x @ params["w"]), "out": jnp.zeros((len(x), 4))}

    assert float(equilibrium(Energy(upwards, loss, start), 1, PARAMS, X).residual) == 0


def test_equilibrium_takes_a_key_for_each_sample_or_a_start():
    keys = jax.random.split(jax.random.key(7), BATCH)
    whole = equilibrium(ENERGY, 2, PARAMS, X, keys).states
    parts = [equilibrium(ENERGY, 2, PARAMS, X[i : i + 1], keys[i : i + 1]).states for i in range(6)]
    joined = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)
    assert_trees_all_close(joined, whole, rtol=1e-5)
    start = uniform(jax.random.key(3), PARAMS, X)
    assert_trees_all_close(
        equilibrium(ENERGY, 2, PARAMS, X, start=start).states,
        equilibrium(ENERGY, 2, PARAMS, X, jax.random.key(3)).states,
    )


def test_an_energy_with_dicts_is_a_static_argument_of_jit():
    energy = dataclasses.replace(
        ENERGY,
        init_states=forward,
        blocks={"h": 0, "out": 1},
        activation={"h": jnp.tanh, "out": jnp.tanh},
    )

    @functools.partial(jax.jit, static_argnums=0)
    def settle(energy, x):
        return equilibrium(energy, Fixed(3, "alternating"), PARAMS, x).states

    assert_trees_all_close(
        settle(energy, X), equilibrium(energy, Fixed(3, "alternating"), PARAMS, X).states, rtol=1e-6
    )


def test_functions_of_other_arguments_are_refused_where_the_energy_is_made():
    phi, loss = (lambda w, x, s: s), (lambda w, s, t: s)
    with pytest.raises(ValueError, match=r"init_states takes \(key, x\): must take \(key, params"):
        Energy(phi, loss, lambda key, x: x)
    with pytest.raises(ValueError, match=r"loss takes \(s, t\): must take \(params, states, targ"):
        Energy(phi, lambda s, t: s, lambda key, params, x: x)
    with pytest.raises(ValueError, match="phi = 3: must be a function"):
        Energy(3, loss, lambda key, params, x: x)
