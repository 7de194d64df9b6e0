"""Contraction (Theorem 3.1) against independent computations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxep import Energy, Tolerance, equilibrium
from jaxep.core.objective import free_objective
from jaxep.core.solvers import tree_norm
from jaxep.core.sweep import Sweep
from jaxep.core.theory import lipschitz, transition

SIZES = (6, 5, 4)
BETA, KAPPA = 0.3, 0.5


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def chain_energy(scale, key=0):
    """Three layers with linear σ = identity, so that K₁ is the norm of one symmetric matrix.

    L_EP = 1/2 |ξ_out - t|² and L_Aug = 1/2 |ξ_1 - 1|², so K₂ = K₃ = 1.
    """
    keys = jax.random.split(jax.random.key(key), 3)
    params = [
        scale * jax.random.normal(k, (a, b), jnp.float64)
        for k, a, b in zip(keys, SIZES[:-1], SIZES[1:], strict=False)
    ]

    def phi(params, x, states):
        pairs = zip(params, states[:-1], states[1:], strict=True)
        return jnp.sum(x * states[0], -1) + sum(jnp.sum((a @ w) * b, -1) for w, a, b in pairs)

    def loss(params, states, targets):
        near = 0.5 * jnp.sum((states[1] - 1) ** 2, -1)
        return 0.5 * jnp.sum((states[-1] - targets) ** 2, -1) + KAPPA * near

    def init_states(key, params, x):
        shapes = [(len(x), size) for size in SIZES]
        return tuple(jax.random.normal(key, shape, x.dtype) for shape in shapes)

    return Energy(phi, loss, init_states, activation=lambda v: v), params


def dense_jacobian(function, states):
    jacobian = jax.jacobian(lambda flat: _flat(function(_unflat(flat, states))))(_flat(states))
    return np.asarray(jacobian)


def _flat(states):
    return jnp.concatenate([leaf.ravel() for leaf in states])


def _unflat(flat, like):
    parts = jnp.split(flat, np.cumsum([leaf.size for leaf in like])[:-1])
    return tuple(part.reshape(leaf.shape) for part, leaf in zip(parts, like, strict=True))


@pytest.mark.parametrize("seed", range(3))
def test_power_iteration_agrees_with_a_dense_jacobian(seed):
    model, params = chain_energy(0.3, seed)
    x = jnp.ones((1, SIZES[0]))
    states = model.init_states(jax.random.key(1), params, x)
    step = transition(model, params, x)
    largest = np.linalg.svd(dense_jacobian(step, states), compute_uv=False)[0]
    estimate = lipschitz(step, states, jax.random.key(2), steps=400)
    assert float(estimate) == pytest.approx(largest, rel=1e-6)


def contraction():
    """An energy scaled so that K₁ + |β| K₂ + |βκ| K₃ = 0.9, and that bound."""
    target = 0.9 - BETA * 1 - BETA * KAPPA * 1
    model, params = chain_energy(1.0)
    x = jnp.ones((2, SIZES[0]))
    start = model.init_states(jax.random.key(1), params, x)
    k1 = lipschitz(transition(model, params, x), start, jax.random.key(2), steps=400)
    return model, [w * target / k1 for w in params], x, 0.9


@pytest.mark.parametrize("beta", [0.0, BETA, -BETA])
def test_under_the_condition_of_theorem_3_1_residuals_fall_by_the_bound(beta):
    model, params, x, bound = contraction()
    targets, betas = jnp.zeros((2, SIZES[-1])), jnp.asarray([beta])
    objective = free_objective(model, params, x).nudged(targets, betas)
    states = jax.tree.map(lambda s: s[None], model.init_states(jax.random.key(3), params, x))
    step = jax.jit(Sweep.over(objective, states, "synchronous"))
    norms = []
    for _ in range(30):
        moved = step(states)
        norms.append(float(tree_norm(jax.tree.map(jnp.subtract, moved, states))))
        states = moved
    ratios = np.array(norms[1:]) / np.array(norms[:-1])
    assert ratios.max() <= bound + 1e-9
    # Loose bounds prove little: a free phase must shrink like K₁ = 0.45, half as fast as 0.9.
    assert ratios.min() > 0.1


def test_a_contraction_has_one_fixed_point_from_every_start():
    model, params, x, _ = contraction()
    solver = Tolerance(1000, tol=1e-14)
    ends = [equilibrium(model, solver, params, x, jax.random.key(i)) for i in range(4)]
    for other in ends[1:]:
        gap = tree_norm(jax.tree.map(jnp.subtract, ends[0].states, other.states))
        assert float(gap) < 1e-12
