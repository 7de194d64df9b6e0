"""Holomorphic EP: error of order N in a β that is not small, and what it refuses."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chex import assert_trees_all_close

from jaxep import (
    EP,
    AndersonAcceleration,
    Energy,
    Fixed,
    FixedPointIteration,
    Implicit,
    Stencil,
    Tolerance,
    centered,
    hard_sigmoid,
    holomorphic,
    linear,
    nets,
    relu,
    soft_clip,
)
from jaxep.core.holomorphic import by_parts, offence
from jaxep.nets import losses

CLASSES, BATCH = 3, 3
# A squared error pushes neurons without a bound away at β = -1: that is its radius of convergence.
GAINS, BETAS = {"readout": 2.0, "neurons": 1.0}, {"readout": 0.4, "neurons": 0.1}
FREE = Tolerance(3000, tol=1e-15)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def dense(output):
    options = {"output": output, "output_activation": linear, "gain": GAINS[output]}
    net = nets.mlp((6, 5), (4,), CLASSES, activation=soft_clip, **options)
    return net.with_heads(*nets.local_errors(net.network, ("fc1",), CLASSES))


def convolutional(output):
    options = {"output": output, "output_activation": linear, "gain": GAINS[output]}
    sigmas = {"conv_activation": soft_clip, "dense_activation": soft_clip}
    return nets.vgg("3 A 4 A", (5,), (8, 8, 1), CLASSES, **sigmas, **options)


def problem(net, dtype=jnp.float64):
    with jax.enable_x64(True):
        params = net.init_params(jax.random.key(0), jnp.float64)
        shape = (BATCH, *net.network.inputs[0].shape)
        x = jax.random.uniform(jax.random.key(1), shape, jnp.float64)
        params, x = jax.tree.map(lambda leaf: leaf.astype(dtype), (params, x))
    return net.energy(), params, (x, nets.Targets(jnp.arange(BATCH) % CLASSES, jnp.asarray(0.7)))


@functools.cache
def setting(build, output):
    """A system and its exact gradient, for all tests that compare with it."""
    system = problem(build(output))
    return system, flat(gradient(Implicit(FREE, tol=1e-14), system)[0])


def gradient(estimator, system):
    energy, params, batch = system
    return jax.jit(estimator.value_and_grad(energy))(params, batch, jax.random.key(0))[1:]


@functools.cache
def ep_at(build, output, stencil):
    """β -> the EP gradient; β is traced: compiled once."""
    energy, params, batch = setting(build, output)[0]

    def at(beta):
        run = EP(beta, FREE, FREE, stencil).value_and_grad(energy)
        return run(params, batch, jax.random.key(0))[1]

    return jax.jit(at)


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def error(estimate, exact):
    return np.linalg.norm(flat(estimate) - exact) / np.linalg.norm(exact)


SLOPES = [
    *((dense, output, points) for output in GAINS for points in (2, 4, 8)),
    *((convolutional, "readout", points) for points in (2, 4, 8)),
    (convolutional, "neurons", 4),
]


@pytest.mark.parametrize(("build", "output", "points"), SLOPES)
def test_the_error_falls_as_beta_to_the_number_of_points(build, output, points):
    exact = setting(build, output)[1]
    sizes = BETAS[output] * np.array([1, 0.75, 0.5])
    at = ep_at(build, output, holomorphic(points))
    errors = [error(at(beta), exact) for beta in sizes]
    slope = np.polyfit(np.log(sizes), np.log(errors), 1)[0]
    assert slope == pytest.approx(points, rel=0.05), errors


def test_two_points_are_centered():
    assert holomorphic(2) == centered
    assert not holomorphic(2).is_complex


@pytest.mark.parametrize("points", [3, 4])
def test_the_points_over_the_real_axis_serve_for_those_below(points):
    roots = [complex(np.exp(2j * np.pi * m / points)) for m in range(points)]
    whole = Stencil(tuple(roots), tuple(root.conjugate() / points for root in roots))
    half = holomorphic(points)
    assert len(half.phases) == points // 2 + 1 < len(whole.phases)
    estimates = [ep_at(dense, "readout", stencil)(0.4) for stencil in (half, whole)]
    assert_trees_all_close(*estimates, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(
    ("kind", "order"),
    [
        (Fixed, "synchronous"),
        (Tolerance, "alternating"),
        (FixedPointIteration, "alternating"),
        (AndersonAcceleration, "synchronous"),
    ],
)
def test_every_solver_takes_complex_states_and_the_gradient_is_real(kind, order):
    """In float32, over-relaxed, against float64 to the precision of float32."""
    with jax.enable_x64(False):
        system = problem(dense("readout"), jnp.float32)
        nudge = kind(200, order, 1.3)
        ep = EP(0.4, Tolerance(200, "alternating", tol=1e-7), nudge, holomorphic(4))
        grads, aux = gradient(ep, system)
    assert {leaf.dtype for leaf in jax.tree.leaves(grads)} == {jnp.dtype(jnp.float32)}
    assert {leaf.dtype for leaf in jax.tree.leaves(aux.nudged.states)} == {jnp.dtype("complex64")}
    assert aux.nudged.residual.dtype == jnp.float32
    assert float(aux.nudged.residual) < 2e-4
    assert error(grads, flat(ep_at(dense, "readout", holomorphic(4))(0.4))) < 0.02


@pytest.mark.parametrize("lowering", ["convolution", "dense", "pairs", "patches", "winograd"])
def test_couplings_of_complex_states_are_those_of_complex_weights(lowering):
    coupling = nets.Conv((6, 6, 2), 4, pool="average", lowering=lowering)
    params = coupling.init(jax.random.key(0), dtype=jnp.float64)
    keys = jax.random.split(jax.random.key(1), 4)
    lower = jax.lax.complex(*(jax.random.normal(k, (3, 6, 6, 2), jnp.float64) for k in keys[:2]))
    upper = jax.lax.complex(*(jax.random.normal(k, (3, 3, 3, 4), jnp.float64) for k in keys[2:]))

    def ours(lower):
        return jnp.sum(upper * coupling.apply(coupling.prepare(params), lower))

    def theirs(lower):
        kernel, numbers = params["kernel"].astype(lower.dtype), ("NHWC", "HWIO", "NHWC")
        whole = jax.lax.conv_general_dilated(
            lower, kernel, (1, 1), "SAME", dimension_numbers=numbers
        )
        pooled = whole.reshape(3, 3, 2, 3, 2, 4).mean((2, 4))
        return jnp.sum(upper * (pooled + params["bias"]))

    np.testing.assert_allclose(jax.jit(ours)(lower), theirs(lower), rtol=1e-12)
    slope = jax.jit(jax.grad(lambda lower: ours(lower).real))(lower)
    exact = jax.jit(jax.grad(theirs, holomorphic=True))(lower)
    np.testing.assert_allclose(slope, exact, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("loss", ["cross_entropy", "soft_target", "squared_error"])
def test_losses_of_complex_outputs_are_the_continuation_of_the_real_ones(loss):
    """The real loss is the mean over a circle around it, as of any holomorphic function."""
    given = {
        "cross_entropy": lambda z: losses.cross_entropy(z, jnp.arange(2)),
        "soft_target": lambda z: losses.soft_target(z, jnp.full((2, 4), 0.25), 3.0),
        "squared_error": lambda z: losses.squared_error(z, jnp.arange(2)),
    }[loss]
    centre, direction = jax.random.normal(jax.random.key(0), (2, 2, 4), jnp.float64)
    turns = 0.5 * jnp.exp(2j * jnp.pi * jnp.arange(64) / 64)
    values = jax.vmap(lambda turn: given(centre + turn * direction))(turns)
    np.testing.assert_allclose(values.mean(0), given(centre), rtol=1e-12)
    negative = np.fft.fft(values, axis=0)[-20:] / 64  # vanish for holomorphic functions alone
    assert np.abs(negative).max() < 1e-12 < 1e-3 < np.abs(values - given(centre)).max()


HOLOMORPHIC = {
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "silu": jax.nn.silu,
    "softmax": jax.nn.softmax,
    "logsumexp": jax.nn.logsumexp,
    "rational": lambda v: v * v / (2 + v * v),
    "a loop": lambda v: jax.lax.fori_loop(0, 3, lambda _, u: jnp.sin(u), v),
    "by parts": lambda v: by_parts(lambda u: 2 * u, v),
    "a maximum that is not used": lambda v: (v, jnp.maximum(v, 0))[0],
}
OTHERS = {
    "max": jax.nn.relu,
    "conj": jnp.conj,
    "abs": lambda v: v * jnp.abs(v),
    "real": lambda v: jnp.where(v.real > 0, v, 0),
    "reduce_max": jax.vmap(lambda v: v - jnp.max(v)),
    "convert_element_type": lambda v: jax.lax.convert_element_type(v, jnp.float64),
    "eq": lambda v: jax.lax.cond(v[0, 0] == 0, jnp.sin, jnp.cos, v),
    "sort": lambda v: jax.lax.fori_loop(0, 3, lambda _, u: jnp.sort(u), v),
}


@pytest.mark.filterwarnings("ignore:Casting complex values")
@pytest.mark.parametrize("name", [*HOLOMORPHIC, *OTHERS])
def test_what_is_not_holomorphic_is_read_off_its_operations(name):
    function = {**HOLOMORPHIC, **OTHERS}[name]
    found = jax.jit(lambda z: offence(function, z) and z)  # while tracing, too
    z = jnp.ones((2, 3), complex)
    assert offence(function, z) == (name if name in OTHERS else None)
    assert (found(z) is None) == (name in HOLOMORPHIC)


def user_energy(**changes):
    """A small energy of a user's own that may be nudged by a complex β, but for the changes."""
    parts = {
        "phi": lambda w, x, s: jnp.sum(s * (x @ w), -1),
        "loss": lambda w, s, targets: jnp.sum((s - targets) ** 2, -1),
        "init_states": lambda key, w, x: jnp.zeros((len(x), 3), x.dtype),
        "activation": jnp.tanh,
    }
    return Energy(**{**parts, **changes})


BAD = {
    "σ of states (relu) uses `max` of complex numbers, which is not holomorphic: a stencil of ": {
        "activation": relu
    },
    "σ of states (hard_sigmoid) takes no complex numbers (Clip received a complex value ": {
        "activation": hard_sigmoid
    },
    "phi uses `abs` of complex numbers": {"phi": lambda w, x, s: jnp.sum(jnp.abs(s) * (x @ w), -1)},
    "phi uses `real` of": {"phi": lambda w, x, s: jnp.sum(s.real * (x @ w), -1)},
    "phi of real states is complex": {"phi": lambda w, x, s: jnp.sum(1j * s * (x @ w), -1)},
    "loss uses `abs` of": {"loss": lambda w, s, targets: jnp.sum(jnp.abs(s - targets), -1)},
    "states: states is bfloat16: must be float32 or float64": {
        "init_states": lambda key, w, x: jnp.zeros((len(x), 3), jnp.bfloat16)
    },
}


def traced(stencil, energy):
    """Shapes of what EP computes: what is refused is refused while tracing."""
    w, x, targets = jnp.ones((2, 3)), jnp.ones((4, 2)), jnp.zeros((4, 3))
    run = EP(0.1, 3, 3, stencil).value_and_grad(energy)
    return jax.eval_shape(run, w, (x, targets), jax.random.key(0))[1]


@pytest.mark.parametrize("message", BAD)
def test_what_is_not_holomorphic_is_refused_in_a_sentence(message):
    assert traced(holomorphic(4), user_energy()).dtype == jnp.float64
    with pytest.raises(ValueError) as refused:
        traced(holomorphic(4), user_energy(**BAD[message]))
    assert str(refused.value).startswith(message) and "\n" not in str(refused.value)
    assert traced(centered, user_energy(**BAD[message])).dtype == jnp.float64


def test_max_pools_of_states_are_refused_and_those_of_the_input_are_not():
    def traced(conv):
        sigmas = {"conv_activation": soft_clip, "dense_activation": soft_clip}
        energy, params, batch = problem(nets.vgg(conv, (), (8, 8, 1), CLASSES, **sigmas))
        run = EP(0.1, 2, 2, holomorphic(3)).value_and_grad(energy)
        return jax.eval_shape(run, params, batch, jax.random.key(0))[1]

    assert traced("3 M 4 A")["edges"]["conv2"]["kernel"].dtype == jnp.float64
    with pytest.raises(ValueError, match="pool = 'max': must be 'average' or None for complex"):
        traced("3 A 4 M")


@pytest.mark.parametrize("points", [1, 0, 2.5])
def test_fewer_than_two_points_are_refused(points):
    with pytest.raises(ValueError, match="holomorphic: points = "):
        holomorphic(points)
