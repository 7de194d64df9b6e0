"""The energy transformer: its Φ by hand, exact EP, an energy that falls under damped sweeps."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxep import EP, Implicit, Tolerance, energy_per_sample, equilibrium, nets
from jaxep.core.activations import Projection, is_projection
from jaxep.core.objective import free_objective
from jaxep.core.sweep import Sweep
from jaxep.energies import EnergyTransformer
from jaxep.energies.energy_transformer import normalised
from jaxep.nets.heads import readout

TOKENS, FEATURES, DIM, HEADS, HEAD_DIM, MEMORIES, CLASSES = 4, 3, 6, 2, 3, 5, 3
KEY = jax.random.key(0)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def built(heads=HEADS, memories=MEMORIES, **options):
    network = EnergyTransformer(TOKENS, FEATURES, DIM, heads, HEAD_DIM, memories, **options)
    return nets.Model(network, (readout("tokens", (TOKENS, DIM), CLASSES),))


def problem(seed=0, **options):
    model = built(**options)
    params = model.init_params(jax.random.key(seed), jnp.float64)
    shape = (3, TOKENS, FEATURES, 1)
    x = jax.random.normal(jax.random.key(seed + 1000), shape, jnp.float64)
    return model, params, (x, nets.Targets(jnp.arange(3) % CLASSES))


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def test_phi_is_the_sum_of_drive_attention_and_memories():
    model, params, (x, _) = problem(scale=0.8)
    x, w = np.asarray(x)[..., 0], {n: np.asarray(v["kernel"]) for n, v in params["edges"].items()}
    tokens = np.random.default_rng(0).normal(size=(3, TOKENS, DIM))
    expected = np.zeros(3)
    for n in range(3):
        for t in range(TOKENS):
            expected[n] += tokens[n, t] @ (x[n, t] @ w["embed"] + w["position"][t])
            expected[n] += 0.5 * sum(max(tokens[n, t] @ m, 0) ** 2 for m in w["memory"])
            for h in range(HEADS):
                query = w["query"][h] @ tokens[n, t]
                scores = [0.8 * query @ (w["key"][h] @ tokens[n, k]) for k in range(TOKENS)]
                expected[n] += np.log(np.sum(np.exp(scores))) / 0.8
    got = model.energy().phi(params, x[..., None], {"tokens": tokens})
    np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_sigma_is_the_nearest_normalised_token_and_its_slope_symmetric():
    a = jax.random.normal(KEY, (7, DIM), jnp.float64)
    found = normalised(a)
    np.testing.assert_allclose(found.mean(-1), 0, atol=1e-15)
    np.testing.assert_allclose(found.var(-1), 1, rtol=1e-14)
    np.testing.assert_allclose(normalised(found), found, rtol=1e-14)
    others = normalised(jax.random.normal(jax.random.key(1), (500, DIM), jnp.float64))
    gaps = jnp.linalg.norm(a[:, None] - others, axis=-1)
    assert np.all(gaps.min(-1) >= jnp.linalg.norm(a - found, axis=-1))
    slope = jax.jacobian(normalised)(a[0])
    np.testing.assert_allclose(slope, slope.T, atol=1e-15)
    assert np.linalg.eigvalsh(slope).min() > -1e-12
    assert is_projection(Projection(normalised)) and not is_projection(normalised)
    equal = jnp.full((1, DIM), 2.0)
    assert not normalised(equal).any() and jnp.isfinite(jax.jacobian(normalised)(equal)).all()


@pytest.mark.parametrize("relaxation", [1.0, 0.5])
def test_the_gradient_goes_to_the_exact_one_with_the_square_of_beta(relaxation):
    model, params, batch = problem()
    x, targets = batch
    energy, solver = model.energy(), Tolerance(3000, "synchronous", relaxation, 1e-14)
    exact = Implicit(solver, tol=1e-12).value_and_grad(energy)
    exact = jax.jit(exact)(params, batch, KEY)[1]
    keys = iter(jax.random.split(jax.random.key(5), 9))
    way = jax.tree.map(lambda leaf: jax.random.normal(next(keys), leaf.shape, leaf.dtype), params)

    @jax.jit
    def loss(step):
        moved = jax.tree.map(lambda p, w: p + step * w, params, way)
        states = equilibrium(energy, solver, moved, x).states
        return jnp.mean(energy.loss(moved, states, targets))

    slope = float(loss(1e-5) - loss(-1e-5)) / 2e-5
    assert flat(exact) @ flat(way) == pytest.approx(slope, rel=1e-6)

    @jax.jit
    def estimate(beta):
        return EP(beta, solver, solver).value_and_grad(energy)(params, batch, KEY)[1]

    betas = [0.1, 0.05, 0.025]
    size = np.linalg.norm(flat(exact))
    errors = [np.linalg.norm(flat(estimate(b)) - flat(exact)) / size for b in betas]
    assert errors[-1] < 1e-3
    assert np.polyfit(np.log(betas), np.log(errors), 1)[0] == pytest.approx(2, abs=0.02), errors


OMEGA, SWEEPS = 0.4, 15


def with_curvature(params, network, curvature, memory):
    """The attention scaled to a curvature bound, the memories by a factor."""
    edges = dict(params["edges"])
    factor = jnp.sqrt((curvature - 1) / (network.curvature(params) - 1))
    for name in ("query", "key"):
        edges[name] = {"kernel": factor * edges[name]["kernel"]}
    edges["memory"] = {"kernel": memory * edges["memory"]["kernel"]}
    return {**params, "edges": edges}


@jax.jit
def descent(params, x):
    """E after each of some sweeps, and the largest curvature of E at two of the states."""
    energy = built().energy()
    objective = free_objective(energy, params, x)
    start = energy.init_states(None, params, x)
    first = Sweep.over(objective, start, "synchronous")(start)
    sweep = Sweep.over(objective, first, "synchronous", OMEGA)

    def body(states, _):
        return sweep(states), energy_per_sample(energy, params, x, states)

    last, values = jax.lax.scan(body, first, length=SWEEPS)

    def alone(tokens, x):
        return energy_per_sample(energy, params, x[None], {"tokens": tokens[None]})[0]

    def largest(tokens, x):
        hessian = jax.hessian(alone)(tokens, x).reshape(TOKENS * DIM, -1)
        return jnp.linalg.eigvalsh(hessian)[-1]

    curves = [jax.vmap(largest)(states["tokens"], x) for states in (first, last)]
    return values, jnp.max(jnp.stack(curves))


@hypothesis.given(
    seed=st.integers(0, 10**6), bound=st.floats(1.01, 1 / OMEGA), memory=st.floats(0, 5)
)
@hypothesis.settings(max_examples=40, deadline=None)
def test_the_energy_falls_under_sweeps_damped_by_its_curvature(seed, bound, memory):
    with jax.enable_x64(True):
        model, params, (x, _) = problem(seed)
        params = with_curvature(params, model.network, bound, memory)
        assert float(model.network.curvature(params)) == pytest.approx(bound)
        values, curve = descent(params, x)
        assert np.diff(values, axis=0).max() <= 1e-12 * np.abs(values).max()
        assert float(curve) <= bound + 1e-9


def energies(model, params, x, relaxation):
    energy = model.energy()
    objective = free_objective(energy, params, x)
    states = energy.init_states(None, params, x)
    states = Sweep.over(objective, states, "synchronous")(states)
    sweep = jax.jit(Sweep.over(objective, states, "synchronous", relaxation))
    values = []
    for _ in range(20):
        values.append(energy_per_sample(energy, params, x, states))
        states = sweep(states)
    return np.diff(values, axis=0)


def test_tokens_that_repel_need_the_damping_and_memories_none():
    model, params, (x, _) = problem(heads=1, memories=0)
    kernel = jnp.eye(HEAD_DIM, DIM)[None]
    params["edges"] |= {"query": {"kernel": 2 * kernel}, "key": {"kernel": -2 * kernel}}
    bound = float(model.network.curvature(params))
    assert bound == pytest.approx(1 + 2 * 2 * 4)
    assert energies(model, params, x, 1.0).max() > 0.1
    assert energies(model, params, x, 1 / bound).max() < 1e-12
    model, params, (x, _) = problem(heads=0)
    params["edges"]["memory"]["kernel"] *= 10
    assert model.network.curvature(params) == 1
    assert energies(model, params, x, 1.0).max() < 1e-10


def test_signals_read_the_tokens_and_bad_input_is_refused():
    model, params, batch = problem(gain={"query": 0.5, "default": 2.0})
    model = model.with_heads(*nets.local_errors(model.network, ("tokens",), CLASSES))
    names = ("embed", "position", "query", "key", "memory", "readout")
    assert model.weight_names == names
    assert np.abs(params["edges"]["query"]["kernel"]).max() <= 0.5 / DIM**0.5
    assert np.abs(params["edges"]["key"]["kernel"]).max() > 1.5 / DIM**0.5
    assert model.weight_labels(model.init_params(KEY))["heads"]["le_tokens"]["kernel"] == "embed"
    with pytest.raises(ValueError, match="must be a batch of 4 tokens of 3 numbers"):
        model.energy().phi(params, batch[0][:, :2], {"tokens": jnp.zeros((3, TOKENS, DIM))})
    with pytest.raises(ValueError, match="there is no weight value; there are embed, position"):
        built(gain={"value": 1.0})
    with pytest.raises(ValueError, match="EnergyTransformer: heads = -1: must be an integer"):
        built(heads=-1)
    with pytest.raises(ValueError, match="init_states = 'uniform': needs a random key"):
        model.network.init_states(None, 2, "uniform", jnp.float32)
