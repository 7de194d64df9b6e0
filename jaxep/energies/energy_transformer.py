"""The convergent energy transformer: attention and memories as one energy of tokens ξ [T, D].

    E = 1/2 ||ξ||² - Φ over the tokens of mean 0 and variance 1
    Φ = Σ_t <ξ_t, W x_t + p_t> + (1/b) Σ_heads Σ_q log Σ_k exp(b <K ξ_k, Q ξ_q>) + 1/2 Σ relu(M ξ)²

Høier, Kerjan & Scellier 2026 ("Training a convergent energy transformer with equilibrium
propagation", workshop of ICLR 2026, openreview Qrfml76eWJ), after Hoover et al. 2023 (arXiv
2302.07253). Of the former the abstract alone could be read; the terms are those that two public re-
implementations give. The layer norm makes it convergent: after each gradient step a token is put
back on the sphere of mean 0 and variance 1. Their net completes images, with a decoder in the
energy; here a readout or a signal reads the tokens. One of the two has no 1/2 before the memories,
which is a scale of M.

That projection is σ: the gradient of the convex sqrt(D) ||a - mean(a)||. Its slope is symmetric,
so EP's limit is the exact gradient, and a sweep with relaxation ω is the projected gradient step
ξ <- σ(ξ + ω (∂Φ/∂ξ - ξ)). E has a bottom there, whatever the weights, and falls where ω L <= 1 with
L = 1 + 2 sqrt(T) Σ_heads ||Kᵀ Q|| (`curvature`): memories are convex in Φ and need no damping, nor
does b. With ω = 1 it rose in 6 of 400 random samples without memories, and in none with them.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxep.core import checks
from jaxep.core.activations import Projection
from jaxep.core.energy import FastPhi
from jaxep.energies.sequence import rows
from jaxep.nets.graph import Params, States
from jaxep.nets.parts import first_states
from jaxep.nets.weights import Gain, Shape, gain_of, uniform_init

NAME = "tokens"


def normalised(tokens: jax.Array) -> jax.Array:
    """The nearest tokens of mean 0 and variance 1, [..., D]; zeros for one of equal numbers."""
    centred = tokens - jnp.mean(tokens, axis=-1, keepdims=True)
    square = jnp.sum(jnp.square(centred), axis=-1, keepdims=True)
    nothing = square == 0  # where the slope of 0/0 would be NaN
    length = jnp.sqrt(jnp.where(nothing, 1.0, square) / tokens.shape[-1])
    return centred / jnp.broadcast_to(length, centred.shape)


@dataclasses.dataclass(frozen=True, eq=False)  # by identity: `gain` may be a dict
class EnergyTransformer:
    """A `Net` of one layer, "tokens" [T, D], which interact with each other: one block moves all.

    Attributes:
        tokens: T, into which an input [batch, T, ...] is cut: the rows of an image.
        features: numbers in each of them.
        dim: size D of a token.
        heads: of the attention; 0: there is none.
        head_dim: of queries and keys.
        memories: relu units of each token; 0: there are none.
        scale: b; None: 1/sqrt(head_dim).
        gain: kernels start as U(-gain/sqrt(fan_in), ...); a number, or one by the name of each,
            and "default" for the others.

    Raises:
        ValueError: a size or b is not over 0, or there is no weight of the name of a gain.
    """

    tokens: int
    features: int
    dim: int
    heads: int
    head_dim: int
    memories: int
    scale: float | None = None
    gain: Gain = 1.0

    def __post_init__(self) -> None:
        for size in ("tokens", "features", "dim", "head_dim", "heads", "memories"):
            if size not in ("heads", "memories") or getattr(self, size) != 0:
                checks.at_least_one(f"EnergyTransformer: {size}", getattr(self, size))
        if self.scale is not None:
            checks.between("EnergyTransformer: scale", self.scale, 0, math.inf)
        for name in self.gain if isinstance(self.gain, Mapping) else ():
            if name not in (*self.kernels, "default"):
                known = ", ".join(self.kernels)
                raise ValueError(f"gain: there is no weight {name}; there are {known}")

    @property
    def shapes(self) -> dict[str, Shape]:
        """[T, D] of the tokens."""
        return {NAME: (self.tokens, self.dim)}

    @property
    def layer_names(self) -> tuple[str, ...]:
        """The tokens alone."""
        return (NAME,)

    @property
    def activations(self) -> dict[str, Any]:
        """The projection on tokens of mean 0 and variance 1."""
        return {NAME: Projection(normalised)}

    @property
    def blocks(self) -> dict[str, int]:
        """One: an alternating sweep is a synchronous one."""
        return {NAME: 0}

    @property
    def kernels(self) -> dict[str, Shape]:
        """Shape of each weight by name; the fan-in is the last axis, of "embed" the first."""
        found: dict[str, Shape] = {
            "embed": (self.features, self.dim),
            "position": (self.tokens, self.dim),
        }
        if self.heads:
            found |= dict.fromkeys(("query", "key"), (self.heads, self.head_dim, self.dim))
        if self.memories:
            found["memory"] = (self.memories, self.dim)
        return found

    @property
    def weights(self) -> dict[str, str]:
        """All drive the tokens."""
        return dict.fromkeys(self.kernels, NAME)

    @property
    def gains(self) -> dict[str, float]:
        """Of the embedding."""
        return {NAME: self.gain_of("embed")}

    def gain_of(self, name: str) -> float:
        """The gain of a weight by name."""
        return gain_of(self.gain, name)

    def init_params(self, keys: Iterable[jax.Array], dtype=jnp.float32) -> Params:
        """{"edges": {weight: {"kernel"}}, "layers": {}}; a key for each weight."""
        edges = {}
        for (name, shape), key in zip(self.kernels.items(), keys, strict=True):
            fan_in = self.features if name == "embed" else self.dim
            edges[name] = {"kernel": uniform_init(key, shape, fan_in, self.gain_of(name), dtype)}
        return {"edges": edges, "layers": {}}

    def init_states(self, key: jax.Array | None, batch: int, start: str, dtype) -> States:
        """States before the free phase, `zeros` or `uniform`; the first sweep normalises them."""
        return first_states(self.shapes, key, batch, start, dtype)

    @property
    def fast_phi(self) -> FastPhi:
        """Φ, [batch]; the drive by the input is computed once."""

        def phi(params: Params, x: jax.Array, states: States) -> jax.Array:
            return self.phi_and_cache(*self.prepare(params, x), states, [None])[0]

        return FastPhi(phi, self.prepare, self.phi_and_cache)

    def prepare(self, params: Params, x: jax.Array) -> tuple[dict[str, jax.Array], jax.Array]:
        """(kernels by name, the drive W x + p [batch, T, D]), both of the type of `x`.

        Raises:
            ValueError: `x` is no batch of as many tokens of as many features.
        """
        if jnp.ndim(x) < 2 or rows(x).shape[1:] != (self.tokens, self.features):
            wanted = f"{self.tokens} tokens of {self.features} numbers"
            raise ValueError(f"x: is {list(jnp.shape(x))}, must be a batch of {wanted}")
        kernels = {name: own["kernel"].astype(x.dtype) for name, own in params["edges"].items()}
        drive = rows(x) @ kernels["embed"]
        return kernels, drive + jnp.broadcast_to(kernels["position"], drive.shape)

    def phi_and_cache(
        self, kernels: dict[str, jax.Array], drive: jax.Array, states: States, cache: list
    ) -> tuple[jax.Array, list]:
        """Φ with what `prepare` made, [batch], and nothing kept."""
        tokens = states[NAME]
        total = jnp.sum(tokens * drive, axis=(1, 2))
        if self.heads:
            scale = 1 / math.sqrt(self.head_dim) if self.scale is None else self.scale
            queries = jnp.einsum("btd,hzd->bhtz", tokens, kernels["query"])
            keys = jnp.einsum("btd,hzd->bhtz", tokens, kernels["key"])
            scores = scale * jnp.einsum("bhqz,bhkz->bhqk", queries, keys)
            total += jnp.sum(jax.nn.logsumexp(scores, axis=-1), axis=(1, 2)) / scale
        if self.memories:
            found = jax.nn.relu(jnp.einsum("btd,md->btm", tokens, kernels["memory"]))
            total += 0.5 * jnp.sum(jnp.square(found), axis=(1, 2))
        return total, cache

    def curvature(self, params: Params) -> jax.Array:
        """L, the most by which E curves upwards anywhere: E falls with a relaxation up to 1/L."""
        if not self.heads:
            return jnp.ones(())
        query, key = (params["edges"][name]["kernel"] for name in ("query", "key"))
        norms = jnp.linalg.norm(jnp.einsum("hzd,hze->hde", key, query), ord=2, axis=(1, 2))
        return 1 + 2 * math.sqrt(self.tokens) * jnp.sum(norms)
