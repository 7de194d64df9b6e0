"""The correctness test of the project: EP against the exact gradient, in float64 (SPEC 2)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxep import (
    BPTT,
    EP,
    Energy,
    Fixed,
    Implicit,
    Stencil,
    Tolerance,
    centered,
    four_point,
    one_sided,
    random_sign,
)
from jaxep.core.estimators import STENCILS
from jaxep.nets import Targets, distillation, local_errors, vgg, weighted_distillation

CLASSES, BATCH, UPSILON = 4, 3, ("conv1", "conv2")
TEACHER_SHAPES = ((3, 3, 4), (1, 1, 5))
SIGNALS = ["std", "le", "kd", "kdw"]


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def heads_of(kind, network):
    if kind == "le":
        return local_errors(network, UPSILON, CLASSES)
    if kind == "kd":
        return distillation(UPSILON)
    if kind == "kdw":
        return weighted_distillation(network, UPSILON, TEACHER_SHAPES)
    return ()


def model(kind, output="readout", seed=0):
    """A small conv + pool + dense net with units inside of (0, 1), its parameters and a batch."""
    net = vgg("4 M 5 M", (6,), (6, 6, 2), CLASSES, output=output)
    net = net.with_heads(*heads_of(kind, net.network))
    keys = jax.random.split(jax.random.key(seed), 4)
    params = net.init_params(keys[0], jnp.float64)
    # Biases of 0.3 keep most units off the corners of the hard sigmoid, where Φ has no derivative.
    edges = {name: {**e, "bias": e["bias"] + 0.3} for name, e in params["edges"].items()}
    params = {**params, "edges": edges}
    x = jax.random.uniform(keys[1], (BATCH, 6, 6, 2), jnp.float64)
    labels = jax.random.randint(keys[2], (BATCH,), 0, CLASSES)
    own_shapes = [net.network.shapes[layer] for layer in UPSILON]
    teacher_shapes = TEACHER_SHAPES if kind == "kdw" else own_shapes
    drawn = [jax.random.normal(keys[3], (BATCH, *s), jnp.float64) for s in teacher_shapes]
    features = {f"{kind}_{layer}": f for layer, f in zip(UPSILON, drawn, strict=True)}
    return net.energy(), params, (x, Targets(labels, jnp.asarray(0.7), features))


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def error(estimate, exact):
    return np.linalg.norm(flat(estimate) - flat(exact)) / np.linalg.norm(flat(exact))


def gradient(estimator, system):
    model_energy, params, batch = system
    return jax.jit(estimator.value_and_grad(model_energy))(params, batch, jax.random.key(0))[1]


FREE = Tolerance(2000, "alternating", tol=1e-14)


@functools.cache
def setting(kind, output="readout"):
    """A model, its loss and exact gradient as a function of the parameters, and that gradient.

    Computed once for all tests that compare with it.
    """
    energy, params, batch = system = model(kind, output)
    implicit = Implicit(FREE, tol=1e-13).value_and_grad(energy)
    exact = jax.jit(lambda params: implicit(params, batch, jax.random.key(0))[:2])
    return system, exact, exact(params)[1]


@functools.cache
def full_bptt(kind):
    """The gradient through all of 200 steps, computed once too."""
    return gradient(BPTT(Fixed(200, "alternating"), unrolled=200), setting(kind)[0])


def ep_at(system, stencil):
    """The EP gradient as a function of β, which is traced: compiled once for several."""
    energy, params, batch = system

    def at(beta):
        estimator = EP(beta, FREE, FREE, stencil)
        return estimator.value_and_grad(energy)(params, batch, jax.random.key(0))[1]

    return jax.jit(at)


@functools.cache
def ep_of(kind, output="readout", stencil=centered):
    """`ep_at` of a setting, the same for all tests."""
    return ep_at(setting(kind, output)[0], stencil)


@pytest.mark.parametrize("output", ["readout", "neurons"])
@pytest.mark.parametrize("kind", SIGNALS)
def test_implicit_equals_finite_differences_of_the_free_loss(kind, output):
    (_, params, _), estimate, exact = setting(kind, output)
    direction = jax.tree.map(
        lambda p: jax.random.normal(jax.random.key(p.size), p.shape, p.dtype), params
    )

    def loss_at(epsilon):
        moved = jax.tree.map(lambda p, d: p + epsilon * d, params, direction)
        return estimate(moved)[0]

    slope = (loss_at(1e-6) - loss_at(-1e-6)) / 2e-6
    expected = np.dot(flat(exact), flat(direction))
    np.testing.assert_allclose(slope, expected, rtol=1e-6)


@pytest.mark.parametrize("kind", SIGNALS)
def test_full_bptt_equals_implicit(kind):
    assert error(full_bptt(kind), setting(kind)[2]) < 1e-8


def test_truncated_bptt_approaches_full_bptt():
    system, _, exact = setting("le")
    errors = [
        error(gradient(BPTT(Fixed(200, "alternating"), k), system), exact) for k in (2, 10, 40)
    ]
    assert errors[0] > 10 * errors[1] > 100 * errors[2]


@pytest.mark.parametrize("output", ["readout", "neurons"])
@pytest.mark.parametrize("kind", SIGNALS)
@pytest.mark.parametrize(("stencil", "order"), [(centered, 2), (one_sided, 1), (random_sign, 1)])
def test_error_of_ep_falls_with_its_order_in_beta(kind, stencil, order, output):
    at, exact = ep_of(kind, output, stencil), setting(kind, output)[2]
    sizes = np.array([4e-3, 2e-3, 1e-3])
    errors = [error(at(beta), exact) for beta in sizes]
    slope = np.polyfit(np.log(sizes), np.log(errors), 1)[0]
    assert slope == pytest.approx(order, abs=0.1), errors


@pytest.mark.parametrize("kind", SIGNALS)
def test_every_parameter_has_the_direction_of_exact_and_bptt_gradients(kind):
    estimate = ep_of(kind)(1e-3)
    for exact in (setting(kind)[2], full_bptt(kind)):
        for path, leaf in jax.tree.leaves_with_path(exact):
            mine = flat([value for p, value in jax.tree.leaves_with_path(estimate) if p == path])
            cosine = np.dot(mine, np.ravel(leaf)) / np.linalg.norm(mine) / np.linalg.norm(leaf)
            assert cosine > 0.999, (path, cosine)


@pytest.mark.parametrize("order", ["synchronous", "alternating"])
def test_bfloat16_phases_give_a_float32_gradient_of_the_same_direction(order):
    with jax.enable_x64(False):
        network = vgg("8 M 8 M", (6,), (8, 8, 3), 4)
        model = network.energy()
        params = network.init_params(jax.random.key(0), jnp.float32)
        x = jax.random.normal(jax.random.key(1), (16, 8, 8, 3), jnp.float32)
        targets = Targets(jnp.arange(16) % 4)
        ep = EP(1.0, Tolerance(40, order, tol=1e-3), Tolerance(20, order, tol=1e-3))
        estimate = jax.jit(ep.value_and_grad(model))
        _, exact, _ = estimate(params, (x, targets), jax.random.key(2))
        _, rough, aux = estimate(params, (x.astype(jnp.bfloat16), targets), jax.random.key(2))
        assert {state.dtype for state in aux.free.states.values()} == {jnp.dtype(jnp.bfloat16)}
        assert {leaf.dtype for leaf in jax.tree.leaves(rough)} == {jnp.dtype(jnp.float32)}
        a, b = (jnp.concatenate([v.ravel() for v in jax.tree.leaves(t)]) for t in (exact, rough))
        cosine = float(a @ b / jnp.linalg.norm(a) / jnp.linalg.norm(b))
        assert 0.95 < cosine < 1 - 1e-7  # and not silently float32


def smooth_system():
    """Two layers of tanh units: a loss that has derivatives of every order in β."""
    keys = jax.random.split(jax.random.key(0), 4)
    w = [0.4 * jax.random.normal(k, s) for k, s in zip(keys, ((3, 6), (6, 4)), strict=False)]
    x, targets = jax.random.uniform(keys[2], (5, 3)), jax.random.uniform(keys[3], (5, 4))

    def phi(w, x, s):
        return jnp.sum((x @ w[0]) * s["h"], -1) + jnp.sum((s["h"] @ w[1] + 0.3) * s["out"], -1)

    def loss(w, s, targets):
        return 0.5 * jnp.sum((s["out"] - targets) ** 2, -1)

    def zeros(key, w, x):
        return {"h": jnp.zeros((len(x), 6)), "out": jnp.zeros((len(x), 4))}

    return Energy(phi, loss, zeros, activation=jnp.tanh), w, (x, targets)


six_point = Stencil((1.0, -1.0, 2.0, -2.0, 3.0, -3.0), (0.75, -0.75, -0.15, 0.15, 1 / 60, -1 / 60))


@pytest.mark.parametrize(
    ("stencil", "order"),
    [(one_sided, 1), (random_sign, 1), (centered, 2), (four_point, 4), (six_point, 6)],
)
def test_error_of_a_stencil_falls_with_the_order_of_its_points(stencil, order):
    """With β so large that rounding does not hide it: at order 6 errors end at 1e-9."""
    system = smooth_system()
    exact = gradient(Implicit(FREE, tol=1e-14), system)
    sizes = np.array([0.1, 0.07, 0.05]) / max(stencil.points)
    at = ep_at(system, stencil)
    errors = [error(at(beta), exact) for beta in sizes]
    slope = np.polyfit(np.log(sizes), np.log(errors), 1)[0]
    assert slope == pytest.approx(order, abs=0.1), errors


def test_random_sign_takes_each_sign_about_half_of_the_time():
    signs = [float(random_sign.scale(0.3, key)) for key in jax.random.split(jax.random.key(0), 200)]
    assert sorted({round(sign, 6) for sign in signs}) == [-0.3, 0.3]
    assert 70 < sum(sign > 0 for sign in signs) < 130


@pytest.mark.parametrize("name", STENCILS)
def test_a_stencil_needs_a_phase_for_each_point_but_0(name):
    energy, w, batch = smooth_system()
    aux = EP(0.1, 3, 2, STENCILS[name]).value_and_grad(energy)(w, batch, jax.random.key(0))[2]
    phases = {"one_sided": 1, "random_sign": 1, "centered": 2, "four_point": 4}[name]
    assert aux.nudged.states["out"].shape == (phases, 5, 4)
