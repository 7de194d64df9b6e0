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
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxep.nets.lowerings import (
    BETWEEN_ZEROS,
    INSIDE,
    Direct,
    Filtering,
    Lowering,
    Matrix,
    Winograd,
    product,
)

Params = dict[str, jax.Array]
LoweringName = Literal["auto", "convolution", "dense", "winograd"]

# XLA:CPU runs a 3x3 convolution from or to a 2x2 map at about 2 GFLOP/s, and there the convolution
# is one dense product anyway (nearly every output sees every input). From 4x4 on, it wins.
CPU_DENSE_MAP = 2
CPU_WINOGRAD_CHANNELS = 32  # minimal filtering pays from here on, on every map


# Of a pool: int8 [batch, *out_shape]; () without one.
Places = Any


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
    def init(self, key: jax.Array, gain: float, dtype) -> Params: ...
    def prepare(self, params: Params) -> Operators: ...
    def apply(self, operators: Operators, lower: jax.Array) -> jax.Array: ...
    def recall(
        self, operators: Operators, lower: jax.Array, places: Places | None
    ) -> tuple[jax.Array, Places]: ...


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

    def recall(
        self, operators: Operators, lower: jax.Array, places: Places | None
    ) -> tuple[jax.Array, Places]:
        """`apply`, and nothing to remember."""
        return self.apply(operators, lower), ()


@dataclasses.dataclass(frozen=True)
class Conv:
    """<upper, P(w * lower + b)>: convolution of stride 1, then an optional 2x2 max pool (eq. 1).

    Attributes:
        in_shape: (height, width, channels) of the lower layer.
        features: channels of the upper layer.
        kernel_size: height and width of the kernel.
        padding: zeros added on each side.
        pool: 2x2 max pool with stride 2 after the convolution; an odd last row or column is cut.
        lowering: `convolution` keeps the backend's convolution, `winograd` is minimal filtering,
            `dense` multiplies by the whole matrix of the convolution, `auto` takes what is fast for
            this map on this backend.
    """

    in_shape: tuple[int, int, int]
    features: int
    kernel_size: int = 3
    padding: int = 1
    pool: bool = False
    lowering: LoweringName = "auto"

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
    def method(self) -> Lowering:
        """The lowering that `lowering` names, or what is fast for this map on this backend."""
        name = self._fast() if self.lowering == "auto" else self.lowering
        return LOWERINGS[name](self)

    def _fast(self) -> str:
        """What was fastest on each kind of map: python -m benchmarks.lowerings."""
        if jax.default_backend() != "cpu":
            return "convolution"
        small = min(*self.in_shape[:2], *self.conv_shape[:2]) <= CPU_DENSE_MAP
        channels = min(self.in_shape[2], self.features)
        if self._winograd and channels >= CPU_WINOGRAD_CHANNELS:
            return "winograd"
        return "dense" if small else "convolution"

    @property
    def _winograd(self) -> bool:
        """Whether minimal filtering can compute it: 3x3, even maps."""
        even = all(size % 2 == 0 for size in (*self.in_shape[:2], *self.conv_shape[:2]))
        return self.kernel_size == 3 and self.padding <= 2 and even

    def init(self, key: jax.Array, gain: float = 1.0, dtype=jnp.float32) -> Params:
        """Kernel [height, width, in, out] and bias [out], U(-gain/sqrt(fan_in), ...)."""
        kernel_key, bias_key = jax.random.split(key)
        shape = (self.kernel_size, self.kernel_size, self.in_shape[-1], self.features)
        return {
            "kernel": uniform_init(kernel_key, shape, self.fan_in, gain, dtype),
            "bias": uniform_init(bias_key, (self.features,), self.fan_in, gain, dtype),
        }

    def prepare(self, params: Params) -> Operators:
        """The kernel as the lowering wants it in the loop."""
        return Operators(*self.method.prepare(params["kernel"]), params["bias"])

    def apply(self, operators: Operators, lower: jax.Array) -> jax.Array:
        """[batch, *in_shape] -> [batch, *out_shape]."""
        return self.recall(operators, lower, None)[0]

    def recall(
        self, operators: Operators, lower: jax.Array, places: Places | None
    ) -> tuple[jax.Array, Places]:
        """`apply`, and where the maxima of the pool are.

        Args:
            operators: of `prepare`.
            lower: [batch, *in_shape].
            places: what an earlier call with the same arguments returned: the derivative in
                `lower` then needs no convolution of `lower`. None: not known.

        Returns:
            ([batch, *out_shape], places of the maxima, int8 of the same shape; () without a pool).
        """
        output = product(self.method, operators.forward, operators.backward, lower)
        output = output + operators.bias
        if not self.pool:
            return output, ()
        places = first_maxima(output) if places is None else places
        return picked(output, places), places


LOWERINGS: dict[str, Callable[[Conv], Lowering]] = {
    "convolution": lambda conv: Direct(conv.padding),
    "dense": lambda conv: Matrix(conv.in_shape, conv.conv_shape, conv.padding),
    "winograd": lambda conv: Winograd(conv.padding, _filtering(conv)),
}


def _filtering(conv: Conv) -> Filtering:
    clipped = conv.padding == 1 and conv.in_shape[:2] == (2, 2)
    return BETWEEN_ZEROS if clipped else INSIDE


def _windows(x: jax.Array) -> jax.Array:
    """[batch, height, width, channels] -> [batch, height/2, 2, width/2, 2, channels]."""
    batch, height, width, channels = x.shape
    x = x[:, : height // 2 * 2, : width // 2 * 2]
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels)


def first_maxima(x: jax.Array) -> jax.Array:
    """Which of the four places of each 2x2 window holds its first maximum: 0 to 3, row by row.

    Args:
        x: [batch, height, width, channels]; an odd last row or column is cut.

    Returns:
        int8 [batch, height // 2, width // 2, channels].
    """
    windows = _windows(x)
    a, b = windows[:, :, 0, :, 0], windows[:, :, 0, :, 1]
    c, d = windows[:, :, 1, :, 0], windows[:, :, 1, :, 1]
    top, bottom = jnp.maximum(a, b), jnp.maximum(c, d)
    place = jnp.where(top >= bottom, jnp.where(a >= b, 0, 1), jnp.where(c >= d, 2, 3))
    return place.astype(jnp.int8)


def picked(x: jax.Array, places: jax.Array) -> jax.Array:
    """The value at `places` of each window: at `first_maxima(x)`, the max pool P of eq. 1, eq. 19.

    Its derivative is the explicit mask, that of `lax.reduce_window` and 5 to 8 times faster on CPU.
    """
    mask = places[:, :, None, :, None] == np.arange(4, dtype=np.int8).reshape(2, 1, 2, 1)
    return jnp.where(mask, _windows(x), 0).sum(axis=(2, 4))
