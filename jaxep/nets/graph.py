"""A network is a chain of couplings: x -> layer 0 -> layer 1 -> ... -> (readout).

Neuron layers are the states; their index counts from 0, the first coupling's output. With a cross
entropy loss the output is no neuron layer: a readout, outside of Φ, turns the last states into
logits (Laborieux et al. 2021). With a squared error it is the last neuron layer.
"""

import dataclasses
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxep.nets.couplings import Conv, Coupling, Dense, Operators

Params = dict[str, Any]
States = tuple[jax.Array, ...]


class ConvSpec(NamedTuple):
    """One 3x3 convolution of a specification: channels, padding, whether a 2x2 max pool follows."""

    features: int
    padding: int
    pool: bool


class Drive(NamedTuple):
    """The clamped input's constant drive of layer 0, P(w_0 * x + b_0): [batch, *layer 0]."""

    value: jax.Array


def parse_conv(spec: str) -> tuple[ConvSpec, ...]:
    """Reads "64 M 128v M": a number is a 3x3 convolution, v its padding 0 (else 1), M its max pool.

    Raises:
        ValueError: a sentence that names the token that cannot be read.
    """
    convs: list[ConvSpec] = []
    for token in spec.split():
        match = re.fullmatch(r"([1-9]\d*)(v?)", token)
        if match:
            convs.append(ConvSpec(int(match[1]), 0 if match[2] else 1, pool=False))
        elif token == "M" and convs and not convs[-1].pool:
            convs[-1] = convs[-1]._replace(pool=True)
        elif token == "M":
            raise ValueError("a pool M must follow a convolution, and only one pool each")
        else:
            raise ValueError(f"{token!r} is neither channels (64, or 64v without padding) nor M")
    return tuple(convs)


@dataclasses.dataclass(frozen=True)
class Network:
    """A chain of couplings and the activation of each neuron layer.

    Attributes:
        couplings: one for each neuron layer, from the input upwards.
        activations: σ of each neuron layer.
        readout: from the last states to logits; None where the last neuron layer is the output.
        gain: weights start as U(-gain/sqrt(fan_in), gain/sqrt(fan_in)).
    """

    couplings: tuple[Coupling, ...]
    activations: tuple[Callable[[jax.Array], jax.Array], ...]
    readout: Dense | None = None
    gain: float = 1.0

    @property
    def state_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shape of each neuron layer, without the batch."""
        return tuple(coupling.out_shape for coupling in self.couplings)

    @property
    def layer_names(self) -> tuple[str, ...]:
        """conv1, conv2, ..., fc1, ..., and readout: one for each weighted layer."""
        names: list[str] = []
        for coupling in self.couplings:
            kind = "conv" if isinstance(coupling, Conv) else "fc"
            names.append(f"{kind}{1 + sum(name.startswith(kind) for name in names)}")
        return tuple(names) if self.readout is None else (*names, "readout")

    def init_params(self, key: jax.Array, dtype=jnp.float32) -> Params:
        """{"layers": one dict of kernel and bias per coupling, "readout": the same, if any}."""
        keys = jax.random.split(key, len(self.couplings) + 1)
        layers = tuple(
            coupling.init(k, self.gain, dtype)
            for coupling, k in zip(self.couplings, keys[:-1], strict=True)
        )
        if self.readout is None:
            return {"layers": layers}
        return {"layers": layers, "readout": self.readout.init(keys[-1], self.gain, dtype)}

    def init_states(self, key: jax.Array, batch: int, kind: str, dtype=jnp.float32) -> States:
        """States before the free phase, [batch, *shape] each: `zeros`, or `uniform` U(0, 1)."""
        shapes = [(batch, *shape) for shape in self.state_shapes]
        if kind == "zeros":
            return tuple(jnp.zeros(shape, dtype) for shape in shapes)
        keys = jax.random.split(key, len(shapes))
        return tuple(
            jax.random.uniform(k, shape, dtype) for k, shape in zip(keys, shapes, strict=True)
        )

    def prepare(self, params: Params, x: jax.Array) -> tuple[Params, Drive]:
        """The work of Φ that does not depend on the states, done once per batch.

        Returns:
            (params with operators in the place of kernels, constant drive of layer 0), both of
            the type of `x`, to be passed to `phi` in the place of (params, x).
        """
        prepared = [
            coupling.prepare(layer)
            for coupling, layer in zip(self.couplings, params["layers"], strict=True)
        ]
        operators = jax.tree.map(lambda leaf: leaf.astype(x.dtype), tuple(prepared))
        return {**params, "layers": operators}, Drive(self.couplings[0].apply(operators[0], x))

    def phi(self, params: Params, x: jax.Array | Drive, states: States) -> jax.Array:
        """Φ(x, ξ, w), eq. 1: the sum over couplings of <ξ_{i+1}, C_i(ξ_i)> with ξ_0 = x.

        Args:
            params: as of `init_params` or `prepare`.
            x: [batch, height, width, channels], or what `prepare` made of it.
            states: one array [batch, *shape] for each neuron layer.

        Returns:
            One value for each sample, [batch].
        """
        return self.recall(params, x, states, [None] * len(states))[0]

    def recall(
        self, params: Params, x: jax.Array | Drive, states: States, memory: list
    ) -> tuple[jax.Array, list]:
        """Φ, and for each layer the places of the maxima of the pool that it drives.

        The step down through a pool needs these places, and so another convolution of the layer
        that moves, unless that layer has not moved since they were found.

        Args:
            params: as for `phi`.
            x: as for `phi`.
            states: as for `phi`.
            memory: for each layer what an earlier call returned for it, or None.

        Returns:
            (as `phi`, the memory of every layer).
        """
        total, drive = jnp.zeros(()), None
        below = zip((x, *states), [None, *memory], strict=True)
        seen = []
        for coupling, layer, upper, (lower, places) in zip(
            self.couplings, params["layers"], states, below, strict=False
        ):
            if isinstance(lower, Drive):
                drive, places = lower.value, ()
            else:
                ready = layer if isinstance(layer, Operators) else coupling.prepare(layer)
                drive, places = coupling.recall(ready, lower.astype(ready.bias.dtype), places)
            seen.append(places)
            total = total + jnp.sum(upper * drive, axis=tuple(range(1, upper.ndim)))
        return total, [*seen[1:], ()]

    def outputs(self, params: Params, states: States) -> jax.Array:
        """Logits W_out ξ_last + b_out, or the output layer's states: [batch, classes]."""
        if self.readout is None:
            return states[-1]
        return self.readout.apply(self.readout.prepare(params["readout"]), states[-1])


def vgg(
    conv: str,
    hidden: tuple[int, ...],
    image_shape: tuple[int, int, int],
    num_classes: int,
    *,
    conv_activation: Callable[[jax.Array], jax.Array],
    dense_activation: Callable[[jax.Array], jax.Array],
    has_readout: bool = True,
    gain: float = 1.0,
) -> Network:
    """A convolutional CRNN of Table 4.

    Args:
        conv: convolutions and pools, read by `parse_conv`.
        hidden: neurons of each hidden dense layer.
        image_shape: (height, width, channels).
        num_classes: size of the output.
        conv_activation: σ of convolution layers.
        dense_activation: σ of dense layers.
        has_readout: True for a readout outside of Φ (cross entropy), False for an output layer of
            neurons (squared error).
        gain: scale of the initial weights.

    Raises:
        ValueError: the specification cannot be read, or a map becomes smaller than 1x1.
    """
    couplings: list[Coupling] = []
    shape: tuple[int, ...] = image_shape
    for spec in parse_conv(conv):
        height, width, channels = shape
        link = Conv((height, width, channels), spec.features, padding=spec.padding, pool=spec.pool)
        if min(link.out_shape[:2]) < 1:
            raise ValueError(
                f"convolution {len(couplings) + 1} would leave a {link.out_shape[0]}x"
                f"{link.out_shape[1]} map of a {shape[0]}x{shape[1]} one"
            )
        couplings.append(link)
        shape = link.out_shape
    activations = [conv_activation] * len(couplings)
    for features in (*hidden, *(() if has_readout else (num_classes,))):
        couplings.append(Dense(shape, features))
        activations.append(dense_activation)
        shape = (features,)
    readout = Dense(shape, num_classes) if has_readout else None
    return Network(tuple(couplings), tuple(activations), readout, gain)
