"""Dense couplings of which only some pairs of units are connected: skips over layers.

Gammell, Buckley, Nam & McCaughan 2021 ("Layer-skipping connections improve the effectiveness of
equilibrium propagation on layered networks", Frontiers in Computational Neuroscience 15, 627357;
code jgammell/equilibrium_propagation). There each connection of an MLP is replaced, with a
probability of 0.1, by one between units of two layers that are no neighbours, so that their number
stays; `nets.hopfield` with skips = 0.1 adds a tenth of such pairs to the whole MLP. New weights are
as large as the others, the mean of their bounds there and the bound of the full layer here.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxep.core import checks
from jaxep.nets.couplings import Dense
from jaxep.nets.weights import Params


@dataclasses.dataclass(frozen=True)
class Sparse(Dense):
    """<upper, (M * W) flat(lower) + b> with a fixed random mask M of zeros and ones.

    Attributes:
        share: probability of a one, over 0 and at most 1.
        seed: of the mask, one integer or several: that of the network and the numbers of its ends.

    Raises:
        ValueError: the share is none.
    """

    share: float = 0.1
    seed: int | tuple[int, ...] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not checks.is_number(self.share) or not 0 < self.share <= 1:
            allowed = "must be a number over 0 and at most 1"
            raise ValueError(f"Sparse: share = {self.share!r}: {allowed}")

    @property
    def mask(self) -> np.ndarray:
        """M, [inputs, features] of bool: the same in every program."""
        return _drawn((math.prod(self.in_shape), self.features), self.share, self.seed)

    def init(self, key: jax.Array, gain: float = 1.0, dtype=jnp.float32) -> Params:
        """As of `Dense`, of the whole layer, and 0 where M is."""
        return self.prepare(super().init(key, gain, dtype))

    def prepare(self, params: Params) -> Params:
        """M * W: what is masked has no derivative, whatever it is."""
        return {**params, "kernel": jnp.where(self.mask, params["kernel"], 0)}


@functools.lru_cache(256)
def _drawn(shape: tuple[int, int], share: float, seed: int | tuple[int, ...]) -> np.ndarray:
    # The stream of RandomState is frozen: a run goes on under another version of NumPy.
    return np.random.RandomState(seed).random_sample(shape) < share
