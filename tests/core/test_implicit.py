"""The exact gradient, for any σ: against finite differences of the loss at the equilibrium."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxep import ContextualActivation, Energy, Fixed, Implicit, hard_sigmoid
from jaxep.core.estimators import mean_loss
from jaxep.core.solvers import equilibrium

FREE = Fixed(200, "alternating")


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def gain_of_x(argument, w, x, states):
    """tanh of the argument, stronger where x is larger and where the other layer is active."""
    return jnp.tanh(
        argument * (1 + x[:, :1] ** 2) * w["gain"] + 0.2 * states["out"].mean(-1)[:, None]
    )


def softmax(argument, w, x, states):
    return jax.nn.softmax(3 * argument, -1)


SIGMAS = {
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
    "tanh": jnp.tanh,
    "hard_sigmoid": hard_sigmoid,
    "softmax": jax.nn.softmax,
    "leaves of their own": {"h": jax.nn.gelu, "out": hard_sigmoid},
    "of params, x and states": {"h": ContextualActivation(gain_of_x), "out": jnp.tanh},
    "softmax of a context": ContextualActivation(softmax),
}


def system(sigma):
    keys = jax.random.split(jax.random.key(0), 4)
    w = {
        "low": jax.random.normal(keys[0], (3, 6)),
        "high": 0.15 * jax.random.normal(keys[1], (6, 4)),
        "bias": jnp.full(4, 0.2),
        "gain": jnp.asarray(0.6),
    }
    x, targets = jax.random.normal(keys[2], (5, 3)), jax.random.uniform(keys[3], (5, 4))

    def phi(w, x, s):
        top = jnp.sum((s["h"] @ w["high"] + w["bias"]) * s["out"], -1)
        return jnp.sum((x @ w["low"]) * s["h"], -1) + top

    def loss(w, s, targets):
        return 0.5 * jnp.sum((s["out"] - targets) ** 2, -1) + jnp.sum(w["bias"] * s["out"], -1)

    def zeros(key, w, x):
        return {"h": jnp.zeros((len(x), 6)), "out": jnp.zeros((len(x), 4))}

    return Energy(phi, loss, zeros, activation=sigma), w, (x, targets)


@pytest.mark.parametrize("name", SIGMAS)
def test_implicit_equals_finite_differences_for_any_sigma(name):
    energy, w, (x, targets) = system(SIGMAS[name])
    estimate = Implicit(FREE, tol=1e-13).value_and_grad(energy)
    loss, grads, aux = jax.jit(estimate)(w, (x, targets), jax.random.key(0))

    @jax.jit
    def loss_at(w):
        states = equilibrium(energy, FREE, w, x).states
        return mean_loss(energy, w, states, targets)

    assert float(aux.free.residual) < 1e-12 and float(aux.nudged.residual) < 1e-10
    assert float(loss) == pytest.approx(float(loss_at(w)), rel=1e-12)
    if name in ("gelu", "silu"):  # units on the falling part, where a root of the slope is NaN
        arguments = x @ w["low"] + aux.free.states["out"] @ w["high"].T
        slopes = jax.vmap(jax.grad(SIGMAS[name]))(arguments.ravel())
        assert float(slopes.min()) < -0.02
    rng = np.random.default_rng(0)
    for _ in range(3):
        direction = jax.tree.map(lambda p: rng.normal(size=p.shape), w)
        ahead, behind = (
            loss_at(jax.tree.map(lambda p, d, e=e: p + e * d, w, direction)) for e in (1e-5, -1e-5)
        )
        along = sum(jax.tree.leaves(jax.tree.map(lambda g, d: np.sum(g * d), grads, direction)))
        np.testing.assert_allclose((ahead - behind) / 2e-5, along, rtol=1e-6, atol=1e-9)


def test_a_linear_solve_that_was_cut_short_tells_its_residual():
    energy, w, batch = system(jax.nn.gelu)
    for steps, solved in ((1, False), (100, True)):
        estimate = Implicit(FREE, tol=1e-10, steps=steps).value_and_grad(energy)
        residual = float(jax.jit(estimate)(w, batch, jax.random.key(0))[2].nudged.residual)
        assert (residual < 1e-8) == solved
