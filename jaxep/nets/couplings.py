"""Bilinear couplings <upper, C(lower)>: convolution with a pool, dense, identity, or one of yours.

A coupling splits its work in two, because an equilibrium takes hundreds of steps with the same
weights:

- `prepare(params)` runs once per batch and returns the operators: the weights in the form in which
  the loop wants them. XLA does not hoist the flipped, transposed kernel of the backward
  convolution out of a loop; here it is built before.
- `apply(operators, lower)` runs in every step. Its derivative in `lower` multiplies by the
  prepared backward operator, so `jax.grad` of the energy is as fast as hand-written dynamics, and
  its derivative in `operators`, carried back through `prepare`, is the exact weight gradient.
"""

import abc
import dataclasses
import functools
import math
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxep.core import checks
from jaxep.core.holomorphic import by_parts
from jaxep.nets.lowerings import Lowering, product
from jaxep.nets.methods import LOWERINGS, Geometry, LoweringName, fastest
from jaxep.nets.pools import PoolIndices, averaged, first_maxima, picked
from jaxep.nets.weights import Params, Shape, initial_weights, with_bias

Pool = Literal["max", "average"]


class Operators(NamedTuple):
    """Weights as the loop wants them: forward and backward operator, bias [channels] if any."""

    forward: jax.Array
    backward: jax.Array
    bias: jax.Array | None


class Coupling(abc.ABC):
    """What a network needs of each edge: a map C from the lower layer's states to the upper's.

    A subclass has `in_shape` and `out_shape`, shapes of the two layers without the batch, and the
    methods `init` and `apply`. Derivatives are JAX's own. A frozen dataclass is best.
    """

    # Seen by type checkers alone: a field of the same name in a dataclass would take the property
    # of its base class for its default.
    if TYPE_CHECKING:

        @property
        def in_shape(self) -> Shape: ...

        @property
        def out_shape(self) -> Shape: ...

    @abc.abstractmethod
    def init(self, key: jax.Array, gain: float = 1.0, dtype=jnp.float32) -> Params:
        """Initial weights, of scale `gain`; empty if there are none."""

    @abc.abstractmethod
    def apply(self, operators: Any, lower: jax.Array) -> jax.Array:
        """C(lower): [batch, *in_shape] -> [batch, *out_shape]."""

    def prepare(self, params: Params) -> Any:
        """The operators of `apply`, any pytree, made of the weights once per batch."""
        return params

    def apply_and_cache(
        self, operators: Any, lower: jax.Array, indices: Any | None
    ) -> tuple[jax.Array, Any]:
        """`apply`, and what its derivative in `lower` needs of `lower`, to be found only once.

        Args:
            operators: of `prepare`.
            lower: [batch, *in_shape].
            indices: what an earlier call with the same arguments returned; None: not known.

        Returns:
            (C(lower) [batch, *out_shape], arrays that lead with the batch; () if nothing).
        """
        del indices
        return self.apply(operators, lower), ()


def _check_lower(coupling: Coupling, lower: jax.Array) -> None:
    if jnp.ndim(lower) == 0 or jnp.shape(lower)[1:] != tuple(coupling.in_shape):
        wanted = ", ".join(map(str, ("batch", *coupling.in_shape)))
        raise ValueError(
            f"{type(coupling).__name__}: lower is {list(jnp.shape(lower))}: must be [{wanted}]"
        )


@dataclasses.dataclass(frozen=True)
class Identity(Coupling):
    """<upper, lower>, without weights: the skip of a residual block.

    Attributes:
        in_shape: shape of both layers without the batch.
    """

    in_shape: Shape

    @property
    def out_shape(self) -> Shape:
        return self.in_shape

    def init(self, key: jax.Array, gain: float = 1.0, dtype=jnp.float32) -> Params:
        """No weights: {}."""
        del key, gain, dtype
        return {}

    def apply(self, operators: Any, lower: jax.Array) -> jax.Array:
        """[batch, *in_shape], as it is.

        Raises:
            ValueError: `lower` is of another shape.
        """
        del operators
        _check_lower(self, lower)
        return lower


@dataclasses.dataclass(frozen=True)
class Dense(Coupling):
    """<upper, W flat(lower) + b>, from any shape to a vector.

    Attributes:
        in_shape: shape of the lower layer without the batch.
        features: neurons of the upper layer.
        use_bias: whether there is a b.

    Raises:
        ValueError: `features` is no integer of at least 1.
    """

    in_shape: Shape
    features: int
    use_bias: bool = True

    def __post_init__(self) -> None:
        checks.at_least_one("Dense: features", self.features)

    @property
    def out_shape(self) -> Shape:
        return (self.features,)

    @property
    def fan_in(self) -> int:
        return math.prod(self.in_shape)

    def init(self, key: jax.Array, gain: float = 1.0, dtype=jnp.float32) -> Params:
        """Kernel [inputs, features] and bias [features], U(-gain/sqrt(fan_in), ...)."""
        shape = (self.fan_in, self.features)
        return initial_weights(key, shape, self.fan_in, self.use_bias, gain, dtype)

    def apply(self, operators: Params, lower: jax.Array) -> jax.Array:
        """[batch, *in_shape] -> [batch, features]; the weights need no preparation.

        Raises:
            ValueError: `lower` is of another shape.
        """
        _check_lower(self, lower)
        rows = lower.reshape(lower.shape[0], -1)
        output = by_parts(lambda rows: rows @ operators["kernel"], rows)
        return with_bias(output, operators["bias"]) if self.use_bias else output


@dataclasses.dataclass(frozen=True)
class Conv(Coupling):
    """<upper, P(w * lower + b)>: convolution, then an optional 2x2 pool P (eq. 1).

    Attributes:
        in_shape: (height, width, channels) of the lower layer.
        features: channels of the upper layer.
        kernel_size: height and width of the kernel.
        stride: of the convolution, on both axes.
        padding: zeros added on each side.
        pool: 2x2 pool with stride 2 after the convolution: "max", "average" or None; an odd last
            row or column is cut.
        use_bias: whether there is a b.
        lowering: one of `methods.LOWERINGS`, or `auto`: what is fast for this map on this backend.

    Raises:
        ValueError: an attribute is not of its kind, the kernel or the pool does not fit the map, or
            the lowering cannot compute it.
    """

    in_shape: tuple[int, int, int]
    features: int
    kernel_size: int = 3
    stride: int = 1
    padding: int = 1
    pool: Pool | None = None
    use_bias: bool = True
    lowering: LoweringName = "auto"

    def __post_init__(self) -> None:
        if self.pool is not None:
            checks.one_of("Conv: pool", self.pool, ("max", "average"))
        checks.one_of("Conv: lowering", self.lowering, ("auto", *LOWERINGS))
        height, width, _ = self.conv_shape
        if self.pool is not None and min(height, width) < 2:
            raise ValueError(
                f"Conv: pool = {self.pool!r}: must be None, as the convolution leaves a "
                f"{height}x{width} map, smaller than 2x2"
            )
        if self.lowering != "auto":
            LOWERINGS[self.lowering](self.geometry)

    @property
    def geometry(self) -> Geometry:
        """The sizes of the convolution, before pooling."""
        return Geometry(self.in_shape, self.features, self.kernel_size, self.stride, self.padding)

    @property
    def conv_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) before pooling."""
        return self.geometry.out_shape

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
        name = fastest(self.geometry) if self.lowering == "auto" else self.lowering
        return LOWERINGS[name](self.geometry)

    def init(self, key: jax.Array, gain: float = 1.0, dtype=jnp.float32) -> Params:
        """Kernel [height, width, in, out] and bias [out], U(-gain/sqrt(fan_in), ...)."""
        shape = (self.kernel_size, self.kernel_size, self.in_shape[-1], self.features)
        return initial_weights(key, shape, self.fan_in, self.use_bias, gain, dtype)

    def prepare(self, params: Params) -> Operators:
        """The kernel as the lowering wants it in the loop."""
        bias = params["bias"] if self.use_bias else None
        return Operators(*self.method.prepare(params["kernel"]), bias)

    def apply(self, operators: Operators, lower: jax.Array) -> jax.Array:
        """[batch, *in_shape] -> [batch, *out_shape].

        Raises:
            ValueError: `lower` is of another shape.
        """
        return self.apply_and_cache(operators, lower, None)[0]

    def apply_and_cache(
        self, operators: Operators, lower: jax.Array, indices: PoolIndices | None
    ) -> tuple[jax.Array, PoolIndices]:
        """`apply`, and where the maxima of the pool are.

        Args:
            operators: of `prepare`.
            lower: [batch, *in_shape].
            indices: what an earlier call with the same arguments returned: the derivative in
                `lower` then needs no convolution of `lower`. None: not known.

        Returns:
            ([batch, *out_shape], indices of the maxima, int8 of the same shape; () without a max
            pool).

        Raises:
            ValueError: `lower` is of another shape.
        """
        _check_lower(self, lower)
        if self.pool == "max" and jnp.iscomplexobj(lower):
            raise ValueError("Conv: pool = 'max': must be 'average' or None for complex states")
        convolved = functools.partial(product, self.method, operators.forward, operators.backward)
        output = by_parts(convolved, lower)
        output = averaged(output) if self.pool == "average" else output
        output = output if operators.bias is None else with_bias(output, operators.bias)
        if self.pool != "max":
            return output, ()
        indices = first_maxima(output) if indices is None else indices
        return picked(output, indices), indices
