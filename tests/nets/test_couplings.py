"""Fast paths equal textbook convolutions and `reduce_window`, in value and in every derivative."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import pytest
from chex import assert_trees_all_close

from benchmarks.baselines import textbook
from jaxep.nets import winograd
from jaxep.nets.couplings import Conv, Coupling, Dense, Identity
from jaxep.nets.lowerings import Direct, Matrix, Pairs, Patches
from jaxep.nets.pools import averaged, first_maxima, picked
from jaxep.nets.weights import uniform_init
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


@pytest.mark.parametrize("shape", [(2, 4, 6, 3), (1, 5, 7, 2), (3, 2, 3, 1)])
def test_average_pool_equals_reduce_window(shape):
    x = random(0, *shape)
    value, pullback = jax.vjp(textbook.average_pool, x)
    cotangent = random(1, *value.shape)
    assert_trees_all_close(averaged(x), value)
    assert_trees_all_close(jax.vjp(averaged, x)[1](cotangent), pullback(cotangent))


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
    for pool, padding in ((None, 0), (None, 1), ("max", 0), ("max", 1), ("average", 1))
    if min(size) + 2 * padding >= 4
]


# Every way to stride, on maps whose last row it may leave out.
STRIDED = [
    Conv((*size, 3), 5, kernel_size, 2, padding, lowering=lowering)
    for lowering in ("convolution", "patches", "dense")
    for size, kernel_size, padding in (
        ((7, 8), 1, 0),
        ((8, 6), 3, 1),
        ((7, 8), 3, 0),
        ((7, 8), 5, 2),
    )
]
OTHERS = [
    Conv((5, 4, 3), 6, lowering="pairs"),
    Conv((6, 6, 2), 3, 5, 1, 0, "max", lowering="pairs"),
    Conv((4, 4, 2), 3, 1, 1, 2, lowering="pairs"),
    Conv((6, 7, 2), 4, 1, 1, 0),
    Conv((6, 7, 2), 4, 1, 1, 2, "average"),
    Conv((6, 7, 2), 4, 5, 1, 0),
    Conv((6, 7, 2), 4, 5, 1, 2, "max"),
    Conv((3, 4, 2), 4, 4, 3, 1),
    Conv((9, 8, 2), 4, 2, 3, 1, lowering="convolution"),
    Conv((6, 4, 3), 5, use_bias=False),
    Conv((7, 8, 3), 5, 3, 2, 1, "max", use_bias=False),
    Conv((7, 8, 3), 5, 3, 2, 1, "average"),
    Dense((2, 3), 4),
    Dense((6,), 4, use_bias=False),
    Identity((4, 3, 2)),
]


@pytest.mark.parametrize("coupling", [*CONVS, *STRIDED, *OTHERS], ids=str)
def test_coupling_equals_textbook_in_value_and_derivatives(coupling, monkeypatch):
    monkeypatch.setattr(winograd, "TILES", 2)  # minimal filtering takes shares of larger batches
    assert_equals(coupling, functools.partial(textbook.drive, coupling))


def assert_equals(coupling, drive):
    """C and all its derivatives are those of `drive`, a function of parameters and `lower`."""
    params = coupling.init(jax.random.key(0), 1.0, jnp.float64)
    lower = random(1, 2, *coupling.in_shape)
    upper = random(2, 2, *coupling.out_shape)

    def fast(params, lower):
        return jnp.sum(upper * coupling.apply(coupling.prepare(params), lower))

    def slow(params, lower):
        return jnp.sum(upper * drive(params, lower))

    @functools.partial(jax.jit, static_argnums=0)
    def derivatives(energy, params, lower):
        """Value, first ones; d/dw |dE/dlower|² as in BPTT and implicit gradients, jvp of dE/dw."""
        square = jax.grad(lambda p: jnp.sum(jnp.square(jax.grad(energy, 1)(p, lower))))
        slope = functools.partial(jax.grad(energy, 0), params)
        curvature = jax.jvp(slope, (lower,), (lower + 1,))[1]
        return jax.value_and_grad(energy, (0, 1))(params, lower), (square(params), curvature)

    assert coupling.out_shape == jax.eval_shape(drive, params, lower).shape[1:]
    (first, second), (wanted, wanted_second) = (
        derivatives(energy, params, lower) for energy in (fast, slow)
    )
    assert_trees_all_close(first[0], wanted[0], rtol=1e-12)
    assert_trees_all_close(first[1], wanted[1], atol=1e-12)
    assert_trees_all_close(second, wanted_second, atol=1e-11)


@dataclasses.dataclass(frozen=True)
class Depthwise(Coupling):
    """What a user writes: a 3x3 kernel for each channel."""

    in_shape: tuple[int, int, int]

    @property
    def out_shape(self):
        return self.in_shape

    def init(self, key, gain=1.0, dtype=jnp.float32):
        return {"kernel": uniform_init(key, (3, 3, 1, self.in_shape[-1]), 9, gain, dtype)}

    def apply(self, operators, lower):
        numbers, channels = ("NHWC", "HWIO", "NHWC"), self.in_shape[-1]
        return jax.lax.conv_general_dilated(
            lower, operators["kernel"], (1, 1), "SAME", None, None, numbers, channels
        )


def test_a_coupling_of_a_user_needs_shapes_init_and_apply():
    def drive(params, lower):
        padded = jnp.pad(lower, [(0, 0), (1, 1), (1, 1), (0, 0)])
        places = [(i, j) for i in range(3) for j in range(3)]
        return sum(params["kernel"][i, j, 0] * padded[:, i : i + 5, j : j + 4] for i, j in places)

    coupling = Depthwise((5, 4, 3))
    assert_equals(coupling, drive)
    params = coupling.init(jax.random.key(0), 1.0, jnp.float64)
    lower = random(1, 2, 5, 4, 3)
    value, kept = coupling.apply_and_cache(coupling.prepare(params), lower, None)
    assert kept == ()
    assert_trees_all_close(value, drive(params, lower), rtol=1e-12)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", [0, 1])
def test_weight_gradient_of_an_accelerator_equals_that_of_the_cpu(stride, padding, monkeypatch):
    coupling = Conv((5, 4, 3), 6, stride=stride, padding=padding, lowering="convolution")
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
        return jax.grad(
            lambda x: jnp.sum(upper * coupling.apply_and_cache(operators, x, indices)[0])
        )(lower)

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
        ((8, 8, 16), 16, {}, Pairs),
        ((7, 7, 16), 16, {}, Direct),
        ((8, 8, 16), 16, {"kernel_size": 1, "padding": 0}, Direct),
        ((7, 7, 64), 64, {}, Direct),
        ((8, 8, 64), 64, {"kernel_size": 5, "padding": 2}, Direct),
        ((32, 32, 128), 128, {"stride": 2}, Direct),
        ((4, 4, 512), 512, {"stride": 2}, Patches),
        ((16, 16, 128), 256, {"kernel_size": 1, "stride": 2, "padding": 0}, Patches),
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


@pytest.mark.parametrize("coupling", [Conv((5, 4, 3), 6, use_bias=False), Dense((5,), 6, False)])
def test_without_a_bias_the_kernel_is_all_that_is_drawn(coupling):
    params = coupling.init(jax.random.key(0), 0.5)
    kernel = uniform_init(jax.random.key(0), params["kernel"].shape, coupling.fan_in, 0.5, "f4")
    assert_trees_all_close(params, {"kernel": kernel}, rtol=0)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"in_shape": (8, 8)}, r"in_shape = \(8, 8\): must be \(height, width, channels\)"),
        ({"features": 0}, "features = 0: must be an integer of at least 1"),
        ({"stride": 0}, "stride = 0: must be an integer of at least 1"),
        ({"kernel_size": 2.5}, "kernel_size = 2.5: must be an integer of at least 1"),
        ({"padding": -1}, "padding = -1: must be an integer of at least 0"),
        ({"kernel_size": 9, "padding": 1}, "kernel_size = 9: must be at most 7 on a 8x5 map"),
        ({"pool": "mean"}, "pool = 'mean': must be one of max, average"),
        ({"pool": "max", "stride": 5}, "pool = 'max': must be None.* a 2x1 map"),
        ({"lowering": "fft"}, "lowering = 'fft': must be one of auto, convolution"),
        ({"lowering": "pairs"}, "lowering = 'pairs': must be another one"),
        ({"lowering": "winograd"}, "lowering = 'winograd': must be another one"),
    ],
)
def test_a_convolution_that_cannot_be_is_refused_with_a_sentence(options, sentence):
    with pytest.raises(ValueError, match=f"^Conv: {sentence}"):
        Conv(**{"in_shape": (8, 5, 3), "features": 4, **options})


@pytest.mark.parametrize("coupling", [Conv((6, 4, 3), 5), Dense((6,), 5), Identity((6,))], ids=str)
def test_a_lower_layer_of_another_shape_is_refused_with_a_sentence(coupling):
    operators = coupling.prepare(coupling.init(jax.random.key(0)))
    sentence = rf"{type(coupling).__name__}: lower is \[2, 7\]: must be \[batch, 6"
    with pytest.raises(ValueError, match=sentence):
        coupling.apply(operators, jnp.zeros((2, 7)))


def test_dense_refuses_to_have_no_neurons():
    with pytest.raises(ValueError, match="Dense: features = 0: must be an integer of at least 1"):
        Dense((3,), 0)


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
