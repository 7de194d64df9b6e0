"""Where EP differentiates Φ_Aug over β: points and weights, real or complex."""

import cmath
import dataclasses
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxep.core import checks
from jaxep.core.holomorphic import Tree, complex_type


@dataclasses.dataclass(frozen=True)
class Stencil:
    """Where EP differentiates Φ_Aug over β: dL/dw ≈ -(1/β) Re Σ_m c_m ∂Φ_Aug/∂w(ξ^{p_m β}; p_m β).

    Attributes:
        points: p_m, in units of β. A point 0 is the free equilibrium and needs no phase. With
            complex ones, as of `holomorphic`, the states of all phases are complex.
        weights: c_m; the real part of Σ c_m is 0 and that of Σ c_m p_m is 1.
        random_sign: β gets a random sign in every batch, so that errors of odd order cancel on
            average.

    Raises:
        ValueError: the points and weights are no first derivative.
    """

    points: tuple[complex, ...]
    weights: tuple[complex, ...]
    random_sign: bool = False

    def __post_init__(self) -> None:
        pairs = list(zip(self.points, self.weights, strict=False))
        total = sum(weight for _, weight in pairs).real
        slope = sum(point * weight for point, weight in pairs).real
        same = len(self.points) == len(self.weights) == len(set(self.points))
        if not same or not math.isclose(slope, 1) or not math.isclose(total, 0, abs_tol=1e-9):
            raise ValueError(
                f"Stencil: points {self.points}, weights {self.weights}: must be as many different "
                "points as weights, which sum to 0, and times the points to 1"
            )

    @property
    def phases(self) -> tuple[complex, ...]:
        """The points that need a nudged phase."""
        return tuple(point for point in self.points if point)

    @property
    def is_complex(self) -> bool:
        """Whether its phases need complex states."""
        return any(isinstance(point, complex) for point in self.points)

    def scale(self, beta: jax.Array | float, key: jax.Array) -> jax.Array:
        """β with its sign, a scalar."""
        sign = jax.random.rademacher(key, (), jnp.float32) if self.random_sign else 1.0
        return jnp.asarray(beta * sign)

    def betas(self, beta: jax.Array, points: Sequence[complex]) -> jax.Array:
        """p_m β of some points, [points], complex where the stencil is."""
        dtype = complex_type(beta.dtype) if self.is_complex else beta.dtype
        return beta.astype(dtype) * jnp.asarray(points, dtype)

    def weighted(self, values: jax.Array) -> jax.Array:
        """Re Σ_m c_m v_m of the values at all points, [points, ...] -> [...]."""
        return jnp.real(jnp.asarray(self.weights, values.dtype) @ values)

    def all_points(self, free: Tree, nudged: Tree) -> Tree:
        """The states of every point, leaves [points, batch, ...]: the free ones are those of 0."""
        if 0 not in self.points:
            return nudged
        place = self.points.index(0)

        def inserted(n: jax.Array, f: jax.Array) -> jax.Array:
            return jnp.concatenate([n[:place], f[None].astype(n.dtype), n[place:]])

        return jax.tree.map(inserted, nudged, free)


def holomorphic(points: int) -> Stencil:
    """Holomorphic EP: N points β e^{2πim/N}, c_m = e^{-2πim/N}/N, error O(β^N).

    Laborieux & Zenke 2022 (arXiv 2209.00530): Cauchy's formula for d/dβ at 0 by the trapezoidal
    rule, so that β may be large: only the distance to the nearest singularity of ξ^β is a limit.
    Φ, the loss and σ must be holomorphic; `EP` refuses others. They are real for real states, so
    that conjugate β have conjugate states: the points over the real axis serve for both, with
    twice the weight (as in the public code), and N points need N // 2 + 1 phases.

    N = 2 is `centered`, with real states. So are the published runs of their Table 2 (CIFAR-10,
    CIFAR-100, ImageNet32; β 1); Fig. 4c has N = 4 beside it on CIFAR-10.

    Args:
        points: N, at least 2.
    """
    checks.at_least_one("holomorphic: points", points)
    if points < 2:
        raise ValueError(f"holomorphic: points = {points}: must be at least 2")
    pairs: list[tuple[complex, complex]] = [(1.0, 1 / points)]
    for m in range(1, (points + 1) // 2):
        root = cmath.exp(2j * cmath.pi * m / points)
        pairs.append((root, 2 * root.conjugate() / points))
    if points % 2 == 0:
        pairs.append((-1.0, -1 / points))
    places, weights = zip(*pairs, strict=True)
    return Stencil(places, weights)


# Three phases, eq. 4: error O(β²).
centered = Stencil((1.0, -1.0), (0.5, -0.5))
# One nudged phase against the free states, eq. 3: error O(β).
one_sided = Stencil((1.0, 0.0), (1.0, -1.0))
# The same with β or -β, with equal chances.
random_sign = Stencil((1.0, 0.0), (1.0, -1.0), random_sign=True)
# Five phases: error O(β⁴).
four_point = Stencil((1.0, -1.0, 2.0, -2.0), (2 / 3, -2 / 3, -1 / 12, 1 / 12))
STENCILS = {
    "centered": centered,
    "one_sided": one_sided,
    "random_sign": random_sign,
    "four_point": four_point,
}
