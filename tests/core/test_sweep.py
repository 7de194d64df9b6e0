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
from jaxep.core.objective import free_objective
from jaxep.core.sweep import Sweep
from jaxep.nets import Targets, local_errors, vgg
from tests.draws import inputs_of, params_of, states_of

CLASSES = 3
LAYERS = ("conv1", "conv2", "conv3", "fc1", "fc2")


NET = vgg("5 6 M 7 M", (6, 5), (6, 6, 2), CLASSES)
NET = NET.with_heads(*local_errors(NET.network, ["conv2"], CLASSES))
MODEL = NET.energy("uniform")  # one for all tests and examples: one compilation


def draw(seed, gain=1.0):
    """Parameters, a batch of 4, and states from U(0, 1)."""
    return params_of(NET, seed, gain), inputs_of(NET, 4, seed), states_of(NET, 4, seed)


def test_synchronous_sweep_is_sigma_of_the_gradient_of_phi_aug():
    with jax.enable_x64(True):
        params, x, states = draw(0, gain=2.0)
        targets = Targets(jnp.asarray([0, 2, 1, 1]), 0.5)
        betas = jnp.asarray([0.5, -0.5])
        both = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf + 0.1]), states)
        objective = free_objective(MODEL, params, x).nudged(targets, betas)
        moved = jax.jit(Sweep.over(objective, both, "synchronous"))(both)
        climb = jax.jit(jax.grad(phi_aug, 3), static_argnums=0)
        for phase, beta in enumerate(betas):
            start = jax.tree.map(lambda leaf, phase=phase: leaf[phase], both)
            slope = climb(MODEL, params, x, start, targets, beta)
            expected = jax.tree.map(lambda leaf: jnp.clip(leaf, 0, 1), slope)
            got = jax.tree.map(lambda leaf, phase=phase: leaf[phase], moved)
            assert_trees_all_close(got, expected, rtol=1e-12, atol=1e-12)


def test_alternating_sweep_moves_the_second_block_from_the_new_first_one():
    with jax.enable_x64(True):
        params, x, states = draw(0, gain=2.0)
        once_all = jax.jit(Sweep.over(free_objective(MODEL, params, x), states, "synchronous"))
        for numbers in ((0, 1, 0, 1, 0), (1, 0, 1, 0, 1)):
            blocks = dict(zip(LAYERS, numbers, strict=True))
            once = once_all(states)
            half = {name: once[name] if blocks[name] == 0 else states[name] for name in LAYERS}
            twice = once_all(half)
            expected = {name: twice[name] if blocks[name] == 1 else half[name] for name in LAYERS}
            ordered = free_objective(dataclasses.replace(MODEL, blocks=blocks), params, x)
            got = jax.jit(Sweep.over(ordered, states, "alternating"))(states)
            assert_trees_all_close(got, expected, rtol=1e-12)


@pytest.mark.parametrize("blocks", [(0, 1, 0, 1, 0, 1), (1, 0, 1, 0, 1, 0), (0, 1, 2, 0, 1, 2)])
def test_alternating_sweeps_remember_pools_and_stay_the_same(blocks):
    """Carried places of maxima change no number, and a sweep costs what a synchronous one does."""
    with jax.enable_x64(True):
        net = vgg("8 8 M 8 M 8 M 8", (4,), (16, 16, 3), CLASSES)
        blocks = dict(zip(net.network.layer_names, blocks, strict=True))
        model = dataclasses.replace(net.energy("uniform"), blocks=blocks)
        params, x, states = params_of(net, gain=2.0), inputs_of(net, 4), states_of(net, 4)

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
        energies = _energies(*draw(seed, gain), relaxation)
        rises = jnp.diff(energies, axis=0)
        assert rises.max() <= 1e-10 * jnp.abs(energies).max()


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
        params, x, start = draw(4, gain=0.4)  # max pools have several equilibria; here all meet
        solvers = Tolerance(3000, order, tol=1e-13), Tolerance(3000, order, 0.7, tol=1e-13)
        settle = jax.jit(equilibrium, static_argnums=(0, 1))
        plain, relaxed = (settle(MODEL, s, params, x, None, start).states for s in solvers)
        assert_trees_all_close(plain, relaxed, atol=1e-10)
