"""Vector fields: EP is exact where no energy is, with the correction and not without it."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chex import assert_trees_all_close
from jax.flatten_util import ravel_pytree

from jaxep import (
    BPTT,
    EP,
    AndersonAcceleration,
    Energy,
    FieldEP,
    Fixed,
    FixedPointIteration,
    Implicit,
    Tolerance,
    VectorField,
    centered,
    equilibrium,
    hard_sigmoid,
    holomorphic,
    one_sided,
)
from jaxep.core.fields import asymmetry
from jaxep.core.objective import free_objective
from jaxep.core.sweep import Sweep

BATCH, SIZE, OUT = 4, 6, 3
SETTLED = Tolerance(2000, "alternating", tol=1e-14)
SIGMAS = {
    "tanh": jnp.tanh,
    "hard_sigmoid": hard_sigmoid,
    "softmax, whose derivative is a symmetric matrix": {"u": jax.nn.softmax, "v": jnp.tanh},
}


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def field(w, x, states):
    """A recurrent layer u and another v above it; no weight is used twice."""
    u, v = states["u"], states["v"]
    drive = u @ w["recurrent"] + v @ w["back"] + x @ w["in"] + w["bias"]
    return {"u": drive, "v": jnp.tanh(u @ w["up"]) + 0.2}


def loss(w, states, targets):
    explicit = jnp.sum(w["bias"][:OUT] * states["v"], -1)
    return 0.5 * jnp.sum((states["v"] - targets) ** 2, -1) + explicit


def zeros(key, w, x):
    return {"u": jnp.zeros((len(x), SIZE), x.dtype), "v": jnp.zeros((len(x), OUT), x.dtype)}


def model(sigma=jnp.tanh, **changes):
    return dataclasses.replace(VectorField(field, loss, zeros, sigma), **changes)


def problem():
    rng = np.random.default_rng(0)
    shapes = {"recurrent": (SIZE, SIZE), "back": (OUT, SIZE), "in": (2, SIZE), "up": (SIZE, OUT)}
    w = {name: jnp.asarray(0.3 * rng.normal(size=shape)) for name, shape in shapes.items()}
    w["bias"] = jnp.full(SIZE, 0.3)
    return w, (
        jnp.asarray(rng.normal(size=(BATCH, 2))),
        jnp.asarray(rng.uniform(size=(BATCH, OUT))),
    )


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def gradient(estimator, system, w, batch):
    run = jax.jit(estimator.value_and_grad(system))
    return flat(run(w, batch, jax.random.key(1))[1])


@functools.cache
def exact_gradient(sigma):
    """By the implicit function theorem, of a σ by its name; itself checked against differences."""
    return gradient(Implicit(SETTLED, tol=1e-13), model(SIGMAS[sigma]), *problem())


def apart(found, exact):
    return np.linalg.norm(found - exact) / np.linalg.norm(exact)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_the_implicit_gradient_is_that_of_finite_differences_and_of_bptt(sigma):
    system, (w, batch), exact = model(SIGMAS[sigma]), problem(), exact_gradient(sigma)
    assert apart(gradient(BPTT(Fixed(120)), system, w, batch), exact) < 1e-9

    @jax.jit
    def settled_loss(w):
        states = equilibrium(system, SETTLED, w, batch[0]).states
        return jnp.mean(loss(w, states, batch[1]))

    numbers, rebuild = ravel_pytree(w)
    for direction in np.random.default_rng(1).normal(size=(3, numbers.size)):
        ends = [settled_loss(rebuild(numbers + h * direction)) for h in (1e-5, -1e-5)]
        np.testing.assert_allclose((ends[0] - ends[1]) / 2e-5, exact @ direction, rtol=1e-6)


@pytest.mark.parametrize(
    ("sigma", "stencil", "order", "beta"),
    [
        *((sigma, centered, 2, 4e-3) for sigma in SIGMAS),
        ("tanh", one_sided, 1, 4e-3),
        ("tanh", holomorphic(4), 4, 0.1),
    ],
)
def test_corrected_it_goes_to_the_exact_gradient_with_the_order_of_the_stencil(
    sigma, stencil, order, beta
):
    system, (w, batch), exact = model(SIGMAS[sigma]), problem(), exact_gradient(sigma)

    @jax.jit
    def estimate(beta):
        ep = EP(beta, SETTLED, SETTLED, stencil)
        return ep.value_and_grad(system)(w, batch, jax.random.key(1))[1]

    betas = beta / np.array([1, 2, 4])
    errors = [apart(flat(estimate(beta)), exact) for beta in betas]
    assert errors[-1] < 10 * betas[-1] ** order
    assert np.polyfit(np.log(betas), np.log(errors), 1)[0] == pytest.approx(order, abs=0.1), errors


@pytest.mark.parametrize("sigma", SIGMAS)
def test_naive_it_is_biased_however_small_the_nudge(sigma):
    system, (w, batch), exact = model(SIGMAS[sigma]), problem(), exact_gradient(sigma)

    @jax.jit
    def estimate(beta):
        naive = FieldEP(beta, SETTLED, SETTLED, corrected=False)
        return naive.value_and_grad(system)(w, batch, jax.random.key(1))[1]

    errors = [apart(flat(estimate(beta)), exact) for beta in (1e-3, 1e-4)]
    assert errors[1] > 0.05 and errors[1] == pytest.approx(errors[0], rel=1e-2)


def test_the_jacobian_of_each_sample_is_its_own():
    system, (w, (x, targets)) = model(), problem()
    ep = EP(1e-3, SETTLED, SETTLED)
    whole = gradient(ep, system, w, (x, targets))
    one_by_one = jax.jit(ep.value_and_grad(system))
    alone = [
        flat(one_by_one(w, (x[i : i + 1], targets[i : i + 1]), jax.random.key(1))[1])
        for i in range(BATCH)
    ]
    np.testing.assert_allclose(whole, np.mean(alone, axis=0), rtol=1e-7, atol=1e-10)


def test_a_field_that_is_a_gradient_is_the_energy():
    def phi(w, x, states):
        u, v = states["u"], states["v"]
        inner = jnp.sum((x @ w["in"] + w["bias"]) * u, -1) + jnp.sum(jnp.tanh(u @ w["up"]) * v, -1)
        return inner + 0.5 * jnp.einsum("bi,ij,bj->b", u, w["recurrent"], u)

    def slope(w, x, states):
        return jax.grad(lambda states: jnp.sum(phi(w, x, states)))(states)

    w, (x, targets) = problem()
    energy, same = Energy(phi, loss, zeros, jnp.tanh), model(field=slope)
    states = jax.tree.map(lambda leaf: leaf + 0.1, zeros(None, w, x))
    both = jax.tree.map(lambda leaf: jnp.stack([leaf + 0.1, leaf]), states)
    moved = []
    for system in (energy, same):
        free = free_objective(system, w, x)
        nudged = free.anchored(states).nudged(targets, jnp.asarray([0.5, -0.5]))
        sweeps = [
            Sweep.over(free, states, "alternating", 1.3),
            Sweep.over(nudged, both, "synchronous"),
        ]
        moved.append((sweeps[0](states), sweeps[1](both), sweeps[0].moves))
    assert_trees_all_close(*moved, rtol=1e-12)
    expected = gradient(EP(1e-4, SETTLED, SETTLED), energy, w, (x, targets))
    for ep in (FieldEP(1e-4, SETTLED, SETTLED), FieldEP(1e-4, SETTLED, SETTLED, corrected=False)):
        assert apart(gradient(ep, same, w, (x, targets)), expected) < 1e-6


@pytest.mark.parametrize(
    "solver",
    [
        Fixed(120),
        Fixed(80, "alternating", 1.2),
        Tolerance(200, tol=1e-12),
        FixedPointIteration(200, tol=1e-11),
        AndersonAcceleration(60, tol=1e-11),
    ],
    ids=lambda solver: f"{type(solver).__name__} {solver.order}",
)
def test_every_solver_settles_free_and_nudged(solver):
    system, (w, batch) = model(), problem()
    states = [equilibrium(system, s, w, batch[0]).states for s in (solver, SETTLED)]
    assert_trees_all_close(*states, atol=1e-5)
    found = gradient(EP(1e-2, SETTLED, solver), system, w, batch)
    assert apart(found, exact_gradient("tanh")) < 2e-3


def test_blocks_are_read_off_the_field_where_one_direction_alone_is_wired():
    def up_alone(w, x, states):
        return {"a": x @ w["in"], "b": states["a"] + 0.0, "c": states["b"] * 0.5}

    def start(key, w, x):
        return dict.fromkeys("abc", jnp.zeros((len(x), SIZE)))

    w, (x, _) = problem()
    system = model(field=up_alone, init_states=start)
    states = start(None, w, x)
    assert Sweep.over(free_objective(system, w, x), states, "alternating").moves == ((0, 2), (1,))
    wrong = dataclasses.replace(system, blocks={"a": 0, "b": 0, "c": 1})
    with pytest.raises(ValueError, match="a and b interact"):
        Sweep.over(free_objective(wrong, w, x), states, "alternating")


def test_states_of_one_array_and_what_is_prepared_once():
    prepared = []

    def prepare(w, x):
        prepared.append(1)
        return {"recurrent": 2 * w["recurrent"]}, x @ w["in"]

    def drive(w, x, states):
        return 0.5 * states @ w["recurrent"] + x

    def first(w, states, targets):
        return jnp.sum((states[:, :OUT] - targets) ** 2, -1)

    def start(key, w, x):
        return jnp.zeros((len(x), SIZE))

    w, batch = problem()
    system = VectorField(drive, first, start, jnp.tanh, prepare=prepare)
    found = gradient(EP(1e-4, SETTLED, SETTLED), system, w, batch)
    # For the phases, and for the derivative in the parameters.
    assert len(prepared) == 2
    exact = gradient(Implicit(SETTLED, tol=1e-13), system, w, batch)
    assert apart(found, exact) < 1e-7


def test_states_in_bfloat16_keep_their_type_and_gradients_theirs():
    w, (x, targets) = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), problem())
    run = jax.jit(EP(0.1, Fixed(30), Fixed(30)).value_and_grad(model()))
    _, exact, _ = run(w, (x, targets), jax.random.key(1))
    _, grads, aux = run(w, (x.astype(jnp.bfloat16), targets), jax.random.key(1))
    assert {leaf.dtype for leaf in jax.tree.leaves(aux.nudged.states)} == {jnp.dtype(jnp.bfloat16)}
    assert {leaf.dtype for leaf in jax.tree.leaves(grads)} == {jnp.dtype(jnp.float32)}
    assert apart(flat(grads), flat(exact)) < 0.2


def test_asymmetry_is_that_of_the_dense_jacobian():
    system, (w, (x, _)) = model(), problem()
    states = equilibrium(system, SETTLED, w, x).states

    def row(numbers, x):
        whole = {"u": numbers[None, :SIZE], "v": numbers[None, SIZE:]}
        return jnp.concatenate([leaf[0] for leaf in jax.tree.leaves(field(w, x[None], whole))])

    numbers = jnp.concatenate([states["u"], states["v"]], -1)
    dense = jax.vmap(jax.jacobian(row))(numbers, x)
    expected = 0.5 * jnp.sum((dense - dense.swapaxes(1, 2)) ** 2, (1, 2))
    keys = jax.random.split(jax.random.key(0), 20_000)
    drawn = jax.jit(jax.vmap(lambda key: asymmetry(system, w, x, states, key)))(keys)
    np.testing.assert_allclose(drawn.mean(0), expected, atol=4 * float(drawn.std() / 20_000**0.5))
