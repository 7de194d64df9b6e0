"""A network with its heads: parameters, the `Energy` that the core takes, outputs."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from jaxep.core.energy import Energy
from jaxep.nets.graph import Params, States
from jaxep.nets.heads import Head, Targets
from jaxep.nets.parts import STARTS, Shape


class Net(Protocol):
    """What a `Model` needs of a network: a `Network` of couplings, or another Φ with named parts.

    Attributes:
        shapes: of each layer by name, without the batch.
        layer_names: from the input upwards.
        activations: σ of each layer by name.
        blocks: of each layer by name, or None: read off Φ.
        weights: the layer that each weight drives, by the weight's name, from the input upwards.
        gains: scale of the first weights into each layer, by the layer's name.
        fast_phi: Φ(params, x, states), a function or a `FastPhi`.
    """

    @property
    def shapes(self) -> dict[str, Shape]: ...
    @property
    def layer_names(self) -> tuple[str, ...]: ...
    @property
    def activations(self) -> Mapping[str, Any]: ...
    @property
    def blocks(self) -> Mapping[str, int] | None: ...
    @property
    def weights(self) -> dict[str, str]: ...
    @property
    def gains(self) -> dict[str, float]: ...
    @property
    def fast_phi(self) -> Any: ...

    def init_params(self, keys: Iterable[jax.Array], dtype=jnp.float32) -> Params:
        """{"edges": {weight: its parameters}, "layers": {layer: {"bias"}}}; a key each weight."""
        ...

    def init_states(self, key: jax.Array | None, batch: int, start: str, dtype) -> States:
        """States before the free phase, [batch, *shape] by the names of layers."""
        ...


@dataclasses.dataclass(frozen=True)
class Model:
    """A network and what pulls its states.

    Attributes:
        network: layers and what joins them: a `Network`, or what serves as one (`Net`).
        heads: the first is the output, the others intermediate signals.

    Raises:
        ValueError: there is no head, a head reads an unknown layer or one of another shape, or a
            name is given twice.
    """

    network: Any
    heads: tuple[Head, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "heads", tuple(self.heads))
        if not self.heads:
            raise ValueError("a model needs a head for its output: readout(...) or output(...)")
        names = [head.name for head in self.heads]
        for head in self.heads:
            if head.layer not in self.network.shapes:
                known = ", ".join(self.network.layer_names)
                raise ValueError(f"head {head.name}: there is no layer {head.layer} in {known}")
            if names.count(head.name) > 1:
                raise ValueError(f"head {head.name}: each needs a name of its own")
            shape = self.network.shapes[head.layer]
            if head.map is not None and tuple(head.map.in_shape) != shape:
                raise ValueError(
                    f"head {head.name}: its map reads {tuple(head.map.in_shape)}, but {head.layer} "
                    f"is {shape}"
                )

    def with_heads(self, *heads: Head) -> "Model":
        """The same with more heads, as `local_errors` or `distillation` give them."""
        return Model(self.network, (*self.heads, *heads))

    def init_params(self, key: jax.Array, dtype=jnp.float32) -> Params:
        """Initial parameters.

        Returns:
            {"edges": {edge: {"kernel", "bias"}}, "layers": {layer: {"bias"}}, "heads": {head:
            {"kernel", "bias"}}}, each of those that have any.
        """
        network_key, signal_key = jax.random.split(key)
        *edge_keys, output_key = jax.random.split(network_key, len(self.network.weights) + 1)
        head_keys = [output_key, *jax.random.split(signal_key, max(len(self.heads) - 1, 1))]
        drawn = zip(self.heads, head_keys, strict=False)
        heads = {head.name: p for head, k in drawn if (p := head.init(k, dtype))}
        return {**self.network.init_params(edge_keys, dtype), "heads": heads}

    def energy(self, init_states: str = "zeros") -> Energy:
        """The model as an `Energy`, with L_Total the weighted sum over its heads (eq. 9).

        Args:
            init_states: of a free phase, `zeros` or `uniform`: U(0, 1).

        Raises:
            ValueError: the start is neither.
        """
        if init_states not in STARTS:
            raise ValueError(f"init_states = {init_states!r}: must be one of {', '.join(STARTS)}")

        def start(key: jax.Array, params: Params, x: Any) -> States:
            leaf = jax.tree.leaves(x)[0]
            return self.network.init_states(key, leaf.shape[0], init_states, leaf.dtype)

        network = self.network
        return Energy(network.fast_phi, self.loss, start, network.activations, network.blocks)

    def loss(self, params: Params, states: States, targets: Targets) -> jax.Array:
        """L_Total = Σ_heads weight * loss, [batch]."""
        total = self.output_loss(params, states, targets)
        for head in self.heads[1:]:
            own = head.value(params["heads"].get(head.name, {}), states, targets)
            total = total + head.weight(targets) * own
        return total

    def outputs(self, params: Params, states: States) -> jax.Array:
        """What the first head gives: logits, or the states of output neurons, [batch, classes]."""
        head = self.heads[0]
        return head.outputs(params["heads"].get(head.name, {}), states)

    def output_loss(self, params: Params, states: States, targets: Targets) -> jax.Array:
        """L_EP, the loss of the first head, [batch]."""
        head = self.heads[0]
        own = head.value(params["heads"].get(head.name, {}), states, targets)
        return head.weight(targets) * own

    @property
    def weight_names(self) -> tuple[str, ...]:
        """Of all weights, from the input upwards: the edges that have some, and the output's."""
        shapes = jax.eval_shape(self.init_params, jax.random.key(0))
        edges = [name for name in self.network.weights if name in shapes["edges"]]
        first = self.heads[0].name
        return (*edges, first) if first in shapes["heads"] else tuple(edges)

    def weight_labels(self, params: Params) -> Params:
        """The weight whose learning rate each parameter uses, by name, in a tree like `params`.

        A signal's map and a layer's bias use that of the first edge into their layer.
        """
        names = {edge: edge for edge in params["edges"]}
        of_layer: dict[str, str] = {}
        for name, layer in self.network.weights.items():
            if name in names:
                of_layer.setdefault(layer, name)
        of_head = {head.name: of_layer.get(head.layer, head.layer) for head in self.heads[1:]}
        of_head[self.heads[0].name] = self.heads[0].name
        groups = {"edges": names, "layers": of_layer, "heads": of_head}
        return {
            group: {
                name: jax.tree.map(lambda _, n=groups[group][name]: n, own)
                for name, own in params[group].items()
            }
            for group in groups
        }
