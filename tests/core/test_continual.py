"""Continual EP: the published rule by hand, and EP itself where the weights stand still."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chex import assert_trees_all_close

from jaxep import EP, ContinualEP, Energy, Fixed, centered, nets, one_sided, random_sign

BATCH, CLASSES = 5, 3
FREE = Fixed(60, "alternating")
BETA = 0.3


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def hopfield():
    """An energy of one's own with weights {w, v, b}: <h, x w> + <out, h v> + <h, b>."""

    def phi(params, x, states):
        drive = x @ params["w"] + params["b"]
        return jnp.sum(states["h"] * drive + (states["out"] @ params["v"].T) * states["h"], -1)

    def loss(params, states, targets):
        return 0.5 * jnp.sum(jnp.square(states["out"] - targets), -1)

    def zeros(key, params, x):
        return {"h": jnp.zeros((len(x), 4)), "out": jnp.zeros((len(x), CLASSES))}

    keys = jax.random.split(jax.random.key(3), 3)
    params = {
        "w": 0.5 * jax.random.normal(keys[0], (6, 4)),
        "v": 0.5 * jax.random.normal(keys[1], (4, CLASSES)),
        "b": jnp.full((4,), 0.2),
    }
    x = jax.random.uniform(keys[2], (BATCH, 6))
    return Energy(phi, loss, zeros), params, (x, jnp.eye(CLASSES)[jnp.arange(BATCH) % CLASSES])


def network(output):
    model = nets.mlp((5, 4), (6,), CLASSES, output=output)
    model = model.with_heads(*nets.local_errors(model.network, ("fc1",), CLASSES))
    params = model.init_params(jax.random.key(0), jnp.float64)
    params["edges"] = {n: {**e, "bias": e["bias"] + 0.3} for n, e in params["edges"].items()}
    x = jax.random.uniform(jax.random.key(1), (BATCH, 6), jnp.float64)
    return model.energy(), params, (x, nets.Targets(jnp.arange(BATCH) % CLASSES, jnp.asarray(0.7)))


SYSTEMS = {
    "own": hopfield,
    "readout": lambda: network("readout"),
    "neurons": lambda: network("neurons"),
}


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def gradient(estimator, system):
    energy, params, batch = system
    return jax.jit(estimator.value_and_grad(energy))(params, batch, jax.random.key(0))


@pytest.mark.parametrize(
    ("name", "stencil"),
    [("own", one_sided), ("own", random_sign), ("readout", random_sign), ("neurons", one_sided)],
)
def test_one_nudged_step_is_that_of_ep_at_any_rate(name, stencil):
    system, nudge = SYSTEMS[name](), Fixed(1, "alternating")
    ours = gradient(ContinualEP(BETA, FREE, nudge, 10.0, stencil), system)
    theirs = gradient(EP(BETA, FREE, nudge, stencil), system)
    assert_trees_all_close(ours, theirs, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(
    ("name", "order"),
    [("own", "synchronous"), ("readout", "alternating"), ("neurons", "alternating")],
)
def test_the_contrasts_of_the_steps_sum_to_that_of_ep_where_weights_hardly_move(name, order):
    system, nudge = SYSTEMS[name](), Fixed(7, order, 1.2)
    ours = gradient(ContinualEP(BETA, FREE, nudge, 1e-30), system)
    theirs = gradient(EP(BETA, FREE, nudge, one_sided), system)
    assert_trees_all_close(ours, theirs, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_difference_to_ep_is_of_first_order_in_the_rate(name):
    energy, params, batch = system = SYSTEMS[name]()
    nudge = Fixed(12, "alternating")
    exact = flat(gradient(EP(BETA, FREE, nudge, one_sided), system)[1])

    @jax.jit
    def at(rate):
        estimator = ContinualEP(BETA, FREE, nudge, rate)
        return estimator.value_and_grad(energy)(params, batch, jax.random.key(0))[1]

    rates = 1e-3 * 0.5 ** np.arange(4)
    errors = [np.linalg.norm(flat(at(r)) - exact) / np.linalg.norm(exact) for r in rates]
    assert errors[0] > 1e-5
    assert np.polyfit(np.log(rates), np.log(errors), 1)[0] == pytest.approx(1, abs=0.03), errors


def test_sgd_at_the_same_rate_leaves_the_weights_of_the_published_rule():
    """Against the outer products of Ernoult et al. 2020 in NumPy, neurons and weights in turn."""
    energy, params, (x, y) = system = hopfield()
    rate, steps = 0.3, 9
    w, v, b = (np.array(params[name]) for name in "wvb")
    h, out, image = np.zeros((BATCH, 4)), np.zeros((BATCH, CLASSES)), np.array(x)

    def move(h, out, beta):
        hidden = image @ w + b + out @ v.T
        return np.clip(hidden, 0, 1), np.clip(h @ v + beta * (np.array(y) - out), 0, 1)

    for _ in range(200):
        h, out = move(h, out, 0.0)
    for _ in range(steps):
        old = h, out
        h, out = move(h, out, BETA)
        scale = rate / (BETA * BATCH)
        w += scale * image.T @ (h - old[0])
        v += scale * (h.T @ out - old[0].T @ old[1])
        b += scale * (h - old[0]).sum(0)

    estimator = ContinualEP(BETA, Fixed(200), Fixed(steps), rate)
    _, grads, aux = gradient(estimator, system)
    ours = jax.tree.map(lambda p, g: p - rate * g, params, grads)
    assert_trees_all_close(ours, {"w": w, "v": v, "b": b}, rtol=1e-10)
    assert_trees_all_close(aux.nudged.states, {"h": h[None], "out": out[None]}, rtol=1e-10)
    plain = gradient(EP(BETA, Fixed(200), Fixed(steps), one_sided), system)[1]
    assert np.linalg.norm(flat(plain) - flat(grads)) > 0.01 * np.linalg.norm(flat(grads))


def test_memory_does_not_grow_with_the_steps():
    energy, params, batch = network("readout")

    def bytes_of(steps):
        estimate = ContinualEP(BETA, FREE, Fixed(steps, "alternating"), 0.1).value_and_grad(energy)
        compiled = jax.jit(estimate).lower(params, batch, jax.random.key(0)).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert bytes_of(50) <= bytes_of(2) * 1.01


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, 3, 2, 0.1), "ContinualEP: beta = 0.0: must be a finite number, not 0"),
        ((0.1, 3, 2, 0.0), "ContinualEP: rate = 0.0: must be a number over 0"),
        ((0.1, 3, 2, 0.1, centered), "must be one_sided or random_sign"),
        ((0.1, 3, "x", 0.1), "solver = 'x': must be a solver, or a number of sweeps"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(arguments, message):
    with pytest.raises(ValueError) as error:
        ContinualEP(*arguments)
    assert message in str(error.value) and "\n" not in str(error.value)
