"""A network is a graph: neuron layers and clamped inputs, joined by couplings.

Φ = Σ_edges <ξ_upper, C(ξ_lower)> + Σ_layers <ξ, b>. A chain is the special case of eq. 1. States
are a dict by the layers' names, parameters by the names of edges and layers.
"""

import dataclasses
import functools
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxep.core import blocks
from jaxep.core.energy import FastPhi
from jaxep.nets.parts import Edge, Input, Layer, Shape, check_parts, first_states
from jaxep.nets.pools import known
from jaxep.nets.weights import typed_as, with_bias

Params = dict[str, Any]
States = dict[str, jax.Array]


class Loop(NamedTuple):
    """What Φ needs in a loop in the place of its parameters.

    Attributes:
        operators: of each edge, by name.
        biases: of each layer with one, by name.
    """

    operators: dict[str, Any]
    biases: dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Network:
    """Layers and edges with names; what each drives is a pure function of parameters and states.

    Attributes:
        inputs: clamped. x is one array [batch, *shape] where there is one input, else a dict of
            them by name.
        layers: the states, from the input upwards: the first moves first.
        edges: the couplings.

    Raises:
        ValueError: a name is given twice or is unknown, shapes do not fit, or a layer has no edge.
    """

    inputs: tuple[Input, ...]
    layers: tuple[Layer, ...]
    edges: tuple[Edge, ...]

    def __post_init__(self) -> None:
        for field in ("inputs", "layers", "edges"):
            object.__setattr__(self, field, tuple(getattr(self, field)))
        check_parts(self.inputs, self.layers, self.edges)

    @property
    def shapes(self) -> dict[str, Shape]:
        """Shape of each neuron layer by name, without the batch."""
        return {layer.name: tuple(layer.shape) for layer in self.layers}

    @property
    def layer_names(self) -> tuple[str, ...]:
        """From the input upwards."""
        return tuple(layer.name for layer in self.layers)

    @property
    def activations(self) -> dict[str, Any]:
        """σ of each layer by name."""
        return {layer.name: layer.activation for layer in self.layers}

    @property
    def weights(self) -> dict[str, str]:
        """The layer that each edge drives, by the edge's name."""
        return {edge.name: edge.upper for edge in self.edges}

    @property
    def gains(self) -> dict[str, float]:
        """The gain of the first edge into each layer, by the layer's name."""
        return {edge.upper: edge.gain for edge in reversed(self.edges)}

    @property
    def blocks(self) -> dict[str, int]:
        """The block of each layer in an alternating sweep: a chain's are 0, 1, 0, 1, ..."""
        places = {name: i for i, name in enumerate(self.layer_names)}
        joined: blocks.Graph = [set() for _ in places]
        for edge in self.edges:
            if edge.lower in places:
                joined[places[edge.lower]].add(places[edge.upper])
                joined[places[edge.upper]].add(places[edge.lower])
        return dict(zip(places, blocks.colours(joined, range(len(places))), strict=True))

    def init_params(self, keys: Iterable[jax.Array], dtype=jnp.float32) -> Params:
        """{"edges": {edge: its parameters}, "layers": {layer: {"bias": [last axis]}}}.

        Args:
            keys: one for each edge; biases of layers start at 0.
            dtype: of the parameters.
        """
        drawn = zip(self.edges, keys, strict=True)
        edges = {e.name: p for e, k in drawn if (p := e.coupling.init(k, e.gain, dtype))}
        layers = {
            layer.name: {"bias": jnp.zeros(layer.shape[-1:], dtype)}
            for layer in self.layers
            if layer.bias
        }
        return {"edges": edges, "layers": layers}

    def init_states(self, key: jax.Array | None, batch: int, start: str, dtype) -> States:
        """States before the free phase, [batch, *shape] each: `zeros`, or `uniform` U(0, 1)."""
        return first_states(self.shapes, key, batch, start, dtype)

    def phi(self, params: Params, x: Any, states: States) -> jax.Array:
        """Φ(x, ξ, w): the sum over edges of <ξ_upper, C(ξ_lower)>, and of the layers' <ξ, b>.

        Args:
            params: as of `init_params`; more in it is not looked at.
            x: [batch, *shape], or a dict of such where there are several inputs.
            states: one array [batch, *shape] for each layer, by name.

        Returns:
            One value for each sample, [batch].
        """
        loop = self._loop(params)
        return self.phi_and_cache(loop, self._fixed(loop, x), states, [None] * len(states))[0]

    def prepare(self, params: Params, x: Any) -> tuple[Loop, dict[str, jax.Array]]:
        """The work of Φ that does not depend on the states, done once per batch.

        Returns:
            (operators in the place of kernels, the constant drive of each edge from an input, by
            name), both of the type of `x`, for `phi_and_cache`.
        """
        dtype = jax.tree.leaves(x)[0].dtype
        loop = jax.tree.map(lambda leaf: _cast(leaf, dtype), self._loop(params))
        return loop, self._fixed(loop, x)

    def phi_and_cache(
        self, loop: Loop, clamped: dict[str, jax.Array], states: States, cache: list
    ) -> tuple[jax.Array, list]:
        """Φ with what `prepare` made, and for each layer what `drives` keeps of it.

        Args:
            loop: of `prepare`.
            clamped: of `prepare`.
            states: as for `phi`.
            cache: as for `drives`.

        Returns:
            (as `phi`, the cache of every layer).
        """
        drives, cache = self.drives(loop, clamped, states, cache)
        terms = [_inner(states[edge.upper], drives[edge.name]) for edge in self.edges]
        terms += [_inner(states[name], bias) for name, bias in loop.biases.items()]
        return functools.reduce(jnp.add, terms), cache

    def drives(
        self,
        loop: Loop,
        clamped: dict[str, jax.Array],
        states: States,
        cache: list,
        keep_all: bool = False,
    ) -> tuple[dict[str, jax.Array], list]:
        """C(ξ_lower) of each edge, and for each layer what it drives through pools.

        The step down through a pool needs the places of its maxima, and so another convolution of
        the layer that moves, unless that layer has not moved since they were found. With more than
        two blocks the pooled values are needed again too.

        Args:
            loop: of `prepare`.
            clamped: of `prepare`.
            states: one array [batch, *shape] for each layer, by name.
            cache: for each layer, in the order of JAX (sorted names), what an earlier call
                returned for it, or None.
            keep_all: for a Φ that needs the value of C(ξ_lower) where ξ_lower moves: keep what each
                edge drives, not only through pools.

        Returns:
            ([batch, *shape of the upper layer] by the edge's name, the cache of every layer).
        """
        self.check_states(states)
        names = sorted(states)
        kept = dict(zip(names, cache, strict=True))
        seen: dict[str, dict[str, Any]] = {name: {} for name in names}
        found = dict(clamped)
        for edge in self.edges:
            if edge.lower in states:
                operators = loop.operators[edge.name]
                lower = typed_as(operators, states[edge.lower])
                drive, indices = (kept[edge.lower] or {}).get(edge.name) or (None, None)
                moved, indices = edge.coupling.apply_and_cache(operators, lower, indices)
                found[edge.name] = moved if drive is None else known(moved, drive)
                worth = keep_all or bool(jax.tree.leaves(indices))
                seen[edge.lower][edge.name] = (found[edge.name], indices) if worth else ()
        return found, [seen[name] for name in names]

    def drive(
        self, layer: str, loop: Loop, clamped: dict[str, jax.Array], states: States
    ) -> jax.Array:
        """Σ C(ξ_lower) over the edges into one layer, and its bias: [batch, *shape].

        Args:
            layer: by name.
            loop: of `prepare`.
            clamped: of `prepare`.
            states: of the layers below at least.
        """
        drives = {
            e.name: clamped[e.name] if e.name in clamped else _driven(e, loop, states[e.lower])
            for e in self.edges
            if e.upper == layer
        }
        return self.summed(layer, loop, drives)

    def summed(self, layer: str, loop: Loop, drives: dict[str, jax.Array]) -> jax.Array:
        """The sum of what the edges into one layer drive, by their names, and its bias."""
        total = functools.reduce(jnp.add, [drives[e.name] for e in self.edges if e.upper == layer])
        return with_bias(total, loop.biases[layer]) if layer in loop.biases else total

    @functools.cached_property
    def fast_phi(self) -> FastPhi:
        """`phi`, with the faster way to compute it in a loop."""
        return FastPhi(self.phi, self.prepare, self.phi_and_cache)

    def _loop(self, params: Params) -> Loop:
        operators = {
            edge.name: edge.coupling.prepare(params["edges"].get(edge.name, {}))
            for edge in self.edges
        }
        return Loop(operators, {name: own["bias"] for name, own in params["layers"].items()})

    def _fixed(self, loop: Loop, x: Any) -> dict[str, jax.Array]:
        """The constant drive of each edge from an input, as P(w_0 * x + b_0)."""
        clamped = self._clamped(x)
        found = {}
        for edge in self.edges:
            if edge.lower not in self.shapes:
                found[edge.name] = _driven(edge, loop, clamped[edge.lower])
        return found

    def _clamped(self, x: Any) -> dict[str, jax.Array]:
        """x by the names of the inputs."""
        wanted = {part.name: ("batch", *part.shape) for part in self.inputs}
        if len(wanted) == 1 and isinstance(x, dict):
            raise ValueError(f"x: must be one array for {', '.join(wanted)}, is a dict")
        clamped = {self.inputs[0].name: x} if len(wanted) == 1 else x
        if not isinstance(clamped, dict) or set(clamped) != set(wanted):
            given = f"has {', '.join(clamped)}" if isinstance(clamped, dict) else "is none"
            raise ValueError(f"x: must be a dict of {', '.join(wanted)}, {given}")
        for name, shape in wanted.items():
            own, dtype = jnp.shape(clamped[name]), jnp.result_type(clamped[name])
            if own[1:] != shape[1:] or len(own) != len(shape):
                raise ValueError(f"x: {name} is {list(own)}, must be {_shown(shape)}")
            if not jnp.issubdtype(dtype, jnp.inexact):
                raise ValueError(f"x: {name} is {dtype}, must be floating")
        return clamped

    def check_states(self, states: States) -> None:
        """Refuses what are no states of these layers by a ValueError of one sentence."""
        if not isinstance(states, dict) or set(states) != set(self.shapes):
            given = f"has {', '.join(states)}" if isinstance(states, dict) else "is none"
            raise ValueError(f"states: must be a dict of {', '.join(self.layer_names)}, {given}")
        for name, shape in self.shapes.items():
            if jnp.shape(states[name])[1:] != shape:
                wanted = _shown(("batch", *shape))
                raise ValueError(
                    f"states: {name} is {list(jnp.shape(states[name]))}, must be {wanted}"
                )


def _shown(shape: tuple) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _inner(states: jax.Array, drive: jax.Array) -> jax.Array:
    """<ξ, drive> of each sample, [batch]; a drive may be one for each unit of the last axis."""
    drive = jnp.broadcast_to(drive, states.shape)
    if jnp.iscomplexobj(states):
        drive = drive.astype(states.dtype)
    return jnp.sum(states * drive, axis=tuple(range(1, states.ndim)))


def _cast(leaf: jax.Array, dtype: Any) -> jax.Array:
    return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.inexact) else leaf


def _driven(edge: Edge, loop: Loop, lower: jax.Array) -> jax.Array:
    operators = loop.operators[edge.name]
    return edge.coupling.apply(operators, typed_as(operators, lower))
