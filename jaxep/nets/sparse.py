"""Dense couplings of which only some pairs of units are connected."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxep.nets.couplings import Dense
from jaxep.nets.weights import Params, initial_weights


@dataclasses.dataclass(frozen=True)
class Sparse(Dense):
    """<upper, (M * W) flat(lower) + b> with a fixed random mask M of zeros and ones.

    Attributes:
        density: probability of a one, from 0 to 1.
        seed: of the mask, one integer or several: a network is drawn by its own.
        connections: into a unit of the upper layer, as the initial weights count them, those of
            other couplings too; 0: of this one, on average.

    Raises:
        ValueError: the density is none.
    """

    density: float = 0.1
    seed: int | tuple[int, ...] = 0
    connections: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.density <= 1:
            raise ValueError(f"Sparse: density = {self.density!r}: must be from 0 to 1")

    @property
    def mask(self) -> np.ndarray:
        """M, [inputs, features] of bool: the same in every program."""
        return _drawn((math.prod(self.in_shape), self.features), self.density, self.seed)

    def init(self, key: jax.Array, gain: float = 1.0, dtype=jnp.float32) -> Params:
        """As of `Dense`, U(-gain/sqrt(fan_in), ...) where M is 1 and 0 elsewhere."""
        shape = (math.prod(self.in_shape), self.features)
        return self.prepare(initial_weights(key, shape, self.fan_in, self.use_bias, gain, dtype))

    def prepare(self, params: Params) -> Params:
        """M * W: what is masked has no derivative, whatever it is."""
        return {**params, "kernel": jnp.where(self.mask, params["kernel"], 0)}


@functools.lru_cache(256)
def _drawn(shape: tuple[int, int], density: float, seed: int | tuple[int, ...]) -> np.ndarray:
    # The stream of RandomState is frozen: a run goes on under another version of NumPy.
    return np.random.RandomState(seed).random_sample(shape) < density
