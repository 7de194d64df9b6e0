"""Every solver finds the same equilibrium, stops when it says, and reports its residual."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chex import assert_trees_all_close

from jaxep import (
    AndersonAcceleration,
    Energy,
    Fixed,
    FixedPointIteration,
    Tolerance,
    equilibrium,
    nets,
)
from jaxep.core.objective import free_objective
from jaxep.core.solvers import relative_residual
from jaxep.core.sweep import Sweep

SOLVERS = [Fixed, Tolerance, FixedPointIteration, AndersonAcceleration]


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def problem():
    """A quadratic energy with unique equilibrium (I - W) ξ = b, inside of σ = identity."""
    size = 8
    raw = np.random.default_rng(0).normal(size=(size, size))
    coupling = raw + raw.T
    # Two blocks without couplings of their own, so that alternating sweeps are exact.
    coupling[:4, :4] = coupling[4:, 4:] = 0
    coupling *= 0.8 / np.abs(np.linalg.eigvalsh(coupling)).max()
    bias = np.random.default_rng(1).normal(size=size)

    def phi(params, x, states):
        s = jnp.concatenate(states, -1)
        return 0.5 * jnp.sum((s @ coupling) * s, -1) + s @ bias

    model = Energy(
        phi,
        loss=lambda p, s, t: jnp.sum(s[0], -1),
        init_states=lambda key, params, x: (jnp.zeros((1, 4)), jnp.zeros((1, 4))),
        activation=lambda v: v,
    )
    exact = np.linalg.solve(np.eye(size) - coupling, bias)
    return model, (exact[None, :4], exact[None, 4:])


@pytest.mark.parametrize("order", ["synchronous", "alternating"])
@pytest.mark.parametrize("kind", SOLVERS)
def test_every_solver_finds_the_solution_of_the_dense_system(kind, order):
    model, exact = problem()
    options = {} if kind is Fixed else {"tol": 1e-12}
    solver = kind(300, order, **options)
    start = model.init_states(None, None, None)
    solution = jax.jit(lambda s: solver.run(free_objective(model, None, None), s))(start)
    assert_trees_all_close(solution.states, exact, atol=1e-9)
    assert float(solution.residual) < 1e-11


def test_fixed_does_exactly_its_steps_and_reports_the_last_change():
    model, _ = problem()
    objective, start = free_objective(model, None, None), model.init_states(None, None, None)
    step = Sweep.over(objective, start, "synchronous")
    third = step(step(step(start)))
    solution = Fixed(4).run(objective, start)
    assert int(solution.steps) == 4
    assert_trees_all_close(solution.states, step(third))
    expected = relative_residual(step(third), third)
    assert float(solution.residual) == pytest.approx(float(expected))


@pytest.mark.parametrize("kind", SOLVERS[1:])
def test_tolerance_stops_early_and_at_most_at_its_steps(kind):
    model, _ = problem()
    objective, start = free_objective(model, None, None), model.init_states(None, None, None)
    loose, tight = (kind(300, tol=tol).run(objective, start) for tol in (1e-2, 1e-8))
    assert 0 < int(loose.steps) < int(tight.steps) < 300
    assert float(tight.residual) <= 1e-8 < float(loose.residual) <= 1e-2
    capped = kind(3, tol=1e-12).run(objective, start)
    assert int(capped.steps) == 3
    assert float(capped.residual) > 1e-12


def test_alternating_needs_about_half_the_sweeps():
    model, _ = problem()
    objective, start = free_objective(model, None, None), model.init_states(None, None, None)
    plain = Tolerance(500, tol=1e-10).run(objective, start)
    alternating = Tolerance(500, "alternating", tol=1e-10).run(objective, start)
    assert int(alternating.steps) <= 0.6 * int(plain.steps)


def test_zero_states_give_a_finite_residual():
    zeros = (jnp.zeros(3),)
    assert float(relative_residual(zeros, zeros)) == 0


@pytest.mark.parametrize("kind", SOLVERS)
def test_equilibrium_is_the_solution_from_a_start_of_ones_own_or_the_energys(kind):
    model, exact = problem()
    solver = kind(300, "alternating")
    from_zeros = equilibrium(model, solver, None, None)
    expected = solver.run(free_objective(model, None, None), model.init_states(None, None, None))
    assert_trees_all_close(from_zeros, expected)
    near = jax.tree.map(lambda leaf: jnp.asarray(leaf) + 1e-9, exact)
    if kind is not Fixed:
        from_near = equilibrium(model, solver, None, None, start=near)
        assert int(from_near.steps) == 1 < int(from_zeros.steps)


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize("kind", SOLVERS)
def test_states_keep_their_type_in_every_solver(kind, dtype, x64):
    with jax.enable_x64(x64):
        model = nets.mlp((6,), (4,), 3)
        params = model.init_params(jax.random.key(0), jnp.float32)
        x = jnp.linspace(0, 1, 8, dtype=jnp.float32).reshape(2, 4).astype(dtype)
        free = equilibrium(model.energy(), kind(20, "alternating"), params, x)
        assert {leaf.dtype for leaf in free.states.values()} == {jnp.dtype(dtype)}
        assert float(free.residual) < 1e-2
