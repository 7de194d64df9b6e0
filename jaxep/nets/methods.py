"""Which lowering computes a convolution: by name, or what is fast for its map on this backend."""

import dataclasses
from collections.abc import Callable
from typing import Literal

import jax

from jaxep.core import checks
from jaxep.nets.lowerings import Direct, Lowering, Matrix, Pairs, Patches
from jaxep.nets.winograd import BETWEEN_ZEROS, INSIDE, Winograd

LoweringName = Literal["auto", "convolution", "dense", "pairs", "patches", "winograd"]

# XLA:CPU runs a 3x3 convolution from or to a 2x2 map at about 2 GFLOP/s, and there the convolution
# is one dense product anyway (nearly every output sees every input). From 4x4 on, it wins.
CPU_DENSE_MAP = 2
CPU_WINOGRAD_CHANNELS = 32  # minimal filtering pays from here on, on every map
CPU_PAIRS_CHANNELS = 16  # up to here on both sides, pairs of columns pay
CPU_PATCHES_MAP = 4  # of a strided convolution; onto larger maps XLA:CPU's own is up to 1.6x faster


@dataclasses.dataclass(frozen=True)
class Geometry:
    """The sizes of a convolution.

    Attributes:
        in_shape: (height, width, channels) of the lower map.
        features: channels of the upper map.
        kernel_size: height and width of the kernel.
        stride: on both axes.
        padding: zeros added on each side.

    Raises:
        ValueError: one of them is not of its kind, or the kernel does not fit the map.
    """

    in_shape: tuple[int, int, int]
    features: int
    kernel_size: int
    stride: int
    padding: int

    def __post_init__(self) -> None:
        if len(self.in_shape) != 3:
            raise ValueError(f"Conv: in_shape = {self.in_shape}: must be (height, width, channels)")
        for name in ("features", "kernel_size", "stride"):
            checks.at_least_one(f"Conv: {name}", getattr(self, name))
        if not isinstance(self.padding, int) or self.padding < 0:
            raise ValueError(f"Conv: padding = {self.padding!r}: must be an integer of at least 0")
        height, width, _ = self.in_shape
        largest = min(height, width) + 2 * self.padding
        if self.kernel_size > largest:
            raise ValueError(
                f"Conv: kernel_size = {self.kernel_size}: must be at most {largest} on a "
                f"{height}x{width} map with a padding of {self.padding}"
            )

    @property
    def out_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of the upper map."""
        height, width = ((size + self._grow) // self.stride + 1 for size in self.in_shape[:2])
        return height, width, self.features

    @property
    def unseen(self) -> tuple[int, int]:
        """Last rows and columns of the padded map that no stride of the kernel reaches."""
        height, width, _ = self.in_shape
        return (height + self._grow) % self.stride, (width + self._grow) % self.stride

    @property
    def _grow(self) -> int:
        return 2 * self.padding - self.kernel_size

    @property
    def suits_winograd(self) -> bool:
        """Whether minimal filtering can compute it: 3x3, stride 1, even maps."""
        even = all(size % 2 == 0 for size in (*self.in_shape[:2], *self.out_shape[:2]))
        return self.kernel_size == 3 and self.stride == 1 and self.padding <= 2 and even

    @property
    def suits_pairs(self) -> bool:
        """Whether pairs of columns can compute it: stride 1, maps of even width."""
        return self.stride == 1 and self.in_shape[1] % 2 == 0 and self.out_shape[1] % 2 == 0


def _direct(sizes: Geometry) -> Lowering:
    return Direct(sizes.padding, sizes.stride, sizes.unseen)


def _dense(sizes: Geometry) -> Lowering:
    return Matrix(sizes.in_shape, sizes.out_shape, sizes.stride, sizes.padding)


def _patches(sizes: Geometry) -> Lowering:
    return Patches(sizes.in_shape, sizes.kernel_size, sizes.stride, sizes.padding)


def _pairs(sizes: Geometry) -> Lowering:
    if not sizes.suits_pairs:
        raise ValueError(
            "Conv: lowering = 'pairs': must be another one, except for stride 1 between maps of "
            "even width"
        )
    return Pairs(sizes.padding)


def _winograd(sizes: Geometry) -> Lowering:
    if not sizes.suits_winograd:
        raise ValueError(
            "Conv: lowering = 'winograd': must be another one, except for 3x3 kernels with stride "
            "1 and a padding up to 2 between maps of even height and width"
        )
    clipped = sizes.padding == 1 and sizes.in_shape[:2] == (2, 2)
    return Winograd(sizes.padding, BETWEEN_ZEROS if clipped else INSIDE)


LOWERINGS: dict[str, Callable[[Geometry], Lowering]] = {
    "convolution": _direct,
    "dense": _dense,
    "pairs": _pairs,
    "patches": _patches,
    "winograd": _winograd,
}


def fastest(sizes: Geometry) -> str:
    """The name of what was fastest on each kind of map: python -m benchmarks lowerings."""
    if jax.default_backend() != "cpu":
        return "convolution"
    if sizes.stride > 1:
        few = sizes.kernel_size == 1 or min(sizes.out_shape[:2]) <= CPU_PATCHES_MAP
        return "patches" if few else "convolution"
    least, most = sorted((sizes.in_shape[2], sizes.features))
    if sizes.suits_winograd and least >= CPU_WINOGRAD_CHANNELS:
        return "winograd"
    if min(*sizes.in_shape[:2], *sizes.out_shape[:2]) <= CPU_DENSE_MAP:
        return "dense"
    if sizes.suits_pairs and sizes.kernel_size > 1 and most <= CPU_PAIRS_CHANNELS:
        return "pairs"
    return "convolution"
