"""Fast paths equal textbook convolutions and `reduce_window`, in value and in every derivative."""

import functools

import jax
import jax.numpy as jnp
import pytest
from chex import assert_trees_all_close

from benchmarks.baselines import textbook
from jaxep.nets import winograd
from jaxep.nets.couplings import Conv, Dense, Identity
from jaxep.nets.lowerings import Direct, Matrix
from jaxep.nets.pools import averaged, first_maxima, picked
from jaxep.nets.winograd import Winograd


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def max_pool(x):
    return picked(x, first_maxima(x))


def random(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape, jnp.float64)


@pytest.mark.parametrize("shape", [(2, 4, 6, 3), (1, 5, 7, 2), (3, 2, 2, 1)])
def test_max_pool_equals_reduce_window_also_in_ties(shape):
    x = jnp.round(random(0, *shape))  # rounded: windows with several maxima
    value, pullback = jax.vjp(textbook.max_pool, x)
    cotangent = random(1, *value.shape)
    assert_trees_all_close(max_pool(x), value)
    assert_trees_all_close(jax.vjp(max_pool, x)[1](cotangent), pullback(cotangent))


def test_max_pool_derivative_is_linear_and_transposes_itself():
    x, tangent, cotangent = random(0, 2, 4, 4, 3), random(1, 2, 4, 4, 3), random(2, 2, 2, 2, 3)
    pushed = jax.jvp(max_pool, (x,), (tangent,))[1]
    pulled = jax.vjp(max_pool, x)[1](cotangent)[0]
    product = float(jnp.vdot(tangent, pulled))
    assert float(jnp.vdot(pushed, cotangent)) == pytest.approx(product, rel=1e-12)


CONVS = [
    Conv((*size, 3), 6, pool=pool, padding=padding, lowering=lowering)
    for lowering, sizes in (
        ("convolution", [(5, 4)]),
        ("dense", [(5, 4)]),
        ("winograd", [(6, 4), (2, 2)]),
    )
    for size in sizes
    for pool in (None, "max", "average")
    for padding in (0, 1)
    if min(size) + 2 * padding >= 4
]


@pytest.mark.parametrize("coupling", CONVS, ids=str)
def test_conv_equals_textbook_in_value_and_derivatives(coupling, monkeypatch):
    monkeypatch.setattr(winograd, "TILES", 2)  # minimal filtering takes shares of larger batches
    params = coupling.init(jax.random.key(0), 1.0, jnp.float64)
    lower = random(1, 2, *coupling.in_shape)
    upper = random(2, 2, *coupling.out_shape)

    def fast(params, lower):
        return jnp.sum(upper * coupling.apply(coupling.prepare(params), lower))

    def slow(params, lower):
        return jnp.sum(upper * textbook.drive(coupling, params, lower))

    def second(energy):
        """d/dw |dE/dlower|², what BPTT and implicit gradients differentiate."""
        square = jax.grad(lambda p: jnp.sum(jnp.square(jax.grad(energy, 1)(p, lower))))
        return jax.jit(square)(params)

    def curvature(energy):
        slope = functools.partial(jax.grad(energy, 0), params)
        return jax.jit(lambda x: jax.jvp(slope, (x,), (x + 1,))[1])(lower)

    assert coupling.out_shape == textbook.drive(coupling, params, lower).shape[1:]
    assert_trees_all_close(fast(params, lower), slow(params, lower), rtol=1e-12)
    gradients = [jax.jit(jax.grad(energy, (0, 1)))(params, lower) for energy in (fast, slow)]
    assert_trees_all_close(*gradients, atol=1e-12)
    assert_trees_all_close(second(fast), second(slow), atol=1e-11)
    assert_trees_all_close(curvature(fast), curvature(slow), atol=1e-11)


@pytest.mark.parametrize("padding", [0, 1])
def test_weight_gradient_of_an_accelerator_equals_that_of_the_cpu(padding, monkeypatch):
    coupling = Conv((5, 4, 3), 6, padding=padding, lowering="convolution")
    params = coupling.init(jax.random.key(0), 1.0, jnp.float64)
    lower, upper = random(1, 2, 5, 4, 3), random(2, 2, *coupling.out_shape)

    def energy(params):
        return jnp.sum(upper * coupling.apply(coupling.prepare(params), lower))

    here = jax.grad(energy)(params)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert_trees_all_close(jax.grad(energy)(params), here, rtol=1e-12)


def test_indices_found_before_give_the_same_derivatives_without_the_convolution_of_the_layer():
    coupling = Conv((6, 4, 3), 6, pool="max")
    operators = coupling.prepare(coupling.init(jax.random.key(0), 1.0, jnp.float64))
    lower, upper = random(1, 2, 6, 4, 3), random(2, 2, *coupling.out_shape)
    value, indices = coupling.apply_and_cache(operators, lower, None)
    assert indices.dtype == jnp.int8
    assert_trees_all_close(coupling.apply_and_cache(operators, lower, indices)[0], value)

    def pull(lower, indices):
        return jax.grad(lambda x: jnp.sum(upper * coupling.apply_and_cache(operators, x, indices)[0]))(lower)

    assert_trees_all_close(pull(lower, indices), pull(lower, None), atol=1e-14)
    flops = [
        jax.jit(pull).lower(lower, known).compile().cost_analysis()["flops"]
        for known in (indices, None)
    ]
    assert flops[0] < 0.6 * flops[1]


@pytest.mark.parametrize(
    ("shape", "features", "options", "kind"),
    [
        ((8, 8, 64), 64, {}, Winograd),
        ((2, 2, 512), 512, {}, Winograd),
        ((2, 2, 16), 16, {}, Matrix),
        ((4, 4, 512), 512, {"padding": 0}, Winograd),
        ((4, 4, 16), 64, {"padding": 0}, Matrix),
        ((4, 4, 512), 512, {}, Winograd),
        ((8, 8, 16), 64, {}, Direct),
        ((7, 7, 64), 64, {}, Direct),
        ((8, 8, 64), 64, {"kernel_size": 5, "padding": 2}, Direct),
    ],
)
def test_auto_takes_what_is_fast_on_the_cpu_and_the_backends_own_elsewhere(
    shape, features, options, kind, monkeypatch
):
    coupling = Conv(shape, features, **options)
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    assert isinstance(coupling.method, kind)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert isinstance(coupling.method, Direct)


def test_dense_flattens_its_input():
    coupling = Dense((2, 3), 4)
    params = coupling.init(jax.random.key(0))
    lower = random(1, 5, 2, 3)
    expected = lower.reshape(5, 6) @ params["kernel"] + params["bias"]
    assert_trees_all_close(coupling.apply(coupling.prepare(params), lower), expected)


@pytest.mark.parametrize("coupling", [Dense((50,), 400), Conv((8, 8, 50), 400)])
@pytest.mark.parametrize("gain", [1.0, 0.5])
def test_weights_are_uniform_up_to_gain_over_root_fan_in(coupling, gain):
    params = coupling.init(jax.random.key(0), gain, jnp.float64)
    bound = gain / coupling.fan_in**0.5
    for leaf in params.values():
        assert jnp.abs(leaf).max() <= bound
        assert jnp.abs(leaf).max() > 0.98 * bound
    assert float(params["kernel"].std()) == pytest.approx(bound / 3**0.5, rel=0.02)
