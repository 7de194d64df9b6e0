"""Sequences by equilibrium propagation: the first layer retrieves tokens of the input.

    ξ_t <- softmax(s ∂Φ/∂ξ_t xᵀ) x,    Φ = Σ_t <ξ_t, W x_t> + Σ_edges <ξ_upper, W ξ_lower + b>

Bal & Sengupta 2023 (IJCAI 2023, arXiv 2209.09626; their net for IMDB): the tokens x [T, d] are
keys and values of a modern Hopfield net and no parameters, each slot t of the projection layer
ξ [T, d] queries them, s = 1/sqrt(d) (0.16 in their net for SNLI), W has no bias, dense layers
stand above. SPEC 12 leaves out that there is no other σ and that W reads the tokens, slot by slot.

This σ is the gradient of a convex function of the whole slot, (1/s) logsumexp(s a xᵀ). Its slope
D = s Cov(x) is symmetric, so (I - D H)⁻¹ D with H = ∂²Φ/∂ξ² is symmetric too, and EP's limit is
the exact gradient. The energy is E = Σ_t min {(1/s) Σ p log p : p x = ξ_t} + 1/2 Σ ||ξ||² (the
layers above) - Φ, and falls in alternating sweeps. With values other than the keys σ would be no
gradient, and EP not exact.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxep.core.activations import ContextualActivation, hard_sigmoid
from jaxep.nets.builders import INPUT, mlp
from jaxep.nets.couplings import Coupling
from jaxep.nets.graph import Edge, Input, Layer, Loop, Network
from jaxep.nets.model import Model
from jaxep.nets.weights import Params, Shape, uniform_init

NAME = "projection"


def rows(x: jax.Array, places: float = 0.0) -> jax.Array:
    """Tokens of a batch: [batch, T, ...] -> [batch, T, d]. The rows of an image are its tokens.

    Args:
        x: the inputs.
        places: over 0, each token ends with its place among the T, one-hot times this.
    """
    tokens = x.reshape(*x.shape[:2], -1)
    if not places:
        return tokens
    place = jnp.broadcast_to(places * jnp.eye(x.shape[1], dtype=x.dtype), (*x.shape[:2], x.shape[1]))
    return jnp.concatenate([tokens, place], axis=-1)


@dataclasses.dataclass(frozen=True)
class EachToken(Coupling):
    """<upper_t, lower_t W> for each token t, without bias.

    Attributes:
        in_shape: of the input without the batch, [T, ...].
        places: as for `rows`.
    """

    in_shape: Shape
    places: float = 0.0

    @property
    def out_shape(self) -> Shape:
        count, *shape = self.in_shape
        return count, math.prod(shape) + (count if self.places else 0)

    def init(self, key: jax.Array, gain: float = 1.0, dtype=jnp.float32) -> Params:
        """Kernel [d, d], U(-gain/sqrt(d), ...)."""
        size = self.out_shape[1]
        return {"kernel": uniform_init(key, (size, size), size, gain, dtype)}

    def apply(self, operators: Params, lower: jax.Array) -> jax.Array:
        """[batch, *in_shape] -> [batch, T, d]."""
        return rows(lower, self.places) @ operators["kernel"]


class SequenceNetwork(Network):
    """A network whose activations see the input itself, by its name in the prepared x."""

    def prepare(self, params: Params, x: Any) -> tuple[Loop, dict[str, jax.Array]]:
        """As of `Network`, and x."""
        loop, clamped = super().prepare(params, x)
        return loop, {**clamped, self.inputs[0].name: x}


def retrieval(scale: float, places: float = 0.0) -> ContextualActivation:
    """σ(a) = softmax(s a xᵀ) x of each slot, [batch, T, d].

    Args:
        scale: s.
        places: as for `rows`.
    """

    def retrieved(argument: jax.Array, loop: Loop, clamped: dict, states: Any) -> jax.Array:
        tokens = rows(clamped[INPUT], places)
        scores = scale * jnp.einsum("bqd,bkd->bqk", argument, tokens)
        return jnp.einsum("bqk,bkd->bqd", jax.nn.softmax(scores), tokens)

    return ContextualActivation(retrieved)


def sequence(
    hidden: Sequence[int],
    input_shape: Shape,
    num_classes: int,
    *,
    scale: float | None = None,
    places: float = 0.0,
    activation: Callable[[jax.Array], jax.Array] = hard_sigmoid,
    gain: float | Mapping[str, float] = 1.0,
    **options: Any,
) -> Model:
    """A projection layer over the tokens of the input, and a chain of dense layers on it.

    Args:
        hidden: neurons of fc1, fc2, ...
        input_shape: without the batch, [T, ...]: T tokens.
        num_classes: size of the output.
        scale: s; None: 1/sqrt(d).
        places: as for `rows`.
        activation: σ of the dense layers.
        gain: as for `mlp`; the weight of the projection layer is "projection".
        options: `output` and `output_activation`, as for `mlp`.

    Raises:
        ValueError: the input has no tokens, or as of `mlp`.
    """
    shape = tuple(input_shape)
    if len(shape) < 2:
        raise ValueError(f"input_shape = {shape}: must be tokens by what each of them is")
    coupling = EachToken(shape, places)
    own = gain
    if isinstance(gain, Mapping):
        own = gain.get(NAME, gain.get("default", 1.0))
        gain = {name: number for name, number in gain.items() if name != NAME}
    chain = mlp(
        hidden, coupling.out_shape, num_classes, activation=activation, gain=gain, **options
    )
    first, *others = chain.network.edges
    scale = 1 / math.sqrt(coupling.out_shape[1]) if scale is None else scale
    network = SequenceNetwork(
        (Input(INPUT, shape),),
        (Layer(NAME, coupling.out_shape, retrieval(scale, places)), *chain.network.layers),
        (
            Edge(INPUT, NAME, coupling, NAME, own),
            dataclasses.replace(first, lower=NAME),
            *others,
        ),
    )
    return Model(network, chain.heads)
