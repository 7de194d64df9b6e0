"""How the linear part w * ξ of a convolutional coupling is computed: several ways, the same sum.

An equilibrium takes hundreds of steps with the same weights, so a lowering may spend much on them
once: `prepare` turns a kernel into a forward and a backward operator, and the steps use only these.
All of a lowering is linear in the operator and in the states; `product` joins its parts to one
function with the derivatives that the couplings need.
"""

import dataclasses
import functools
import math
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


class Lowering(Protocol):
    """One way to compute a convolution of stride 1."""

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


def _correlate(lower: jax.Array, kernel: jax.Array, padding: int) -> jax.Array:
    return lax.conv_general_dilated(
        lower,
        kernel,
        window_strides=(1, 1),
        padding=[(padding, padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


@dataclasses.dataclass(frozen=True)
class Direct:
    """The backend's own convolution (cuDNN on a GPU).

    Attributes:
        padding: zeros added on each side.
    """

    padding: int

    def prepare(self, kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
        return kernel, flipped(kernel)

    def apply(self, forward: jax.Array, lower: jax.Array) -> jax.Array:
        return _correlate(lower, forward, self.padding)

    def transpose(self, backward: jax.Array, upper: jax.Array) -> jax.Array:
        return _correlate(upper, backward, backward.shape[0] - 1 - self.padding)

    def gradient(self, forward: jax.Array, lower: jax.Array, upper: jax.Array) -> jax.Array:
        if jax.default_backend() != "cpu":
            correlate = jax.linear_transpose(
                lambda kernel: _correlate(lower, kernel, self.padding), forward
            )
            return correlate(upper)[0]
        # XLA:CPU is slow at this convolution, whose kernel is as large as the map; one matrix
        # product for each place of the kernel is the same sum.
        rows, columns = upper.shape[1:3]
        border = (self.padding, self.padding)
        padded = jnp.pad(lower, [(0, 0), border, border, (0, 0)])

        def tap(i, j):
            seen = padded[:, i : i + rows, j : j + columns]
            return jnp.einsum("nyxc,nyxd->cd", seen, upper)

        size = forward.shape[0]
        return jnp.stack([jnp.stack([tap(i, j) for j in range(size)]) for i in range(size)])


@dataclasses.dataclass(frozen=True)
class Matrix:
    """One product with the whole matrix of the convolution, [inputs, outputs].

    XLA:CPU runs a 3x3 convolution on a 2x2 map at about 2 GFLOP/s, and there every output sees
    every input anyway.

    Attributes:
        in_shape: (height, width, channels) of the lower map.
        out_shape: the same of the upper map.
        padding: zeros added on each side.
    """

    in_shape: tuple[int, int, int]
    out_shape: tuple[int, int, int]
    padding: int

    def prepare(self, kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
        rows, columns, _ = self.in_shape
        out_rows, out_columns, _ = self.out_shape
        size = kernel.shape[0]
        taps = np.zeros((rows, columns, out_rows, out_columns, size, size))
        for i, j, a, b in np.ndindex(out_rows, out_columns, size, size):
            row, column = i + a - self.padding, j + b - self.padding
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


class Filtering(NamedTuple):
    """A minimal algorithm for two neighbouring outputs of a filter with three taps.

    outputs = last @ ((first @ four inputs) * (middle @ three taps)), with one product of channels
    for each row, in the place of six. (Winograd 1980; Lavin & Gray 2016, eq. 9.)
    """

    first: tuple[tuple[int, ...], ...]
    middle: tuple[tuple[float, ...], ...]
    last: tuple[tuple[int, ...], ...]


# Tiles that are filtered at once, so that they stay in a core's cache: on 32x32 maps 25 -> 16 ms.
TILES = 256

# F(2, 3): four products.
INSIDE = Filtering(
    first=((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)),
    middle=((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1)),
    last=((1, 1, 1, 0), (0, 1, -1, -1)),
)
# Where the first and the last of the four inputs are padding: three products.
BETWEEN_ZEROS = Filtering(
    first=((0, 1, 1, 0), (0, 0, 1, 0), (0, 1, 0, 0)),
    middle=((0, 1, 0), (0, -1, 1), (1, -1, 0)),
    last=((1, 1, 0), (1, 0, 1)),
)


@dataclasses.dataclass(frozen=True)
class Winograd:
    """3x3 convolutions by minimal filtering: 16 products for 2x2 outputs instead of 36.

    The transformed kernel is made once per batch and serves all steps. Where the map is 2x2 (with
    padding 1), 9 products, and half the weights to read of the whole matrix. In float32 outputs of
    order 1 differ from the direct sum's by up to 3e-6.

    Attributes:
        padding: zeros added on each side; height and width of the output must be even.
        filtering: the algorithm, on both axes.
    """

    padding: int
    filtering: Filtering

    def prepare(self, kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
        return self._transformed(kernel), self._transformed(flipped(kernel))

    def apply(self, forward: jax.Array, lower: jax.Array) -> jax.Array:
        return self._correlate(forward, lower, self.padding)

    def transpose(self, backward: jax.Array, upper: jax.Array) -> jax.Array:
        return self._correlate(backward, upper, 2 - self.padding)

    def gradient(self, forward: jax.Array, lower: jax.Array, upper: jax.Array) -> jax.Array:
        _, transpose = jax.vjp(lambda operator: self.apply(operator, lower), forward)
        return transpose(upper)[0]

    def _transformed(self, kernel: jax.Array) -> jax.Array:
        """[3, 3, in, out] -> [products, in, out], as one product: slices compile slowly."""
        middle = np.asarray(self.filtering.middle)
        both = np.kron(middle, middle).astype(kernel.dtype)
        taps = kernel.reshape(both.shape[1], *kernel.shape[2:])
        return jnp.einsum("pt,tio->pio", both, taps, precision=lax.Precision.HIGHEST)

    def _correlate(self, operator: jax.Array, lower: jax.Array, padding: int) -> jax.Array:
        batch, rows, columns, channels = lower.shape
        pairs = (rows + 2 * padding - 2) * (columns + 2 * padding - 2) // 4
        most = min(batch, max(1, TILES // pairs))
        share = max(n for n in range(1, most + 1) if batch % n == 0)
        if share == batch:
            return self._filter(operator, lower, padding)
        shares = lower.reshape(batch // share, share, rows, columns, channels)
        outputs = lax.map(lambda some: self._filter(operator, some, padding), shares)
        return outputs.reshape(batch, *outputs.shape[2:])

    def _filter(self, operator: jax.Array, lower: jax.Array, padding: int) -> jax.Array:
        first, last = self.filtering.first, self.filtering.last
        padded = jnp.pad(lower, [(0, 0), (padding, padding), (padding, padding), (0, 0)])
        rows = _combine(first, _strided(padded, 1))
        tiles = jnp.stack([tile for row in rows for tile in _combine(first, _strided(row, 2))])
        batch, height, width = tiles.shape[1:4]
        factors = tiles.reshape(len(tiles), batch * height * width, -1)
        products = jnp.einsum("ktc,kcd->ktd", factors, operator)
        products = products.reshape(len(first), len(first), batch, height, width, -1)
        # Unstacked, as the transpose of an index is a sum of padded arrays.
        halves = [jnp.unstack(half) for half in _combine(last, jnp.unstack(products))]
        outputs = [jnp.stack(_combine(last, half), 3) for half in halves]
        joined = jnp.stack(outputs, 2)  # [batch, height, 2, width, 2, out]
        return joined.reshape(batch, 2 * height, 2 * width, -1)


def _strided(x: jax.Array, axis: int) -> list[jax.Array]:
    """The four inputs of every pair of outputs along `axis`: x[0::2], x[1::2], x[2::2], x[3::2]."""
    pairs = (x.shape[axis] - 2) // 2
    return [
        lax.slice_in_dim(x, k, k + 2 * pairs - 1, stride=2, axis=axis)  # pairs of them each
        for k in range(4)
    ]


def _combine(matrix, parts) -> list[jax.Array]:
    """matrix @ parts, where parts are few and large: without the products by 0."""

    def row(weights):
        terms = [part if w == 1 else w * part for w, part in zip(weights, parts, strict=True) if w]
        return functools.reduce(jnp.add, terms)

    return [row(weights) for weights in matrix]
