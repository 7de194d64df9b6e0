"""Φ_Aug and its dynamics: the transition is jax.grad, the energy never rises, any pytree works."""

import dataclasses
import functools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import pytest
from chex import assert_trees_all_close

from jaxep import EP, Energy, Fixed, Tolerance, hard_sigmoid, phi_aug
from jaxep.core.sweep import Sweep, free_value, nudged_value
from jaxep.core.theory import energy_per_sample
from jaxep.nets.graph import vgg
from jaxep.nets.heads import LocalError, NoSignal, Targets, energy, init_params

CLASSES = 3


def build(gain, key, dtype=jnp.float64, batch=4):
    net = vgg(
        "5 6 M 7 M",
        (6, 5),
        (6, 6, 2),
        CLASSES,
        conv_activation=hard_sigmoid,
        dense_activation=hard_sigmoid,
        gain=gain,
    )
    signal = LocalError((1,), (net.state_shapes[1],), CLASSES)
    model = energy(net, signal, "uniform")
    keys = jax.random.split(key, 3)
    x = jax.random.normal(keys[0], (batch, 6, 6, 2), dtype)
    targets = Targets(jax.random.randint(keys[1], (batch,), 0, CLASSES), 0.5)
    return net, model, init_params(net, signal, keys[2], dtype), x, targets


def test_phi_is_the_sum_of_inner_products_of_eq_1():
    with jax.enable_x64(True):
        net, model, params, x, _ = build(1.0, jax.random.key(0))
        states = model.init_states(jax.random.key(1), x)
        by_hand, lower = 0.0, x
        for coupling, layer, upper in zip(net.couplings, params["layers"], states, strict=True):
            output = coupling.apply(coupling.prepare(layer), lower)
            by_hand += jnp.einsum("bi,bi->b", upper.reshape(4, -1), output.reshape(4, -1))
            lower = upper
        assert_trees_all_close(net.phi(params, x, states), by_hand, rtol=1e-12)
        assert_trees_all_close(net.phi(*net.prepare(params, x), states), by_hand, rtol=1e-12)


def test_synchronous_sweep_is_sigma_of_the_gradient_of_phi_aug():
    with jax.enable_x64(True):
        _, model, params, x, targets = build(2.0, jax.random.key(0))
        states = model.init_states(jax.random.key(1), x)
        betas = jnp.asarray([0.5, -0.5])
        both = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf + 0.1]), states)
        moved = Sweep(model, nudged_value(model, params, x, targets, betas), "synchronous")(both)
        for phase, beta in enumerate(betas):
            start = jax.tree.map(lambda leaf, phase=phase: leaf[phase], both)
            slope = jax.grad(phi_aug, 3)(model, params, x, start, targets, beta)
            expected = jax.tree.map(lambda leaf: jnp.clip(leaf, 0, 1), slope)
            got = jax.tree.map(lambda leaf, phase=phase: leaf[phase], moved)
            assert_trees_all_close(got, expected, rtol=1e-12, atol=1e-12)


def test_alternating_sweep_moves_the_second_block_from_the_new_first_one():
    with jax.enable_x64(True):
        _, model, params, x, _ = build(2.0, jax.random.key(0))
        value = free_value(model, params, x)
        states = model.init_states(jax.random.key(1), x)
        for blocks in ((0, 1, 0, 1, 0), (1, 0, 1, 0, 1)):
            ordered = dataclasses.replace(model, blocks=blocks)
            once = Sweep(model, value, "synchronous")(states)
            half = tuple(
                new if block == 0 else old
                for new, old, block in zip(once, states, blocks, strict=True)
            )
            twice = Sweep(model, value, "synchronous")(half)
            expected = tuple(
                new if block == 1 else old
                for new, old, block in zip(twice, half, blocks, strict=True)
            )
            got = Sweep(ordered, value, "alternating")(states)
            assert_trees_all_close(got, expected, rtol=1e-12)


@pytest.mark.parametrize("blocks", [(0, 1, 0, 1, 0, 1), (1, 0, 1, 0, 1, 0), (0, 1, 2, 0, 1, 2)])
def test_alternating_sweeps_remember_pools_and_stay_the_same(blocks):
    """Carried places of maxima change no number, and a sweep costs what a synchronous one does."""
    with jax.enable_x64(True):
        net = vgg(
            "8 8 M 8 M 8 M 8",
            (4,),
            (16, 16, 3),
            CLASSES,
            conv_activation=hard_sigmoid,
            dense_activation=hard_sigmoid,
            gain=2.0,
        )
        model = dataclasses.replace(energy(net, NoSignal()), blocks=blocks)
        params = init_params(net, NoSignal(), jax.random.key(0), jnp.float64)
        x = jax.random.normal(jax.random.key(1), (4, 16, 16, 3), jnp.float64)
        states = net.init_states(jax.random.key(2), 4, "uniform", jnp.float64)
        value = free_value(model, *net.prepare(params, x))

        textbook = free_value(dataclasses.replace(model, recall=None), params, x)
        sweep, forgetful = (Sweep(model, v, "alternating", 1.5) for v in (value, textbook))
        position = sweep.begin(states)
        for _ in range(3):
            position, states = sweep.step(position), forgetful(states)
        assert_trees_all_close(position.states, states, atol=1e-12)

        def flops(function, *arguments):
            return jax.jit(function).lower(*arguments).compile().cost_analysis()["flops"]

        both = flops(Sweep(model, value, "synchronous"), states)
        assert flops(sweep.step, position) < 1.05 * both < flops(sweep, states)


@hypothesis.given(
    seed=st.integers(0, 2**31 - 1),
    gain=st.floats(0.1, 8.0),
    relaxation=st.sampled_from([0.5, 1.0, 1.5, 1.9]),
)
@hypothesis.settings(max_examples=30, deadline=None)
def test_energy_never_rises_under_alternating_updates(seed, gain, relaxation):
    with jax.enable_x64(True):
        params, x, states = _draw(seed)
        energies = _energies(jax.tree.map(lambda p: gain * p, params), x, states, relaxation)
        rises = jnp.diff(energies, axis=0)
        assert rises.max() <= 1e-10 * jnp.abs(energies).max()


_, MODEL, *_ = build(
    1.0, jax.random.key(0), jnp.float32
)  # one object for all examples: one compilation


def _draw(seed):
    _, model, params, x, _ = build(1.0, jax.random.key(seed))
    return params, x, model.init_states(jax.random.key(seed + 1), x)


@functools.partial(jax.jit, static_argnums=3)
def _energies(params, x, states, relaxation):
    """E before and after each of 15 sweeps, [16, batch]."""
    step = Sweep(MODEL, free_value(MODEL, params, x), "alternating", relaxation)

    def body(states, _):
        return step(states), energy_per_sample(MODEL, params, x, states)

    return jax.lax.scan(body, states, length=16)[1]


def test_synchronous_updates_can_cycle_where_alternating_ones_converge():
    """Two neurons that inhibit the state they are in: w = -3 flips both for ever (SPEC 1)."""
    model = Energy(
        phi=lambda w, x, s: w * s[0] * s[1] + s[0] + s[1],
        loss=lambda w, s, t: s[1],
        init_states=lambda key, x: (jnp.zeros_like(x), jnp.zeros_like(x)),
    )
    start = model.init_states(jax.random.key(0), jnp.zeros(1))
    value = free_value(model, -3.0, jnp.zeros(1))
    for order, converges in (("synchronous", False), ("alternating", True)):
        solution = Tolerance(50, order, tol=1e-6).run(model, value, start)
        assert (float(solution.residual) <= 1e-6) == converges


def test_a_user_written_energy_over_a_dict_of_states_trains():
    """A Hopfield MLP with a skip connection, in the twenty lines that the README promises."""

    def phi(params, x, states):
        hidden, out = states["hidden"], states["out"]
        drive = x @ params["input"] + params["bias"]
        skip = jnp.sum((x @ params["skip"]) * out, -1)
        return jnp.sum(drive * hidden, -1) + jnp.sum((hidden @ params["output"]) * out, -1) + skip

    def loss(params, states, targets):
        return 0.5 * jnp.sum((states["out"] - targets) ** 2, -1)

    def init_states(key, x):
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


def test_blocks_and_activations_are_prefixes_of_the_states():
    model = Energy(
        phi=lambda p, x, s: jnp.sum(s["a"][0] * s["b"] + 2 * s["a"][1], -1),
        loss=lambda p, s, t: jnp.sum(s["b"], -1),
        init_states=lambda key, x: None,
        activation={"a": lambda v: v, "b": lambda v: 10 * v},
        blocks={"a": 1, "b": 0},
    )
    states = {"a": (jnp.full((1, 1), 3.0), jnp.zeros((1, 1))), "b": jnp.full((1, 1), 5.0)}
    moved = Sweep(model, free_value(model, None, None), "alternating")(states)
    # b moves first, to 10 * a[0] = 30; then a[0] to the new b, and a[1] to its constant drive 2.
    expected = {"a": (jnp.full((1, 1), 30.0), jnp.full((1, 1), 2.0)), "b": jnp.full((1, 1), 30.0)}
    assert_trees_all_close(moved, expected)


@pytest.mark.parametrize("order", ["synchronous", "alternating"])
def test_over_relaxation_has_the_same_fixed_point(order):
    with jax.enable_x64(True):
        _, model, params, x, _ = build(0.4, jax.random.key(3))
        value, start = free_value(model, params, x), model.init_states(jax.random.key(1), x)
        plain = Tolerance(3000, order, tol=1e-13).run(model, value, start).states
        relaxed = Tolerance(3000, order, 0.7, tol=1e-13).run(model, value, start).states
        assert_trees_all_close(plain, relaxed, atol=1e-10)
