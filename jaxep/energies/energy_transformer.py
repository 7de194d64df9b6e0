"""The convergent energy transformer: attention and memories as one energy of tokens ξ [T, D].

    E = 1/2 ||ξ||² - Φ,  every token of mean 0 and variance 1
    Φ = Σ_t <ξ_t, W x_t + p_t> + 1/b Σ_heads Σ_q log Σ_k exp(b <K ξ_k, Q ξ_q>) + 1/2 Σ relu(M ξ)²

Høier, Kerjan & Scellier 2026 ("Training a convergent energy transformer with equilibrium
propagation", workshop at ICLR 2026, openreview Qrfml76eWJ), after Hoover et al. 2023 (arXiv
2302.07253).
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxep.core.activations import Projection
from jaxep.core.energy import FastPhi
from jaxep.energies.sequence import rows
from jaxep.nets.weights import uniform_init
from jaxep.nets.graph import STARTS
from jaxep.nets.weights import Shape

NAME = "tokens"


def normalised(tokens: jax.Array) -> jax.Array:
    """The nearest tokens of mean 0 and variance 1, [..., D]: a layer norm; 0 where all are equal.

    The gradient of the convex function sqrt(D) ||ξ - mean(ξ)||, so that its slope is symmetric.
    """
    centred = tokens - jnp.mean(tokens, axis=-1, keepdims=True)
    square = jnp.sum(jnp.square(centred), axis=-1, keepdims=True)
    nothing = square == 0  # and no slope there: of 0/0 it would be NaN
    scale = math.sqrt(tokens.shape[-1]) * jax.lax.rsqrt(jnp.where(nothing, 1.0, square))
    return centred * jnp.where(nothing, 0.0, scale)


@dataclasses.dataclass(frozen=True, eq=False)
class EnergyTransformer:
    tokens: int
    features: int
    dim: int
    heads: int
    head_dim: int
    memories: int
    scale: float | None = None
    gain: float | Mapping[str, float] = 1.0
    tokenise: Callable[[jax.Array], jax.Array] = rows
    activation: Any = Projection(normalised)

    @property
    def shapes(self) -> dict[str, Shape]:
        return {NAME: (self.tokens, self.dim)}

    @property
    def layer_names(self):
        return (NAME,)

    @property
    def activations(self):
        return {NAME: self.activation}

    @property
    def blocks(self):
        return {NAME: 0}

    @property
    def kernels(self):
        heads = (self.heads, self.head_dim, self.dim)
        found = {"embed": (self.features, self.dim), "position": (self.tokens, self.dim)}
        if self.heads:
            found |= {"query": heads, "key": heads}
        if self.memories:
            found |= {"memory": (self.memories, self.dim)}
        return found

    @property
    def weights(self):
        return dict.fromkeys(self.kernels, NAME)

    def gain_of(self, name):
        if isinstance(self.gain, Mapping):
            return self.gain.get(name, self.gain.get("default", 1.0))
        return self.gain

    @property
    def gains(self):
        return {NAME: self.gain_of("embed")}

    def init_params(self, keys, dtype=jnp.float32):
        drawn = zip(self.kernels.items(), keys, strict=True)
        edges = {}
        for (name, shape), key in drawn:
            fan_in = shape[0] if name == "embed" else self.dim
            edges[name] = {"kernel": uniform_init(key, shape, fan_in, self.gain_of(name), dtype)}
        return {"edges": edges, "layers": {}}

    def init_states(self, key, batch, start, dtype):
        shape = (batch, *self.shapes[NAME])
        if start == "zeros":
            return {NAME: jnp.zeros(shape, dtype)}
        return {NAME: jax.random.uniform(key, shape, dtype)}

    @property
    def fast_phi(self):
        def phi(params, x, states):
            return self._phi(*self.prepare(params, x), states, [None])[0]

        return FastPhi(phi, self.prepare, self._phi)

    def prepare(self, params, x):
        k = {n: p["kernel"].astype(x.dtype) for n, p in params["edges"].items()}
        drive = self.tokenise(x) @ k["embed"]
        return k, drive + jnp.broadcast_to(k["position"], drive.shape)

    def _phi(self, kernels, drive, states, cache):
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
