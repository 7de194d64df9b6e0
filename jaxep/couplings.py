"""Bilinear couplings <upper, C(lower)>: convolution with max pooling, and dense.

The only file that knows kernels, strides, pooling and what is fast on which backend. A coupling
splits its work in two, because an equilibrium takes hundreds of steps with the same weights:

- `prepare(params)` runs once per batch and returns `Operators`: the weights in the form in which
  the loop wants them. XLA does not hoist the flipped, transposed kernel of the backward
  convolution out of a loop; here it is built before.
- `apply(operators, lower)` runs in every step. Its derivative in `lower` multiplies by the
  prepared backward operator, so `jax.grad` of the energy is as fast as hand-written dynamics, and
  its derivative in `operators`, carried back through `prepare`, is the exact weight gradient.
"""

import dataclasses
import functools
import math
from typing import Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Params = dict[str, jax.Array]
Lowering = Literal["auto", "convolution", "dense"]

# XLA:CPU runs a 3x3 convolution on a 2x2 map at about 2 GFLOP/s, and there the convolution is one
# dense product anyway (every output sees every input). From 4x4 on, its convolution wins.
CPU_DENSE_MAP = 2


class Operators(NamedTuple):
    """Weights as the loop wants them: forward and backward operator, bias [channels]."""

    forward: jax.Array
    backward: jax.Array
    bias: jax.Array


class Coupling(Protocol):
    """What a chain of layers needs of each link."""

    @property
    def in_shape(self) -> tuple[int, ...]: ...
    @property
    def out_shape(self) -> tuple[int, ...]: ...
    @property
    def features(self) -> int: ...
    @property
    def mask_cost(self) -> int: ...
    def init(self, key: jax.Array, gain: float, dtype) -> Params: ...
    def prepare(self, params: Params) -> Operators: ...
    def apply(self, operators: Operators, lower: jax.Array) -> jax.Array: ...


def uniform_init(
    key: jax.Array, shape: tuple[int, ...], fan_in: int, gain: float, dtype
) -> jax.Array:
    """U(-gain/sqrt(fan_in), gain/sqrt(fan_in)): PyTorch's Kaiming-uniform default at gain 1."""
    bound = gain / math.sqrt(fan_in)
    return jax.random.uniform(key, shape, dtype, -bound, bound)


@dataclasses.dataclass(frozen=True)
class Dense:
    """<upper, W flat(lower) + b>, from any shape to a vector.

    Attributes:
        in_shape: shape of the lower layer without the batch.
        features: neurons of the upper layer.
    """

    in_shape: tuple[int, ...]
    features: int

    @property
    def out_shape(self) -> tuple[int, ...]:
        return (self.features,)

    @property
    def fan_in(self) -> int:
        return math.prod(self.in_shape)

    @property
    def mask_cost(self) -> int:
        """Nothing: the way back needs no forward product."""
        return 0

    def init(self, key: jax.Array, gain: float = 1.0, dtype=jnp.float32) -> Params:
        """Kernel [inputs, features] and bias [features], U(-gain/sqrt(fan_in), ...)."""
        kernel_key, bias_key = jax.random.split(key)
        shape = (self.fan_in, self.features)
        return {
            "kernel": uniform_init(kernel_key, shape, self.fan_in, gain, dtype),
            "bias": uniform_init(bias_key, (self.features,), self.fan_in, gain, dtype),
        }

    def prepare(self, params: Params) -> Operators:
        """A matrix product needs no second copy: the backward operator is the same matrix."""
        return Operators(params["kernel"], params["kernel"], params["bias"])

    def apply(self, operators: Operators, lower: jax.Array) -> jax.Array:
        """[batch, *in_shape] -> [batch, features]."""
        flat = lower.reshape(lower.shape[0], -1)
        return flat @ operators.forward + operators.bias


@dataclasses.dataclass(frozen=True)
class Conv:
    """<upper, P(w * lower + b)>: convolution of stride 1, then an optional 2x2 max pool (eq. 1).

    Attributes:
        in_shape: (height, width, channels) of the lower layer.
        features: channels of the upper layer.
        kernel_size: height and width of the kernel.
        padding: zeros added on each side.
        pool: 2x2 max pool with stride 2 after the convolution; an odd last row or column is cut.
        lowering: `convolution` keeps the backend's convolution, `dense` multiplies by the whole
            matrix of the convolution, `auto` takes what is fast for this map on this backend.
    """

    in_shape: tuple[int, int, int]
    features: int
    kernel_size: int = 3
    padding: int = 1
    pool: bool = False
    lowering: Lowering = "auto"

    @property
    def conv_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) before pooling."""
        height, width, _ = self.in_shape
        grow = 2 * self.padding - self.kernel_size + 1
        return height + grow, width + grow, self.features

    @property
    def out_shape(self) -> tuple[int, int, int]:
        height, width, features = self.conv_shape
        return (height // 2, width // 2, features) if self.pool else (height, width, features)

    @property
    def fan_in(self) -> int:
        return self.kernel_size**2 * self.in_shape[-1]

    @property
    def mask_cost(self) -> int:
        """Multiplications per sample of the forward product whose maxima the way back needs."""
        return math.prod(self.conv_shape) * self.fan_in if self.pool else 0

    @property
    def is_dense(self) -> bool:
        if self.lowering == "auto":
            small = max(*self.in_shape[:2], *self.conv_shape[:2]) <= CPU_DENSE_MAP
            return small and jax.default_backend() == "cpu"
        return self.lowering == "dense"

    def init(self, key: jax.Array, gain: float = 1.0, dtype=jnp.float32) -> Params:
        """Kernel [height, width, in, out] and bias [out], U(-gain/sqrt(fan_in), ...)."""
        kernel_key, bias_key = jax.random.split(key)
        shape = (self.kernel_size, self.kernel_size, self.in_shape[-1], self.features)
        return {
            "kernel": uniform_init(kernel_key, shape, self.fan_in, gain, dtype),
            "bias": uniform_init(bias_key, (self.features,), self.fan_in, gain, dtype),
        }

    def prepare(self, params: Params) -> Operators:
        """Kernel and flipped, transposed kernel; or the matrix of the whole convolution."""
        kernel = params["kernel"]
        if self.is_dense:
            matrix = self._matrix(kernel)
            return Operators(matrix, matrix, params["bias"])
        return Operators(kernel, jnp.flip(kernel, (0, 1)).swapaxes(2, 3), params["bias"])

    def apply(self, operators: Operators, lower: jax.Array) -> jax.Array:
        """[batch, *in_shape] -> [batch, *out_shape]."""
        if self.is_dense:
            flat = lower.reshape(lower.shape[0], -1)
            output = (flat @ operators.forward).reshape(-1, *self.conv_shape)
        else:
            output = _convolve(self.padding, operators.forward, operators.backward, lower)
        output = output + operators.bias
        return max_pool(output) if self.pool else output

    def _matrix(self, kernel: jax.Array) -> jax.Array:
        """The convolution as a matrix [in_height * in_width * in, height * width * out]."""
        rows, columns, _ = self.in_shape
        out_rows, out_columns, _ = self.conv_shape
        size = self.kernel_size
        taps = np.zeros((rows, columns, out_rows, out_columns, size, size))
        for i, j, a, b in np.ndindex(out_rows, out_columns, size, size):
            row, column = i + a - self.padding, j + b - self.padding
            if 0 <= row < rows and 0 <= column < columns:
                taps[row, column, i, j, a, b] = 1
        matrix = jnp.einsum("yxijab,abcd->yxcijd", taps.astype(kernel.dtype), kernel)
        return matrix.reshape(math.prod(self.in_shape), math.prod(self.conv_shape))


def _correlate(lower: jax.Array, kernel: jax.Array, padding: int) -> jax.Array:
    return lax.conv_general_dilated(
        lower,
        kernel,
        window_strides=(1, 1),
        padding=[(padding, padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _convolve(padding: int, forward: jax.Array, backward: jax.Array, lower: jax.Array) -> jax.Array:
    """forward * lower, whose derivative in `lower` convolves with the prepared `backward`."""
    del backward
    return _correlate(lower, forward, padding)


def _convolve_fwd(padding, forward, backward, lower):
    return _correlate(lower, forward, padding), (forward, backward, lower)


def _convolve_bwd(padding, residuals, cotangent):
    forward, backward, lower = residuals
    lower_bar = _correlate(cotangent, backward, forward.shape[0] - 1 - padding)
    gradient = _kernel_gradient(padding, forward, lower, cotangent)
    # All of the kernel's gradient goes to `forward`: `backward` is the same kernel once more.
    return gradient, jnp.zeros_like(backward), lower_bar


def _kernel_gradient(padding, kernel, lower, cotangent):
    """d<cotangent, kernel * lower>/dkernel, [height, width, in, out].

    XLA:CPU is slow at this convolution, whose kernel is as large as the map; one matrix product
    for each place of the kernel is the same sum.
    """
    if jax.default_backend() != "cpu":
        correlate = jax.linear_transpose(lambda k: _correlate(lower, k, padding), kernel)
        return correlate(cotangent)[0]
    rows, columns = cotangent.shape[1:3]
    padded = jnp.pad(lower, [(0, 0), (padding, padding), (padding, padding), (0, 0)])

    def tap(i, j):
        seen = padded[:, i : i + rows, j : j + columns]
        return jnp.einsum("nyxc,nyxd->cd", seen, cotangent)

    size = kernel.shape[0]
    return jnp.stack([jnp.stack([tap(i, j) for j in range(size)]) for i in range(size)])


_convolve.defvjp(_convolve_fwd, _convolve_bwd)


def _windows(x: jax.Array) -> jax.Array:
    """[batch, height, width, channels] -> [batch, height/2, 2, width/2, 2, channels]."""
    batch, height, width, channels = x.shape
    x = x[:, : height // 2 * 2, : width // 2 * 2]
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels)


def _first_maximum(windows: jax.Array) -> jax.Array:
    """Which of the four places of each window holds its first maximum, as a mask."""
    a, b = windows[:, :, 0, :, 0], windows[:, :, 0, :, 1]
    c, d = windows[:, :, 1, :, 0], windows[:, :, 1, :, 1]
    top, bottom = jnp.maximum(a, b), jnp.maximum(c, d)
    place = jnp.where(top >= bottom, jnp.where(a >= b, 0, 1), jnp.where(c >= d, 2, 3))
    places = np.arange(4).reshape(2, 1, 2, 1)
    return place[:, :, None, :, None] == places


@jax.custom_jvp
def max_pool(x: jax.Array) -> jax.Array:
    """P of eq. 1, eq. 19: maximum over windows of 2x2 with stride 2.

    The derivative picks the first maximum of a window by an explicit mask. It equals that of
    `lax.reduce_window` and is 5 to 8 times faster on CPU.

    Args:
        x: [batch, height, width, channels]; an odd last row or column is cut.

    Returns:
        [batch, height // 2, width // 2, channels].
    """
    return _windows(x).max(axis=(2, 4))


@max_pool.defjvp
def _max_pool_jvp(primals, tangents):
    windows = _windows(primals[0])
    mask = _first_maximum(windows)
    tangent = jnp.where(mask, _windows(tangents[0]), 0).sum(axis=(2, 4))
    return windows.max(axis=(2, 4)), tangent
