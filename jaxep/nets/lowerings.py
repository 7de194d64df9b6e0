"""How the linear part w * ξ of a convolutional coupling is computed: several ways, the same sum.

An equilibrium takes hundreds of steps with the same weights, so a lowering may spend much on them
once: `prepare` turns a kernel into a forward and a backward operator, and the steps use only these.
All of a lowering is linear in the operator and in the states; `product` joins its parts to one
function with the derivatives that the couplings need.
"""

import dataclasses
import functools
import math
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


class Lowering(Protocol):
    """One way to compute a convolution."""

    def prepare(self, kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Kernel [height, width, in, out] -> (forward operator, backward operator)."""
        ...

    def apply(self, forward: jax.Array, lower: jax.Array) -> jax.Array:
        """w * lower: [batch, height, width, in] -> [batch, height', width', out]."""
        ...

    def transpose(self, backward: jax.Array, upper: jax.Array) -> jax.Array:
        """The transpose of `apply` in `lower`: d<upper, w * lower>/dlower."""
        ...

    def gradient(self, forward: jax.Array, lower: jax.Array, upper: jax.Array) -> jax.Array:
        """The transpose of `apply` in `forward`: d<upper, w * lower>/dforward."""
        ...


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def product(
    lowering: Lowering, forward: jax.Array, backward: jax.Array, lower: jax.Array
) -> jax.Array:
    """w * lower, whose derivative in `lower` multiplies by the prepared `backward`.

    XLA does not hoist the flipped, transposed kernel of the backward convolution out of a loop.
    """
    del backward
    return lowering.apply(forward, lower)


def _product_fwd(lowering, forward, backward, lower):
    return lowering.apply(forward, lower), (forward, backward, lower)


def _product_bwd(lowering, residuals, cotangent):
    forward, backward, lower = residuals
    # All of the kernel's gradient goes to `forward`: `backward` is the same kernel once more.
    return (
        lowering.gradient(forward, lower, cotangent),
        jnp.zeros_like(backward),
        lowering.transpose(backward, cotangent),
    )


product.defvjp(_product_fwd, _product_bwd)


def flipped(kernel: jax.Array) -> jax.Array:
    """The kernel of the transposed convolution: [height, width, out, in], turned by 180 degrees."""
    return jnp.flip(kernel, (0, 1)).swapaxes(2, 3)


@dataclasses.dataclass(frozen=True)
class Direct:
    """The backend's own convolution (cuDNN on a GPU).

    Attributes:
        padding: zeros added on each side.
        stride: on both axes.
        unseen: last rows and columns of the padded map that no stride of the kernel reaches.
    """

    padding: int
    stride: int = 1
    unseen: tuple[int, int] = (0, 0)

    def prepare(self, kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
        return kernel, flipped(kernel)

    def apply(self, forward: jax.Array, lower: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(
            lower,
            forward,
            window_strides=(self.stride, self.stride),
            padding=[(self.padding, self.padding)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    def transpose(self, backward: jax.Array, upper: jax.Array) -> jax.Array:
        border = backward.shape[0] - 1 - self.padding
        return lax.conv_general_dilated(
            upper,
            backward,
            window_strides=(1, 1),
            padding=[(border, border + unseen) for unseen in self.unseen],
            lhs_dilation=(self.stride, self.stride),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    def gradient(self, forward: jax.Array, lower: jax.Array, upper: jax.Array) -> jax.Array:
        if jax.default_backend() != "cpu":
            correlate = jax.linear_transpose(lambda kernel: self.apply(kernel, lower), forward)
            return correlate(upper)[0]
        return _kernel_gradient(forward, lower, upper, (self.stride, self.stride), self.padding)


def taps(
    lower: jax.Array, window: tuple[int, ...], strides: tuple[int, int], padding: int
) -> list[jax.Array]:
    """For each place of the kernel, row by row, what it sees: [batch, height', width', channels].

    Args:
        lower: [batch, height, width, channels].
        window: height and width of the kernel.
        strides: of rows and columns.
        padding: zeros added on each side.
    """
    border = (padding, padding)
    padded = jnp.pad(lower, [(0, 0), border, border, (0, 0)])
    spans = [
        (size - seen) // stride * stride + 1
        for size, seen, stride in zip(padded.shape[1:3], window, strides, strict=True)
    ]
    return [
        padded[:, i : i + spans[0] : strides[0], j : j + spans[1] : strides[1]]
        for i, j in np.ndindex(*window)
    ]


def _kernel_gradient(
    forward: jax.Array,
    lower: jax.Array,
    upper: jax.Array,
    strides: tuple[int, int],
    padding: int,
) -> jax.Array:
    """d<upper, forward * lower>/dforward by one matrix product for each place of the kernel.

    XLA:CPU is slow at this convolution, whose kernel is as large as the map.
    """
    height, width = forward.shape[:2]
    products = [
        jnp.einsum("nyxc,nyxd->cd", seen, upper)
        for seen in taps(lower, (height, width), strides, padding)
    ]
    rows = [jnp.stack(products[i : i + width]) for i in range(0, height * width, width)]
    return jnp.stack(rows)


@dataclasses.dataclass(frozen=True)
class Pairs:
    """The backend's convolution with two neighbouring columns of outputs as one, of stride 1.

    A kernel of one more column and twice the channels: products of few channels are too narrow for
    a CPU. A fourth of a 3x3 kernel's are then with zeros, and at 16 channels it takes 0.6 to 0.7 of
    the time of `Direct`.

    Attributes:
        padding: zeros added on each side; both maps are of even width.
    """

    padding: int

    def prepare(self, kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
        return self._widened(kernel), self._widened(flipped(kernel))

    def apply(self, forward: jax.Array, lower: jax.Array) -> jax.Array:
        return self._correlate(forward, lower, self.padding)

    def transpose(self, backward: jax.Array, upper: jax.Array) -> jax.Array:
        return self._correlate(backward, upper, backward.shape[0] - 1 - self.padding)

    def gradient(self, forward: jax.Array, lower: jax.Array, upper: jax.Array) -> jax.Array:
        batch, height, width, channels = upper.shape
        pairs = upper.reshape(batch, height, width // 2, 2 * channels)
        return _kernel_gradient(forward, lower, pairs, (1, 2), self.padding)

    def _widened(self, kernel: jax.Array) -> jax.Array:
        """[height, width, in, out] -> [height, width + 1, in, 2 out], the left column first."""
        sides = [jnp.pad(kernel, [(0, 0), (right, 1 - right), (0, 0), (0, 0)]) for right in (0, 1)]
        return jnp.concatenate(sides, -1)

    def _correlate(self, operator: jax.Array, lower: jax.Array, padding: int) -> jax.Array:
        pairs = lax.conv_general_dilated(
            lower,
            operator,
            window_strides=(1, 2),
            padding=[(padding, padding)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        batch, height, width, channels = pairs.shape
        return pairs.reshape(batch, height, 2 * width, channels // 2)


@dataclasses.dataclass(frozen=True)
class Patches:
    """One product of what the kernel sees at each place, [places, taps * in], with the kernel.

    XLA:CPU runs the transpose of a strided 3x3 convolution onto a 2x2 map at 1 GFLOP/s; small maps
    and 1x1 kernels have few patches to gather.

    Attributes:
        in_shape: (height, width, channels) of the lower map.
        kernel_size: height and width of the kernel.
        stride: on both axes.
        padding: zeros added on each side.
    """

    in_shape: tuple[int, int, int]
    kernel_size: int
    stride: int
    padding: int

    def prepare(self, kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
        matrix = kernel.reshape(-1, kernel.shape[-1])
        return matrix, matrix

    def apply(self, forward: jax.Array, lower: jax.Array) -> jax.Array:
        window, strides = (self.kernel_size, self.kernel_size), (self.stride, self.stride)
        return jnp.concatenate(taps(lower, window, strides, self.padding), -1) @ forward

    def transpose(self, backward: jax.Array, upper: jax.Array) -> jax.Array:
        lower = jax.ShapeDtypeStruct((upper.shape[0], *self.in_shape), upper.dtype)
        return jax.linear_transpose(lambda lower: self.apply(backward, lower), lower)(upper)[0]

    def gradient(self, forward: jax.Array, lower: jax.Array, upper: jax.Array) -> jax.Array:
        return jax.linear_transpose(lambda matrix: self.apply(matrix, lower), forward)(upper)[0]


@dataclasses.dataclass(frozen=True)
class Matrix:
    """One product with the whole matrix of the convolution, [inputs, outputs].

    XLA:CPU runs a 3x3 convolution on a 2x2 map at about 2 GFLOP/s, and there every output sees
    every input anyway.

    Attributes:
        in_shape: (height, width, channels) of the lower map.
        out_shape: the same of the upper map.
        stride: on both axes.
        padding: zeros added on each side.
    """

    in_shape: tuple[int, int, int]
    out_shape: tuple[int, int, int]
    stride: int
    padding: int

    def prepare(self, kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
        rows, columns, _ = self.in_shape
        out_rows, out_columns, _ = self.out_shape
        size = kernel.shape[0]
        taps = np.zeros((rows, columns, out_rows, out_columns, size, size))
        for i, j, a, b in np.ndindex(out_rows, out_columns, size, size):
            row, column = i * self.stride + a - self.padding, j * self.stride + b - self.padding
            if 0 <= row < rows and 0 <= column < columns:
                taps[row, column, i, j, a, b] = 1
        matrix = jnp.einsum("yxijab,abcd->yxcijd", taps.astype(kernel.dtype), kernel)
        matrix = matrix.reshape(math.prod(self.in_shape), math.prod(self.out_shape))
        return matrix, matrix

    def apply(self, forward: jax.Array, lower: jax.Array) -> jax.Array:
        return (_rows(lower) @ forward).reshape(-1, *self.out_shape)

    def transpose(self, backward: jax.Array, upper: jax.Array) -> jax.Array:
        return (_rows(upper) @ backward.T).reshape(-1, *self.in_shape)

    def gradient(self, forward: jax.Array, lower: jax.Array, upper: jax.Array) -> jax.Array:
        return _rows(lower).T @ _rows(upper)


def _rows(x: jax.Array) -> jax.Array:
    return x.reshape(x.shape[0], -1)
