"""Layered nets whose feedback is weaker than their feedforward drive.

    E = Σ_k λ_k (1/2 ||ξ_k||² - <ξ_k, a_k>),  a_k = Σ_edges C(ξ_lower),  λ_{k+1} / λ_k = ratio

so that ξ_k <- σ(a_k + ratio Wᵀ ξ_{k+1}): the feedback scaling β_k of Liu & Chen 2025 ("FRE-RNN",
arXiv 2508.11659) with symmetric weights. They call these dynamics a vector field without an
energy; it has this one. EP in it is exact where the contrast of a_k is weighted by λ_k. The last
layer has λ = 1: the loss nudges it as in the paper, where β_f is not scaled by the ratio.

Their own update, (ξ_{k+1}^β - ξ_{k+1}) ξ_kᵀ of the weights into layer k + 1, leaves λ out and takes
ξ_k from the free phase. It is the exact one times ratio^(layers above), up to an error of the order
of the ratio: by SGD the early layers hardly learn from it. λ multiplies the rounding of the states
as well: in an MLP of 12 layers of 64 float32 resolves λ up to about 1e5.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxep.core import checks
from jaxep.core.activations import ContextualActivation
from jaxep.core.energy import Energy, FastPhi
from jaxep.nets.graph import Loop, Network, Params, States
from jaxep.nets.model import Model

# The largest λ: its products with states and their squares stay within float32.
LARGEST = 1e30


def feedback(model: Model, ratio: float, init_states: str = "zeros") -> Energy:
    """The energy of a model in which each step down is weaker by `ratio` than the step up.

    An edge over several layers is weaker by as many factors. The transition divides by λ within σ,
    so `energy_per_sample` of it, which has no λ in 1/2 ||ξ||², is not the E above.

    Args:
        model: network and heads; its edges lead upwards, without cycles.
        ratio: β_k of every layer, over 0; 1 is the model's own energy.
        init_states: as for `Model.energy`.

    Raises:
        ValueError: the ratio is not over 0, the edges make a cycle, or λ is beyond float32.
    """
    checks.between("feedback: ratio", ratio, 0, math.inf)
    network: Network = model.network
    weights = layer_weights(network, ratio)

    def phi_of(loop: Loop, clamped: dict[str, jax.Array], states: States, cache: list):
        drives, cache = network.drives(loop, clamped, states, cache)
        terms = [_inner(states[e.upper], drives[e.name], weights[e.upper]) for e in network.edges]
        terms += [_inner(states[name], bias, weights[name]) for name, bias in loop.biases.items()]
        return functools.reduce(jnp.add, terms), cache

    def phi(params: Params, x: Any, states: States) -> jax.Array:
        return phi_of(*network.prepare(params, x), states, [None] * len(states))[0]

    sigmas = {layer.name: _over(layer.activation, weights[layer.name]) for layer in network.layers}
    fast = FastPhi(phi, network.prepare, phi_of)
    return dataclasses.replace(model.energy(init_states), phi=fast, activation=sigmas)


def layer_weights(network: Network, ratio: float) -> dict[str, float]:
    """λ of each layer by name, 1 at the top: a layer's depth is the longest way from the input.

    Raises:
        ValueError: the edges make a cycle, or λ is beyond float32.
    """
    names = network.layer_names
    depths = dict.fromkeys(names, 0)
    inner = [edge for edge in network.edges if edge.lower in depths]
    for _ in names:
        for edge in inner:
            depths[edge.upper] = max(depths[edge.upper], depths[edge.lower] + 1)
    for edge in inner:
        if depths[edge.upper] <= depths[edge.lower]:
            raise ValueError(f"feedback: edge {edge.name} is in a cycle: edges must lead upwards")
    top = max(depths.values())
    if abs(top * math.log10(ratio)) > math.log10(LARGEST):
        raise ValueError(f"feedback: ratio = {ratio}: its power {top} is beyond float32")
    return {name: float(ratio) ** (depth - top) for name, depth in depths.items()}


@dataclasses.dataclass(frozen=True)
class _Divided:
    """σ(argument / λ)."""

    activation: Any
    weight: float

    def __call__(self, argument: jax.Array) -> jax.Array:
        return self.activation(argument / self.weight)


def _over(activation: Any, weight: float) -> Any:
    if weight == 1.0:
        return activation
    if isinstance(activation, ContextualActivation):
        return dataclasses.replace(
            activation, function=lambda a, *rest: activation.function(a / weight, *rest)
        )
    return _Divided(activation, weight)


def _inner(states: jax.Array, drive: jax.Array, weight: float) -> jax.Array:
    """λ <ξ, drive> of each sample, [batch]."""
    drive = jnp.broadcast_to(drive, states.shape)
    return weight * jnp.sum(states * drive, axis=tuple(range(1, states.ndim)))
