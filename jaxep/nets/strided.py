"""Convolutions of a stride over 1, several ways to compute them."""

import dataclasses

import jax
from jax import lax

from jaxep.nets.lowerings import flipped


@dataclasses.dataclass(frozen=True)
class Strided:
    """The backend's own strided convolution.

    Attributes:
        lower_map: (height, width) of the lower map.
        stride: on both axes.
        padding: zeros added on each side.
    """

    lower_map: tuple[int, int]
    stride: int
    padding: int

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
        low = backward.shape[0] - 1 - self.padding
        spans = [(size - 1) * self.stride + 1 for size in upper.shape[1:3]]
        high = [
            size - span + self.padding for size, span in zip(self.lower_map, spans, strict=True)
        ]
        return lax.conv_general_dilated(
            upper,
            backward,
            window_strides=(1, 1),
            padding=[(low, end) for end in high],
            lhs_dilation=(self.stride, self.stride),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    def gradient(self, forward: jax.Array, lower: jax.Array, upper: jax.Array) -> jax.Array:
        return jax.linear_transpose(lambda kernel: self.apply(kernel, lower), forward)(upper)[0]
