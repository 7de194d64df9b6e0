"""Nothing fails silently: each misuse of the core is a ValueError of one sentence that names it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chex import assert_trees_all_close

from jaxep import (
    BPTT,
    EP,
    AndersonAcceleration,
    Energy,
    Fixed,
    FixedPointIteration,
    Implicit,
    Stencil,
    Tolerance,
    energy_per_sample,
    equilibrium,
    initial_states,
    phi_aug,
)
from jaxep.core.solvers import Solver, as_solver

BATCH, IN, OUT = 4, 3, 2
SOLVERS = [Fixed, Tolerance, FixedPointIteration, AndersonAcceleration]


def phi(w, x, s):
    return jnp.sum((x @ w) * s["h"], -1) + jnp.sum(s["h"] * s["out"], -1)


def loss(w, s, targets):
    return 0.5 * jnp.sum((s["out"] - targets) ** 2, -1)


def zeros(key, w, x):
    return {name: jnp.zeros((len(x), OUT)) for name in ("h", "out")}


ENERGY = Energy(phi, loss, zeros)
W, X, Y = jnp.ones((IN, OUT)), jnp.ones((BATCH, IN)), jnp.ones((BATCH, OUT))
KEY = jax.random.key(0)


def refused(function, *names):
    """`function` raises one sentence that has all of `names`."""
    with pytest.raises(ValueError) as caught:
        function()
    message = str(caught.value)
    assert "\n" not in message and len(message) < 300
    for name in names:
        assert name in message, message


@pytest.mark.parametrize("kind", SOLVERS)
@pytest.mark.parametrize("word", ["Synchronous", "sync", "parallel", "", None, 1])
def test_an_order_that_is_none_is_refused(kind, word):
    refused(lambda: kind(3, word), f"{kind.__name__}: order", repr(word), "alternating")


@pytest.mark.parametrize("kind", SOLVERS)
@pytest.mark.parametrize("steps", [0, -3, 2.5, True, "3", None, float("nan"), np.float32(3)])
def test_a_number_of_steps_that_is_none_is_refused(kind, steps):
    refused(lambda: kind(steps), f"{kind.__name__}: steps", "integer of at least 1")


@pytest.mark.parametrize("kind", SOLVERS)
@pytest.mark.parametrize("relaxation", [0, 0.0, 2, -0.5, float("nan"), float("inf"), "1", None])
def test_a_relaxation_outside_of_0_and_2_is_refused(kind, relaxation):
    refused(lambda: kind(3, relaxation=relaxation), f"{kind.__name__}: relaxation", "under 2")


@pytest.mark.parametrize("kind", SOLVERS[1:])
@pytest.mark.parametrize("tol", [0, 0.0, -1e-3, float("nan"), "small"])
def test_a_tolerance_that_is_none_is_refused(kind, tol):
    refused(lambda: kind(3, tol=tol), f"{kind.__name__}: tol", repr(tol))


@pytest.mark.parametrize("options", [{"history": 0}, {"history": 2.5}, {"ridge": -1.0}])
def test_options_of_anderson_are_checked(options):
    refused(lambda: AndersonAcceleration(9, **options), f"AndersonAcceleration: {[*options][0]}")


@pytest.mark.parametrize("steps", [np.int64(3), jnp.asarray(3), 3])
def test_integers_of_any_kind_are_numbers_of_steps(steps):
    assert int(equilibrium(ENERGY, Fixed(steps), W, X).steps) == 3


@pytest.mark.parametrize("beta", [0, 0.0, -0.0, float("nan"), float("inf"), "0.1", None, True])
def test_a_beta_that_is_none_is_refused(beta):
    refused(lambda: EP(beta, 3, 3), "EP: beta", repr(beta), "not 0")


@pytest.mark.parametrize("beta", [np.float32(0), jnp.asarray(0.0), np.asarray(float("nan"))])
def test_a_beta_of_an_array_is_looked_at_too(beta):
    refused(lambda: EP(beta, 3, 3), "EP: beta", "not 0")


def test_a_traced_beta_passes():
    at = jax.jit(lambda b: EP(b, 5, 5).value_and_grad(ENERGY)(W, (X, Y), KEY)[1])
    expected = EP(0.5, 5, 5).value_and_grad(ENERGY)(W, (X, Y), KEY)[1]
    assert_trees_all_close(at(0.5), expected, rtol=1e-6)


@pytest.mark.parametrize("unrolled", [0, -1, 2.5, True, 9, "all"])
def test_steps_to_go_back_through_are_1_to_T(unrolled):
    refused(lambda: BPTT(Fixed(8), unrolled), "BPTT: unrolled", str(unrolled))


@pytest.mark.parametrize(
    ("points", "weights"),
    [
        ((1.0, -1.0), (1.0, -1.0)),  # twice the slope
        ((1.0, -1.0), (0.5, 0.5)),
        ((1.0, 0.0), (1.0, 0.0)),  # no difference
        ((1.0, 1.0), (0.5, 0.5)),
        ((1.0, -1.0, 0.0), (0.5, -0.5)),
        ((0.0,), (0.0,)),
        ((), ()),
        ((1.0, float("nan")), (1.0, -1.0)),
    ],
)
def test_points_and_weights_that_are_no_first_derivative_are_refused(points, weights):
    refused(lambda: Stencil(points, weights), "Stencil: points", "weights", "sum to 0")


def test_other_settings_that_are_none_are_refused():
    refused(lambda: EP(0.1, 3, 3, "centered"), "EP: stencil", "'centered'", "four_point")
    refused(lambda: Implicit(3, tol=0), "Implicit: tol")
    refused(lambda: Implicit(3, steps=0), "Implicit: steps")
    refused(lambda: Energy(phi, None, zeros), "Energy: loss = None", "function")
    refused(lambda: dataclasses.replace(ENERGY, phi=3), "Energy: phi = 3")


NO_SOLVERS = ["fixed", None, 2.5, True, Fixed, lambda s: s]


@pytest.mark.parametrize("solver", NO_SOLVERS)
def test_what_is_no_solver_is_refused(solver):
    for make in (
        lambda: EP(0.1, solver, 3),
        lambda: EP(0.1, 3, solver),
        lambda: BPTT(solver),
        lambda: Implicit(solver),
        lambda: equilibrium(ENERGY, solver, W, X),
    ):
        refused(make, "solver = ", "number of sweeps")


def test_a_number_where_a_solver_is_meant_is_so_many_fixed_sweeps():
    assert as_solver(7) == Fixed(7) == as_solver(np.int32(7))
    short = (EP(0.1, 7, 3), BPTT(7, 2), BPTT(7), Implicit(7))
    long = (EP(0.1, Fixed(7), Fixed(3)), BPTT(Fixed(7), 2), BPTT(Fixed(7), 7), Implicit(Fixed(7)))
    assert short == long
    for numbers, solvers in zip(short, long, strict=True):
        mine, other = (e.value_and_grad(ENERGY)(W, (X, Y), KEY) for e in (numbers, solvers))
        assert_trees_all_close(mine, other)
    assert_trees_all_close(equilibrium(ENERGY, 7, W, X), equilibrium(ENERGY, Fixed(7), W, X))
    for bad in (0, -2):
        refused(lambda bad=bad: EP(0.1, bad, 3), "steps", str(bad))


ESTIMATORS = [EP(0.1, 3, 3), BPTT(3), Implicit(3)]
WRONG = {
    "a loss of the mean": (
        {"loss": lambda w, s, t: loss(w, s, t).mean()},
        "loss returns []",
        "[4]",
    ),
    "a loss of the sum": ({"loss": lambda w, s, t: loss(w, s, t).sum()}, "loss returns []", "[4]"),
    "a loss for each output": (
        {"loss": lambda w, s, t: (s["out"] - t) ** 2},
        "loss returns [4, 2]",
        "[4]",
    ),
    "a loss with an axis more": ({"loss": lambda w, s, t: loss(w, s, t)[:, None]}, "[4, 1]"),
    "a phi for each unit": ({"phi": lambda w, x, s: (x @ w) * s["h"]}, "phi returns [4, 2]", "[4]"),
    "a phi with an axis more": ({"phi": lambda w, x, s: phi(w, x, s)[None]}, "phi returns [1, 4]"),
    "states without a batch": (
        {"init_states": lambda k, w, x: {"h": jnp.zeros(OUT), "out": jnp.zeros((BATCH, OUT))}},
        "states",
        "out is [4, 2]",
        "h [2]",
    ),
    "a scalar state": (
        {"init_states": lambda k, w, x: {"h": jnp.zeros(()), "out": jnp.zeros((BATCH, OUT))}},
        "h is []",
    ),
    "another batch": (
        {"init_states": lambda k, w, x: zeros(k, w, jnp.ones((1, IN)))},
        "batch of 1",
        "x one of 4",
    ),
    "states of integers": (
        {"init_states": lambda k, w, x: jax.tree.map(lambda s: s.astype(int), zeros(k, w, x))},
        "h is int",
        "floating",
    ),
    "no states": ({"init_states": lambda k, w, x: {}}, "init_states gives no states"),
    "a sigma for a leaf that is not there": (
        {"activation": {"h": jnp.tanh, "o": jnp.tanh}},
        "activation does not fit the states",
        "h, out",
    ),
}


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("jitted", [False, True], ids=["plain", "jit"])
@pytest.mark.parametrize("what", WRONG)
def test_an_energy_of_wrong_shapes_is_refused_when_it_is_traced(what, jitted, estimator):
    changes, *names = WRONG[what]
    estimate = estimator.value_and_grad(dataclasses.replace(ENERGY, **changes))
    estimate = jax.jit(estimate) if jitted else estimate
    refused(lambda: estimate(W, (X, Y), KEY), *names)


def test_the_loss_of_the_sum_of_one_sample_is_no_exception():
    """[batch] of 1 and [] are different shapes, so that a batch of 1 tells it already."""
    energy = dataclasses.replace(ENERGY, loss=lambda w, s, t: loss(w, s, t).mean())
    refused(lambda: EP(0.1, 3, 3).value_and_grad(energy)(W, (X[:1], Y[:1]), KEY), "loss returns []")


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
def test_a_start_is_checked_as_initial_states_are(estimator):
    estimate = estimator.value_and_grad(ENERGY)
    refused(lambda: estimate(W, (X, Y), KEY, zeros(None, W, X[:2])), "batch of 2", "x one of 4")
    ints = {"h": jnp.zeros((BATCH, OUT), int), "out": jnp.zeros((BATCH, OUT))}
    refused(lambda: estimate(W, (X, Y), KEY, ints), "h is int")
    refused(lambda: equilibrium(ENERGY, 3, W, X, start=ints), "h is int")


def test_functions_of_states_check_them_too():
    states = zeros(None, W, X)
    one = {**states, "out": jnp.zeros((2, OUT))}
    refused(lambda: phi_aug(ENERGY, W, X, one, Y, 0.1), "out is [2, 2]")
    scalar = dataclasses.replace(ENERGY, phi=lambda w, x, s: phi(w, x, s).sum())
    refused(lambda: energy_per_sample(scalar, W, X, states), "phi returns []", "[4] here")
    refused(lambda: initial_states(ENERGY, jax.random.split(KEY, 3), W, X), "keys of", "3", "4")


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
def test_phi_may_be_the_sum_over_the_batch(estimator):
    summed = dataclasses.replace(ENERGY, phi=lambda w, x, s: phi(w, x, s).sum())
    mine, other = (estimator.value_and_grad(e)(W, (X, Y), KEY) for e in (ENERGY, summed))
    assert_trees_all_close(mine, other, rtol=1e-6)


def test_a_solver_of_ones_own_needs_one_method():
    @dataclasses.dataclass(frozen=True)
    class Twice(Solver):
        def iterate(self, sweep, states):
            return Fixed(2 * self.steps).iterate(sweep, states)

    mine = EP(0.1, Twice(2, "alternating"), 3).value_and_grad(ENERGY)(W, (X, Y), KEY)
    other = EP(0.1, Fixed(4, "alternating"), 3).value_and_grad(ENERGY)(W, (X, Y), KEY)
    assert_trees_all_close(mine, other)
