"""Sequences: retrieval is a gradient, EP's limit is exact with it, and the energy falls."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxep import EP, ContextualActivation, Implicit, Tolerance, equilibrium, nets
from jaxep.core.objective import free_objective
from jaxep.core.sweep import Sweep
from jaxep.energies import sequence
from jaxep.energies.sequence import TOKENS, retrieval

SHAPE, CLASSES, SCALE = (5, 4, 1), 3, 0.7
SOLVER = Tolerance(500, "alternating", tol=1e-14)
KEY = jax.random.key(0)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def problem(**options):
    gain = {"projection": 2.0, "default": 1.0}
    own = {"scale": SCALE, "activation": jnp.tanh, "gain": gain, "output": "readout"}
    model = sequence((6,), SHAPE, CLASSES, **{**own, **options})
    params = model.init_params(jax.random.key(0), jnp.float64)
    x = jax.random.normal(jax.random.key(1), (4, *SHAPE), jnp.float64)
    return model, params, (x, nets.Targets(jnp.arange(4) % CLASSES))


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def gradient(energy, estimator, params, batch):
    return flat(jax.jit(estimator.value_and_grad(energy))(params, batch, KEY)[1])


def settled(energy, params, x):
    return jax.jit(lambda params, x: equilibrium(energy, SOLVER, params, x).states)(params, x)


def errors(energy, params, batch, betas):
    """Of EP against the implicit gradient, relative, for each β."""
    exact = gradient(energy, Implicit(SOLVER, tol=1e-12), params, batch)
    run = jax.jit(lambda b: EP(b, SOLVER, SOLVER).value_and_grad(energy)(params, batch, KEY)[1])
    return [np.linalg.norm(flat(run(b)) - exact) / np.linalg.norm(exact) for b in betas]


def test_retrieval_is_the_mean_of_tokens_and_the_gradient_of_a_logsumexp():
    a, x = (jax.random.normal(jax.random.key(k), (2, 5, 4), jnp.float64) for k in (0, 1))
    got = retrieval(SCALE).function(a, None, {TOKENS: x}, None)
    weights = np.exp(SCALE * np.einsum("bqd,bkd->bqk", a, x))
    weights /= weights.sum(-1, keepdims=True)
    np.testing.assert_allclose(got, np.einsum("bqk,bkd->bqd", weights, x), rtol=1e-12)

    def potential(a):
        scores = SCALE * jnp.einsum("bqd,bkd->bqk", a, x)
        return jnp.sum(jax.nn.logsumexp(scores, -1)) / SCALE

    np.testing.assert_allclose(got, jax.grad(potential)(a), rtol=1e-12)


@pytest.mark.parametrize("places", [0.0, 1.5])
def test_the_states_of_a_net_are_those_of_the_papers_equations(places):
    model, params, (x, _) = problem(places=places)
    states = settled(model.energy(), params, x)
    tokens = np.asarray(x)[..., 0]
    if places:
        place = np.broadcast_to(places * np.eye(5), (4, 5, 5))
        tokens = np.concatenate([tokens, place], -1)
    w = {name: np.asarray(own["kernel"]) for name, own in params["edges"].items()}
    feedback = (states["fc1"] @ w["fc1"].T).reshape(tokens.shape)
    scores = SCALE * (tokens @ w["projection"] + feedback) @ tokens.swapaxes(1, 2)
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    np.testing.assert_allclose(states["projection"], weights @ tokens, atol=1e-12)
    drive = np.asarray(states["projection"]).reshape(4, -1) @ w["fc1"]
    hidden = np.tanh(drive + params["edges"]["fc1"]["bias"])
    np.testing.assert_allclose(states["fc1"], hidden, atol=1e-12)
    # s is 1/sqrt(d) where it is not given.
    given = problem(places=places, scale=tokens.shape[-1] ** -0.5)[0].energy()
    default = problem(places=places, scale=None)[0].energy()
    one, other = (settled(energy, params, x) for energy in (given, default))
    np.testing.assert_array_equal(one["projection"], other["projection"])


def test_the_implicit_gradient_is_the_slope_of_the_loss_by_finite_differences():
    model, params, (x, targets) = problem()
    energy = model.energy()
    exact = gradient(energy, Implicit(SOLVER, tol=1e-12), params, (x, targets))
    keys = iter(jax.random.split(jax.random.key(5), 9))
    way = jax.tree.map(lambda leaf: jax.random.normal(next(keys), leaf.shape, leaf.dtype), params)

    @jax.jit
    def loss(step):
        moved = jax.tree.map(lambda p, w: p + step * w, params, way)
        states = equilibrium(energy, SOLVER, moved, x).states
        return jnp.mean(energy.loss(moved, states, targets))

    slope = (loss(1e-5) - loss(-1e-5)) / 2e-5
    assert exact @ flat(way) == pytest.approx(float(slope), rel=1e-7)


@pytest.mark.parametrize(
    "options",
    [{}, {"output": "neurons", "output_activation": jax.nn.sigmoid, "places": 1.0}],
    ids=["readout", "neurons"],
)
def test_the_gradient_goes_to_the_implicit_one_with_the_square_of_beta(options):
    model, params, batch = problem(**options)
    betas = [0.1, 0.05, 0.025]
    found = errors(model.energy(), params, batch, betas)
    assert found[-1] < 1e-3
    assert np.polyfit(np.log(betas), np.log(found), 1)[0] == pytest.approx(2, abs=0.02), found


def test_with_values_other_than_the_keys_it_is_not_exact():
    model, params, batch = problem()
    turn = jnp.linalg.qr(jax.random.normal(jax.random.key(2), (4, 4), jnp.float64))[0]

    def retrieved(argument, loop, clamped, states):
        return retrieval(SCALE).function(argument, loop, clamped, states) @ turn

    energy = model.energy()
    energy.activation["projection"] = ContextualActivation(retrieved)
    found = errors(energy, params, batch, [0.02, 0.01])
    assert found[1] > 0.05 and found[1] == pytest.approx(found[0], rel=0.01)


@pytest.mark.parametrize("seed", range(4))
def test_alternating_sweeps_lower_the_energy(seed):
    gain = {"projection": 3.0, "default": 3.0}
    model, _, (x, _) = problem(activation=jax.nn.hard_tanh, gain=gain)
    params = model.init_params(jax.random.key(seed), jnp.float64)
    energy, tokens = model.energy("uniform"), np.asarray(x)[..., 0]
    objective = free_objective(energy, params, x)
    states = energy.init_states(jax.random.key(seed), params, x)
    sweep = Sweep.over(objective, states, "alternating")
    place = sorted(states).index("projection")

    @jax.jit
    def step(states):
        (argument,), _ = objective.drive(states, [None] * len(states), (place,))
        new = sweep(states)
        p = jax.nn.softmax(SCALE * argument @ tokens.swapaxes(1, 2))
        own = jnp.sum(p * jnp.log(p), (1, 2)) / SCALE
        value = own + 0.5 * jnp.sum(new["fc1"] ** 2, -1) - energy.phi(params, x, new)
        return new, p, value

    values = []
    for _ in range(12):
        states, p, value = step(states)
        np.testing.assert_allclose(states["projection"], p @ tokens, atol=1e-12)
        values.append(value)
    falls = np.diff(values, axis=0)
    assert falls.max() < 1e-12 * np.abs(values).max()
    assert falls[0].max() < -1e-3


def test_signals_read_the_retrieved_tokens_and_bad_input_is_refused():
    model, params, batch = problem()
    signal = nets.local_errors(model.network, ("projection",), CLASSES)
    model = model.with_heads(*signal)
    assert model.weight_names == ("projection", "fc1", "readout")
    params |= {"heads": model.init_params(jax.random.key(0), jnp.float64)["heads"]}
    batch = batch[0], batch[1]._replace(kappa=0.5)
    assert errors(model.energy(), params, batch, [0.02])[0] < 1e-3
    with pytest.raises(ValueError, match="must be tokens by what each of them is"):
        sequence((6,), (5,), CLASSES)
    with pytest.raises(ValueError, match="scale = -1: must be a number over 0"):
        sequence((6,), SHAPE, CLASSES, scale=-1)
    with pytest.raises(ValueError, match="there is no weight fc7"):
        sequence((6,), SHAPE, CLASSES, gain={"fc7": 1.0, "projection": 2.0})
