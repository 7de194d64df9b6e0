"""Sequences by equilibrium propagation: the first layer retrieves tokens of the input.

    ξ_t <- softmax(s ∂Φ/∂ξ_t xᵀ) x,    Φ = Σ_t <ξ_t, W x_t> + Σ_edges <ξ_upper, W ξ_lower + b>

Bal & Sengupta 2023 (IJCAI 2023, arXiv 2209.09626; their net for IMDB): the tokens x [T, d] are keys
and values of a modern Hopfield net, each slot t of the projection layer ξ [T, d] queries them, s =
1/sqrt(d), W has no bias and serves all slots, and dense layers stand above. Retrieval is the only σ
of that layer, and its query holds the feedback from above. For SNLI they have four such layers side
by side, which query each other's sentence with s = 0.16. Nothing tells the order of the tokens but
which slot asks; `places` is ours.

This σ is the gradient of a convex function of the slot's argument a, (1/s) logsumexp(s a xᵀ). So
its slope D is symmetric, so is (I - D H)⁻¹ D with H = ∂²Φ/∂ξ², and EP's limit is the exact
gradient. Alternating sweeps lower
E = Σ_t min {(1/s) Σ p log p : p xᵀ = ξ_t} + 1/2 Σ ||ξ||² (the layers above) - Φ.
With values other than the keys σ is no gradient, and EP is not exact.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxep.core import checks
from jaxep.core.activations import ContextualActivation, hard_sigmoid
from jaxep.nets.builders import INPUT, mlp
from jaxep.nets.couplings import Coupling
from jaxep.nets.graph import Edge, Input, Layer, Loop, Network
from jaxep.nets.model import Model
from jaxep.nets.weights import Gain, Params, Shape, gain_of, uniform_init

NAME = "projection"
# In what `prepare` makes of x, beside the drives of the edges, which have other names.
TOKENS = "tokens of the input"


def rows(x: jax.Array) -> jax.Array:
    """Tokens of a batch: [batch, T, ...] -> [batch, T, d]. The rows of an image are its tokens."""
    return x.reshape(*x.shape[:2], -1)


@dataclasses.dataclass(frozen=True)
class EachToken(Coupling):
    """<upper_t, W token_t> for each of T tokens, without bias.

    Attributes:
        in_shape: of the input without the batch, [T, ...].
        places: over 0, a token ends with its place among the T, one-hot times this.
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

    def tokens(self, x: jax.Array) -> jax.Array:
        """[batch, *in_shape] -> [batch, T, d]."""
        if not self.places:
            return rows(x)
        place = self.places * jnp.eye(x.shape[1], dtype=x.dtype)
        return jnp.concatenate([rows(x), jnp.broadcast_to(place, (len(x), *place.shape))], axis=-1)

    def apply(self, operators: Params, lower: jax.Array) -> jax.Array:
        """[batch, *in_shape] -> [batch, T, d]."""
        return self.tokens(lower) @ operators["kernel"]


class SequenceNetwork(Network):
    """A network whose first edge reads tokens, which the activations see too."""

    def prepare(self, params: Params, x: Any) -> tuple[Loop, dict[str, jax.Array]]:
        """As of `Network`, and the tokens."""
        coupling = self.edges[0].coupling
        assert isinstance(coupling, EachToken)
        loop, clamped = super().prepare(params, x)
        return loop, {**clamped, TOKENS: coupling.tokens(x)}


def retrieval(scale: float) -> ContextualActivation:
    """σ(a) = softmax(s a xᵀ) x of each slot, [batch, T, d].

    Args:
        scale: s.
    """

    def retrieved(argument: jax.Array, loop: Loop, clamped: dict, states: Any) -> jax.Array:
        scores = scale * jnp.einsum("bqd,bkd->bqk", argument, clamped[TOKENS])
        return jnp.einsum("bqk,bkd->bqd", jax.nn.softmax(scores), clamped[TOKENS])

    return ContextualActivation(retrieved)


def sequence(
    hidden: Sequence[int],
    input_shape: Shape,
    num_classes: int,
    *,
    scale: float | None = None,
    places: float = 0.0,
    activation: Callable[[jax.Array], jax.Array] = hard_sigmoid,
    gain: Gain = 1.0,
    **options: Any,
) -> Model:
    """A projection layer over the tokens of the input, and a chain of dense layers on it.

    Args:
        hidden: neurons of fc1, fc2, ...
        input_shape: without the batch, [T, ...]: T tokens, the rows of an image.
        num_classes: size of the output.
        scale: s; None: 1/sqrt(d).
        places: as for `EachToken`.
        activation: σ of the dense layers.
        gain: as for `mlp`; the weight of the projection layer is "projection".
        options: `output` and `output_activation`, as for `mlp`.

    Raises:
        ValueError: the input is no tokens, s is not over 0, or as of `mlp`.
    """
    shape = tuple(input_shape)
    if len(shape) < 2:
        raise ValueError(f"input_shape = {shape}: must be tokens by what each of them is")
    coupling = EachToken(shape, places)
    scale = 1 / math.sqrt(coupling.out_shape[1]) if scale is None else scale
    checks.between("scale", scale, 0, math.inf)
    named = gain if isinstance(gain, Mapping) else {"default": gain}
    options |= {"gain": {name: number for name, number in named.items() if name != NAME}}
    chain = mlp(hidden, coupling.out_shape, num_classes, activation=activation, **options)
    first, *others = chain.network.edges
    network = SequenceNetwork(
        (Input(INPUT, shape),),
        (Layer(NAME, coupling.out_shape, retrieval(scale)), *chain.network.layers),
        (
            Edge(INPUT, NAME, coupling, NAME, gain_of(gain, NAME)),
            dataclasses.replace(first, lower=NAME),
            *others,
        ),
    )
    return Model(network, chain.heads)
