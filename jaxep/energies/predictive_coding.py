"""Predictive coding nets trained by equilibrium propagation.

    E = 1/2 Σ_k ||ξ_k - f_k||²,  f_k = σ_k(a_k),  a_k = Σ_edges C(ξ_lower)

Kerjan, Høier & Scellier 2026 (arXiv 2606.03584), on any graph of couplings; in our form
Φ = Σ <ξ_k, f_k> - 1/2 Σ ||f_k||². The free equilibrium is the forward pass, where E = 0, so the
free phase starts there and needs no sweeps. A nudged sweep moves the output's block first.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from jaxep.core import blocks
from jaxep.core.activations import ContextualActivation, linear
from jaxep.core.energy import Energy, FastPhi
from jaxep.nets.graph import Loop, Network, Params, States
from jaxep.nets.model import Model


def predictive_coding(model: Model, *, from_drive: bool = True) -> Energy:
    """The energy of a model whose layers have σ = relu, and the output linear.

    Args:
        model: network and heads. Each edge must lead from a layer or input to a later layer.
        from_drive: a layer moves to σ(a_k + Σ Jᵀ(ξ - f) of the layers above), the paper's sweep;
            else to σ(∂Φ_Aug/∂ξ), with f_k for a_k, which settles in more of them.

    Returns:
        An `Energy` whose initial states are the forward pass, a function of the parameters.
    """
    network: Network = model.network

    def phi_of(loop: Loop, clamped: dict[str, jax.Array], states: States, cache: list):
        # Of a layer that does not move, what it drives is asked for by both its neighbours.
        drives, cache = network.drives(loop, clamped, states, cache, keep_all=True)
        terms = []
        for layer in network.layers:
            state = states[layer.name]
            predicted = layer.activation(network.summed(layer.name, loop, drives))
            own = state * predicted - 0.5 * jnp.square(predicted)
            terms.append(jnp.sum(own, axis=tuple(range(1, own.ndim))))
        return functools.reduce(jnp.add, terms), cache

    def phi(params: Params, x: Any, states: States) -> jax.Array:
        return phi_of(*network.prepare(params, x), states, [None] * len(states))[0]

    def forward(key: jax.Array | None, params: Params, x: Any) -> States:
        del key
        loop, clamped = network.prepare(params, x)
        states: States = {}
        for layer in network.layers:
            drive = network.drive(layer.name, loop, clamped, states)
            states[layer.name] = layer.activation(drive)
        return states

    def sigma(name: str, activation: Any) -> Any:
        def moved(argument: jax.Array, loop: Loop, clamped: Any, states: States, cache: list):
            drives, _ = network.drives(loop, clamped, states, cache, keep_all=True)
            drive = network.summed(name, loop, drives)
            return activation(argument + drive - activation(drive))

        if activation is linear or not from_drive:
            return activation
        return ContextualActivation(moved, takes_cache=True)

    activations = {layer.name: sigma(layer.name, layer.activation) for layer in network.layers}
    fast = FastPhi(phi, network.prepare, phi_of)
    return Energy(fast, model.loss, forward, activations, _from_the_output(network))


def _from_the_output(network: Network) -> dict[str, int]:
    """Blocks counted from the output down: only it feels the nudge of a first sweep.

    Layers interact where an edge joins them, and where they drive the same layer.
    """
    names = network.layer_names
    joined: blocks.Graph = [set() for _ in names]
    for above in names:
        family = {above} | {edge.lower for edge in network.edges if edge.upper == above}
        places = {names.index(name) for name in family if name in names}
        for i in places:
            joined[i] |= places - {i}
    ranks = range(len(names), 0, -1)
    return dict(zip(names, blocks.colours(joined, ranks), strict=True))
