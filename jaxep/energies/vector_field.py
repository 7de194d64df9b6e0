"""Networks whose feedback weights are their own: no weight is used in both directions.

    ξ_k <- σ(Σ_below C_W(ξ_lower) + b_k + Σ_above C_Bᵀ(ξ_upper)),  C_W(ξ) = P(W * ξ)

The drive up uses `kernel` W, the drive down the transpose of the same convolution with a kernel B
of its own, `feedback`, through the places of the maxima that W's pool has found (Laborieux & Zenke
2024, arXiv 2309.02214, let B find places of its own). With B = W it is the model's energy. An edge
from an input needs no feedback; the feedback of a readout is the derivative of its loss.

The penalty `alignment`/2 Σ ||W - B||² is a part of the loss: its gradient is that of L explicit in
w, in every estimator alike, and it pulls B to W at the rate of their own learning, as Kolen &
Pollack 1994 have it by weight decay. For dense layers Σ ||W - B||² is 1/2 ||A - Aᵀ||², the
homeostatic loss of the source (`core.fields.asymmetry`), known without sampling; of a convolution
that loss counts each tap as often as it is used, which depends on the map and the pools.

Equilibrium propagation in it is exact by `EP`, biased by `FieldEP(corrected=False)`: `core.fields`.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxep.core import checks
from jaxep.core.fields import VectorField
from jaxep.nets.couplings import Coupling
from jaxep.nets.graph import Loop, Network, Params, States
from jaxep.nets.heads import Targets
from jaxep.nets.model import Model
from jaxep.nets.parts import Shape
from jaxep.nets.weights import with_bias


class TwoWays(NamedTuple):
    """The operators of a coupling for the drive up, and those for the drive down."""

    up: Any
    down: Any


@dataclasses.dataclass(frozen=True)
class Untied(Coupling):
    """A coupling with weights of its own for each direction, for a `vector_field`.

    Attributes:
        coupling: C, with a "kernel" among its parameters; C is linear in the lower layer.
    """

    coupling: Coupling

    @property
    def in_shape(self) -> Shape:
        return self.coupling.in_shape

    @property
    def out_shape(self) -> Shape:
        return self.coupling.out_shape

    def init(self, key: jax.Array, gain: float = 1.0, dtype=jnp.float32) -> Params:
        """Those of the coupling, and "feedback", drawn as the kernel is but apart from it."""
        other = self.coupling.init(jax.random.fold_in(key, 1), gain, dtype)
        return {**self.coupling.init(key, gain, dtype), "feedback": other["kernel"]}

    def prepare(self, params: Params) -> TwoWays:
        """The operators of both kernels."""
        own = {name: leaf for name, leaf in params.items() if name != "feedback"}
        back = {**own, "kernel": params["feedback"]}
        return TwoWays(self.coupling.prepare(own), self.coupling.prepare(back))

    def apply(self, operators: TwoWays, lower: jax.Array) -> jax.Array:
        """Refuses: <upper, C(lower)> would use one of the kernels for both directions."""
        raise ValueError(
            "Untied: a coupling with feedback weights has no Φ: use vector_field(model), with "
            "couplings of one kernel on edges from inputs"
        )


def untied(model: Model) -> Model:
    """The same model with feedback weights on each edge between layers that has a kernel."""
    network: Network = model.network

    def separate(edge: Any) -> Any:
        inner = edge.lower in network.shapes and not isinstance(edge.coupling, Untied)
        if not inner or "kernel" not in jax.eval_shape(edge.coupling.init, jax.random.key(0)):
            return edge
        return dataclasses.replace(edge, coupling=Untied(edge.coupling))

    edges = tuple(map(separate, network.edges))
    return dataclasses.replace(model, network=dataclasses.replace(network, edges=edges))


def vector_field(model: Model, alignment: float = 0.0, init_states: str = "zeros") -> VectorField:
    """The dynamics of a model, with or without feedback weights (`untied`), as a `VectorField`.

    Args:
        model: network and heads.
        alignment: weight of the penalty 1/2 Σ ||kernel - feedback||² in the loss of each sample.
        init_states: as for `Model.energy`.

    Raises:
        ValueError: the alignment is negative or no number.
    """
    if not checks.is_number(alignment) or not alignment >= 0:
        raise ValueError(f"vector_field: alignment = {alignment!r}: must be a number of at least 0")
    network: Network = model.network

    def field(loop: Loop, clamped: dict[str, jax.Array], states: States) -> States:
        network.check_states(states)
        found = {name: jnp.zeros_like(leaf) for name, leaf in states.items()}
        for name, bias in loop.biases.items():
            found[name] = with_bias(found[name], bias)
        for edge in network.edges:
            up = clamped.get(edge.name)
            if up is None:
                lower, upper = states[edge.lower], states[edge.upper]
                up, down = _both_ways(edge.coupling, loop.operators[edge.name], lower, upper)
                found[edge.lower] += down
            found[edge.upper] += up
        return found

    def loss(params: Params, states: States, targets: Targets) -> jax.Array:
        own = model.loss(params, states, targets)
        if not alignment:
            return own
        apart = [
            jnp.sum(jnp.square(edge["kernel"] - edge["feedback"]))
            for edge in params["edges"].values()
            if "feedback" in edge
        ]
        return own + (0.5 * alignment * sum(apart, jnp.zeros(()))).astype(own.dtype)

    tied = model.energy(init_states)
    return VectorField(field, loss, tied.init_states, tied.activation, tied.blocks, network.prepare)


def _both_ways(
    coupling: Coupling, operators: Any, lower: jax.Array, upper: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """(C_W(lower), C_Bᵀ(upper)): the drives of both ends of an edge."""
    inner = coupling.coupling if isinstance(coupling, Untied) else coupling
    ways = operators if isinstance(operators, TwoWays) else TwoWays(operators, operators)
    # In a vjp, which takes the couplings' own derivatives apart: JAX knows no jvp of those.
    up, _, places = jax.vjp(
        lambda lower: inner.apply_and_cache(ways.up, lower, None), lower, has_aux=True
    )
    _, pull = jax.vjp(lambda lower: inner.apply_and_cache(ways.down, lower, places)[0], lower)
    return up, pull(upper)[0]
