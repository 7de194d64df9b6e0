"""One pass of the dynamics: the transition is jax.grad, and the energy never rises."""

import dataclasses
import functools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import pytest
from chex import assert_trees_all_close

from jaxep import Energy, Tolerance, energy_per_sample, equilibrium, phi_aug
from jaxep.core.sweep import Sweep, free_objective
from jaxep.nets import Targets, local_errors, vgg

CLASSES = 3
LAYERS = ("conv1", "conv2", "conv3", "fc1", "fc2")


def build(gain, key, dtype=jnp.float64, batch=4):
    net = vgg("5 6 M 7 M", (6, 5), (6, 6, 2), CLASSES, gain=gain)
    net = net.with_heads(*local_errors(net.network, ["conv2"], CLASSES))
    keys = jax.random.split(key, 3)
    x = jax.random.normal(keys[0], (batch, 6, 6, 2), dtype)
    targets = Targets(jax.random.randint(keys[1], (batch,), 0, CLASSES), 0.5)
    params = jax.jit(net.init_params, static_argnums=1)(keys[2], dtype)
    return net.energy("uniform"), params, x, targets


def test_synchronous_sweep_is_sigma_of_the_gradient_of_phi_aug():
    with jax.enable_x64(True):
        model, params, x, targets = build(2.0, jax.random.key(0))
        states = model.init_states(jax.random.key(1), params, x)
        betas = jnp.asarray([0.5, -0.5])
        both = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf + 0.1]), states)
        objective = free_objective(model, params, x).nudged(targets, betas)
        moved = jax.jit(Sweep.over(objective, both, "synchronous"))(both)
        climb = jax.jit(jax.grad(phi_aug, 3), static_argnums=0)
        for phase, beta in enumerate(betas):
            start = jax.tree.map(lambda leaf, phase=phase: leaf[phase], both)
            slope = climb(model, params, x, start, targets, beta)
            expected = jax.tree.map(lambda leaf: jnp.clip(leaf, 0, 1), slope)
            got = jax.tree.map(lambda leaf, phase=phase: leaf[phase], moved)
            assert_trees_all_close(got, expected, rtol=1e-12, atol=1e-12)


def test_alternating_sweep_moves_the_second_block_from_the_new_first_one():
    with jax.enable_x64(True):
        model, params, x, _ = build(2.0, jax.random.key(0))
        states = model.init_states(jax.random.key(1), params, x)
        once_all = jax.jit(Sweep.over(free_objective(model, params, x), states, "synchronous"))
        for numbers in ((0, 1, 0, 1, 0), (1, 0, 1, 0, 1)):
            blocks = dict(zip(LAYERS, numbers, strict=True))
            once = once_all(states)
            half = {name: once[name] if blocks[name] == 0 else states[name] for name in LAYERS}
            twice = once_all(half)
            expected = {name: twice[name] if blocks[name] == 1 else half[name] for name in LAYERS}
            ordered = free_objective(dataclasses.replace(model, blocks=blocks), params, x)
            got = jax.jit(Sweep.over(ordered, states, "alternating"))(states)
            assert_trees_all_close(got, expected, rtol=1e-12)


@pytest.mark.parametrize("blocks", [(0, 1, 0, 1, 0, 1), (1, 0, 1, 0, 1, 0), (0, 1, 2, 0, 1, 2)])
def test_alternating_sweeps_remember_pools_and_stay_the_same(blocks):
    """Carried places of maxima change no number, and a sweep costs what a synchronous one does."""
    with jax.enable_x64(True):
        net = vgg("8 8 M 8 M 8 M 8", (4,), (16, 16, 3), CLASSES, gain=2.0)
        blocks = dict(zip(net.network.layer_names, blocks, strict=True))
        model = dataclasses.replace(net.energy("uniform"), blocks=blocks)
        params = net.init_params(jax.random.key(0), jnp.float64)
        x = jax.random.normal(jax.random.key(1), (4, 16, 16, 3), jnp.float64)
        states = model.init_states(jax.random.key(2), params, x)

        # The same Φ as a plain function, which keeps nothing.
        plain = dataclasses.replace(model, phi=model.phi.phi)
        objectives = [free_objective(energy, params, x) for energy in (model, plain)]
        sweep, forgetful = (Sweep.over(o, states, "alternating", 1.5) for o in objectives)
        position = jax.jit(sweep.begin)(states)
        step, forget = jax.jit(sweep.step), jax.jit(forgetful)
        for _ in range(3):
            position, states = step(position), forget(states)
        assert_trees_all_close(position.states, states, atol=1e-12)

        def flops(function, *arguments):
            return function.lower(*arguments).compile().cost_analysis()["flops"]

        both = flops(jax.jit(Sweep.over(objectives[0], states, "synchronous")), states)
        assert flops(step, position) < 1.05 * both < flops(jax.jit(sweep), states)


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


MODEL, *_ = build(1.0, jax.random.key(0), jnp.float32)  # one for all examples: one compilation


def _draw(seed):
    model, params, x, _ = build(1.0, jax.random.key(seed))
    return params, x, model.init_states(jax.random.key(seed + 1), params, x)


@functools.partial(jax.jit, static_argnums=3)
def _energies(params, x, states, relaxation):
    """E before and after each of 15 sweeps, [16, batch]."""
    step = Sweep.over(free_objective(MODEL, params, x), states, "alternating", relaxation)

    def body(states, _):
        return step(states), energy_per_sample(MODEL, params, x, states)

    return jax.lax.scan(body, states, length=16)[1]


def test_synchronous_updates_can_cycle_where_alternating_ones_converge():
    """Two neurons that inhibit the state they are in: w = -3 flips both for ever (SPEC 1)."""
    model = Energy(
        phi=lambda w, x, s: w * s[0] * s[1] + s[0] + s[1],
        loss=lambda w, s, t: s[1],
        init_states=lambda key, params, x: (jnp.zeros_like(x), jnp.zeros_like(x)),
    )
    for order, converges in (("synchronous", False), ("alternating", True)):
        solution = equilibrium(model, Tolerance(50, order, tol=1e-6), -3.0, jnp.zeros(1))
        assert (float(solution.residual) <= 1e-6) == converges


def test_blocks_and_activations_are_prefixes_of_the_states():
    model = Energy(
        phi=lambda p, x, s: jnp.sum(s["a"][0] * s["b"] + 2 * s["a"][1], -1),
        loss=lambda p, s, t: jnp.sum(s["b"], -1),
        init_states=lambda key, params, x: None,
        activation={"a": lambda v: v, "b": lambda v: 10 * v},
        blocks={"a": 1, "b": 0},
    )
    states = {"a": (jnp.full((1, 1), 3.0), jnp.zeros((1, 1))), "b": jnp.full((1, 1), 5.0)}
    moved = Sweep.over(free_objective(model, None, None), states, "alternating")(states)
    # b moves first, to 10 * a[0] = 30; then a[0] to the new b, and a[1] to its constant drive 2.
    expected = {"a": (jnp.full((1, 1), 30.0), jnp.full((1, 1), 2.0)), "b": jnp.full((1, 1), 30.0)}
    assert_trees_all_close(moved, expected)


@pytest.mark.parametrize("order", ["synchronous", "alternating"])
def test_over_relaxation_has_the_same_fixed_point(order):
    with jax.enable_x64(True):
        model, params, x, _ = build(0.4, jax.random.key(3))
        solvers = Tolerance(3000, order, tol=1e-13), Tolerance(3000, order, 0.7, tol=1e-13)
        start = jax.random.key(1)
        settle = jax.jit(equilibrium, static_argnums=(0, 1))
        plain, relaxed = (settle(model, s, params, x, start).states for s in solvers)
        assert_trees_all_close(plain, relaxed, atol=1e-10)
