"""σ: what is known of one, over-relaxation that keeps fixed points, and σ that needs a context."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chex import assert_trees_all_close

from jaxep import EP, ContextualActivation, Energy, Fixed, Implicit, Tolerance, equilibrium
from jaxep.core import activations
from jaxep.core.activations import is_projection, is_rising
from jaxep.core.objective import free_objective
from jaxep.core.solvers import relative_residual
from jaxep.core.sweep import Sweep
from jaxep.core.theory import transition

BATCH, SIZES = 5, (3, 6, 4)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


PROJECTIONS = {
    "hard_sigmoid": activations.hard_sigmoid,
    "relu": activations.relu,
    "jax.nn.relu": jax.nn.relu,
    "relu6": activations.relu6,
    "jax.nn.relu6": jax.nn.relu6,
    "hard_tanh": activations.hard_tanh,
    "linear": activations.linear,
    "a lambda": lambda v: jnp.minimum(v, 0.3),
    "a partial": functools.partial(jnp.clip, min=-0.5, max=2.0),
    "an interval off 0": lambda v: jnp.clip(v, 1, 3),
    "jitted": jax.jit(lambda v: jnp.where(v > 0, v, 0)),
}
RISING = {
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "softplus": jax.nn.softplus,
    "elu": jax.nn.elu,
    "leaky relu": jax.nn.leaky_relu,
    "half": lambda v: v / 2,
    "shifted": lambda v: v + 1,
    "hard_sigmoid of jax": jax.nn.hard_sigmoid,  # of another slope
}
OTHERS = {
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
    "abs": jnp.abs,  # is its own square, yet no projection on an interval
    "softmax": jax.nn.softmax,
    "normalised": lambda v: v / jnp.linalg.norm(v, axis=-1, keepdims=True),
    "of one shape": lambda v: jnp.clip(v.reshape(2, 7), 0, 1),
    "sees more": ContextualActivation(lambda a, p, x, s: a),
}


@pytest.mark.parametrize("name", [*PROJECTIONS, *RISING, *OTHERS])
def test_projections_and_rising_functions_are_recognised_also_while_tracing(name):
    sigma = {**PROJECTIONS, **RISING, **OTHERS}[name]
    expected = name in PROJECTIONS, name in PROJECTIONS or name in RISING
    seen = []
    jax.jit(lambda x: seen.append((is_projection(sigma), is_rising(sigma))) or x)(1.0)
    assert seen == [expected] == [(is_projection(sigma), is_rising(sigma))]


def system(sigma, gain=1.0):
    """x -> h -> out with its parameters and a batch; the loss pulls at out."""
    keys = jax.random.split(jax.random.key(0), 4)
    shapes = zip(SIZES, SIZES[1:], strict=False)
    w = [gain * jax.random.normal(k, s) for k, s in zip(keys, shapes, strict=False)]

    def phi(w, x, s):
        low = jnp.sum((x @ w[0]) * s["h"], -1)
        return 0.4 * low + jnp.sum((0.15 * s["h"] @ w[1] + 0.3) * s["out"], -1)

    def loss(w, s, targets):
        return 0.5 * jnp.sum((s["out"] - targets) ** 2, -1)

    def zeros(key, w, x):
        return {"h": jnp.zeros((BATCH, SIZES[1])), "out": jnp.zeros((BATCH, SIZES[2]))}

    x, targets = jax.random.uniform(keys[2], (BATCH, 3)), jax.random.uniform(keys[3], (BATCH, 4))
    return Energy(phi, loss, zeros, activation=sigma), w, (x, targets)


SMOOTH = {name: RISING[name] for name in ("tanh", "sigmoid", "softplus", "leaky relu")}
RELAXED = {**SMOOTH, "relu": activations.relu, "hard_sigmoid": activations.hard_sigmoid}


@pytest.mark.parametrize(
    ("order", "relaxation"), [("synchronous", 0.6), ("alternating", 0.6), ("alternating", 1.7)]
)
@pytest.mark.parametrize("name", RELAXED)
def test_a_relaxed_solution_is_a_fixed_point_of_the_transition(name, relaxation, order):
    """As told: where ξ <- σ(ξ + ω(a - ξ)) served any σ, 6e-7 was told where 6e-2 was true."""
    energy, w, (x, _) = system(RELAXED[name])
    solution = equilibrium(energy, Tolerance(4000, order, relaxation, 1e-7), w, x)
    moved = transition(energy, w, x)(solution.states)
    true = float(relative_residual(moved, solution.states))
    assert float(solution.residual) <= 1e-7
    assert true <= 3 * float(solution.residual)
    plain = equilibrium(energy, Tolerance(4000, "alternating", tol=1e-12), w, x)
    assert_trees_all_close(solution.states, plain.states, atol=2e-6)


@pytest.mark.parametrize("name", RELAXED)
def test_gradients_after_over_relaxation_equal_the_implicit_one(name):
    energy, w, batch = system(RELAXED[name])
    solver = Tolerance(4000, "alternating", 1.7, 1e-12)
    exact, found = (
        jax.jit(estimator.value_and_grad(energy))(w, batch, jax.random.key(0))[1]
        for estimator in (Implicit(Fixed(300, "alternating"), tol=1e-12), EP(1e-3, solver, solver))
    )
    assert_trees_all_close(found, exact, rtol=1e-3, atol=1e-6)


def test_a_relaxed_sweep_is_what_its_docstring_says():
    old, omega = {"h": jnp.full((BATCH, 6), 0.4), "out": jnp.full((BATCH, 4), 0.2)}, 1.7
    for sigma, projects in ((jnp.tanh, False), (activations.hard_sigmoid, True)):
        energy, w, (x, _) = system(sigma, gain=2.0)
        objective = free_objective(energy, w, x)
        moved = Sweep.over(objective, old, "synchronous", omega)(old)
        arguments = jax.grad(objective.value)(old)
        for name, ξ in old.items():
            a = np.asarray(arguments[name])
            if projects:
                expected = np.clip(ξ + omega * (a - ξ), 0, 1)
            else:
                expected = ξ + omega * (np.tanh(a) - ξ)
            np.testing.assert_allclose(moved[name], expected, rtol=1e-12)


def predictive():
    """Predictive coding (SPEC 11): σ takes the pre-activation out of params, x and the states."""

    def layers(w, x, s):
        return (x, s["h"]), (s["h"], s["out"]), w

    def phi(w, x, s):
        total = 0.0
        for below, above, weight in zip(*layers(w, x, s), strict=True):
            f = jax.nn.relu(below @ weight)
            total = total + jnp.sum(above * f - 0.5 * f**2, -1)
        return total

    def mod(place):
        def sigma(argument, w, x, s):
            a = layers(w, x, s)[0][place] @ w[place]
            return jax.nn.relu(argument - jax.nn.relu(a) + a)

        return ContextualActivation(sigma)

    energy, w, batch = system(None)
    return dataclasses.replace(energy, phi=phi, activation={"h": mod(0), "out": mod(1)}), w, batch


def predictive_by_hand(w, x, targets, states, beta, steps):
    """Even and odd layers by turns in numpy: ξ_k <- relu(a_k + J'(ξ_{k+1} - f(ξ_k)))."""
    w = [np.asarray(weight) for weight in w]
    h, out = np.asarray(states["h"]), np.asarray(states["out"])
    for _ in range(steps):
        above = h @ w[1]
        h = np.maximum(x @ w[0] + ((out - np.maximum(above, 0)) * (above > 0)) @ w[1].T, 0)
        out = np.maximum(h @ w[1] - beta * (out - targets), 0)
    return {"h": h, "out": out}


def test_a_contextual_sigma_sees_params_x_and_the_states_of_its_own_phase():
    energy, w, (x, targets) = predictive()
    states = {name: jnp.full((BATCH, n), 0.3) for name, n in (("h", 6), ("out", 4))}
    betas = np.array([0.2, -0.2, 0.05])
    objective = free_objective(energy, w, x).nudged(targets, jnp.asarray(betas))
    phases = jax.tree.map(lambda s: jnp.stack([s, 2 * s, s + 1]), states)
    moved = jax.jit(lambda s: Fixed(3, "alternating").run(objective, s).states)(phases)
    for phase, beta in enumerate(betas):
        start = jax.tree.map(lambda s, phase=phase: s[phase], phases)
        expected = predictive_by_hand(w, x, targets, start, beta, 3)
        got = jax.tree.map(lambda s, phase=phase: s[phase], moved)
        assert_trees_all_close(got, expected, rtol=1e-12)


def test_a_softmax_over_the_tokens_of_x_is_a_sigma():
    """ξ <- softmax(s ∂Φ/∂ξ x') x, retrieval over the tokens x (SPEC 12), as a loop by hand."""
    keys = jax.random.split(jax.random.key(1), 3)
    x = jax.random.normal(keys[0], (BATCH, 7, 3))
    w = 0.5 * jax.random.normal(keys[1], (3, 2))
    y = jax.random.uniform(keys[2], (BATCH, 2))

    def retrieve(argument, w, x, states):
        return jnp.einsum(
            "bt,btd->bd", jax.nn.softmax(2 * jnp.einsum("bd,btd->bt", argument, x)), x
        )

    energy = Energy(
        phi=lambda w, x, s: jnp.sum((s["q"] @ w) * s["out"], -1) + jnp.sum(x.mean(1) * s["q"], -1),
        loss=lambda w, s, targets: 0.5 * jnp.sum((s["out"] - targets) ** 2, -1),
        init_states=lambda key, w, x: {"q": jnp.zeros_like(x[:, 0]), "out": jnp.zeros((BATCH, 2))},
        activation={"q": ContextualActivation(retrieve), "out": jnp.tanh},
    )
    ep = EP(0.3, Fixed(4, "synchronous"), Fixed(2, "alternating"))
    _, _, aux = jax.jit(ep.value_and_grad(energy))(w, (x, y), keys[0])

    def by_hand(q, out, steps, beta, alternating):
        for _ in range(steps):
            scores = 2 * np.einsum("bd,btd->bt", out @ np.asarray(w).T + x.mean(1), x)
            weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
            new = np.einsum("bt,btd->bd", weights, x)
            out = np.tanh((new if alternating else q) @ np.asarray(w) - beta * (out - y))
            q = new
        return {"q": q, "out": out}

    free = by_hand(np.zeros((BATCH, 3)), np.zeros((BATCH, 2)), 4, 0.0, False)
    assert_trees_all_close(aux.free.states, free, rtol=1e-10)
    for phase, beta in enumerate((0.3, -0.3)):
        got = jax.tree.map(lambda s, phase=phase: s[phase], aux.nudged.states)
        assert_trees_all_close(got, by_hand(**free, steps=2, beta=beta, alternating=True))


@pytest.mark.parametrize("relaxation", [0.5, 1.5])
def test_a_contextual_sigma_is_relaxed_towards_its_value(relaxation):
    sigma = ContextualActivation(lambda a, w, x, s: jnp.tanh(a))
    contextual, w, (x, _) = system(sigma)
    plain, *_ = system(jnp.tanh)
    mine, other = (
        equilibrium(energy, Fixed(5, "alternating", relaxation), w, x)
        for energy in (contextual, plain)
    )
    assert_trees_all_close(mine, other, rtol=1e-12)
