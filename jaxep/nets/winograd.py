"""3x3 convolutions by minimal filtering (Winograd), a lowering that serves all steps of a batch."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxep.nets.lowerings import flipped


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
