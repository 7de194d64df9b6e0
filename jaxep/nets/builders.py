"""Networks by name: convolutional chains with pools and residual blocks, MLPs, Hopfield nets.

All give a `Model`, a network with the head of its output. Anything else is a `Network` of `Layer`s
and `Edge`s.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from jaxep.core import activations, checks
from jaxep.core.activations import hard_sigmoid, linear, relu6
from jaxep.nets import heads
from jaxep.nets.couplings import Conv, Coupling, Dense, Identity
from jaxep.nets.graph import Edge, Input, Layer, Network, Shape
from jaxep.nets.model import Model
from jaxep.nets.sparse import Sparse
from jaxep.nets.specs import ConvSpec, named_specs
from jaxep.nets.weights import Gain, gain_of

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "hard_sigmoid": activations.hard_sigmoid,
    "relu": activations.relu,
    "relu6": activations.relu6,
    "hard_tanh": activations.hard_tanh,
    "tanh": jax.numpy.tanh,
    "sigmoid": jax.nn.sigmoid,
    "shifted_sigmoid": activations.shifted_sigmoid,
    "soft_clip": activations.soft_clip,
    "softplus": jax.nn.softplus,
    "linear": activations.linear,
}
INPUT = "image"


@dataclasses.dataclass
class _Draft:
    """A network under construction, from the input upwards."""

    inputs: tuple[Input, ...]
    gain: Gain
    layers: list[Layer] = dataclasses.field(default_factory=list)
    edges: list[Edge] = dataclasses.field(default_factory=list)

    @property
    def top(self) -> tuple[str, Shape]:
        """Name and shape of the last layer, or of the input."""
        last = self.layers[-1] if self.layers else self.inputs[0]
        return last.name, last.shape

    def layer(self, name: str, coupling: Coupling, activation: Any) -> None:
        """One more layer, which `coupling` joins to the last."""
        below, _ = self.top
        self.layers.append(Layer(name, coupling.out_shape, activation))
        self.edge(below, name, coupling, name)

    def edge(self, lower: str, upper: str, coupling: Coupling, name: str) -> None:
        self.edges.append(Edge(lower, upper, coupling, name, self.gain_of(name)))

    def gain_of(self, name: str) -> float:
        return gain_of(self.gain, name)

    def model(self, classes: int, output: str, activation: Any) -> Model:
        """The network with the head of its output."""
        name, shape = self.top
        if output == "readout":
            if not self.layers:
                raise ValueError("a network needs a layer of neurons below its readout")
            head = heads.readout(name, shape, classes, self.gain_of("readout"))
        elif output == "neurons":
            self.layer("output", Dense(shape, classes), activation)
            head = heads.output("output")
        else:
            raise ValueError(f"output = {output!r}: must be one of readout, neurons")
        return self.with_head(head)

    def with_head(self, head: heads.Head) -> Model:
        """The network with this head; refused where a gain is of no weight."""
        model = Model(Network(self.inputs, tuple(self.layers), tuple(self.edges)), (head,))
        if isinstance(self.gain, Mapping):
            for known in set(self.gain) - {*model.weight_names, "default"}:
                raise ValueError(
                    f"gain: there is no weight {known}; there are {', '.join(model.weight_names)}"
                )
        return model


def vgg(
    conv: str,
    hidden: Sequence[int],
    image_shape: Shape,
    num_classes: int,
    *,
    conv_activation: Any = hard_sigmoid,
    dense_activation: Any = hard_sigmoid,
    output: str = "readout",
    output_activation: Any = None,
    gain: Gain = 1.0,
) -> Model:
    """A convolutional CRNN, of Table 4 and beyond: convolutions, pools, residual blocks, dense.

    Args:
        conv: read by `specs.parse_conv`. Its layers are conv1, conv2, ..., and res1_a, res1_b, ...
        hidden: neurons of each hidden dense layer: fc1, fc2, ...
        image_shape: (height, width, channels); any shape where there is no convolution.
        num_classes: size of the output.
        conv_activation: σ of convolution layers.
        dense_activation: σ of dense layers.
        output: "readout" outside of Φ (cross entropy), or "neurons": an output layer (squared
            error).
        output_activation: σ of an output layer; None: as of dense layers.
        gain: scale of the initial weights, or one for each by the name of its edge or "readout",
            and "default" for the others.

    Raises:
        ValueError: the specification cannot be read, or a map becomes smaller than 1x1.
    """
    draft = _Draft((Input(INPUT, tuple(image_shape)),), gain)
    for name, spec in named_specs(conv):
        if spec.residual:
            _residual_block(draft, name.removesuffix("_b"), spec, conv_activation)
        else:
            options = spec.features, spec.kernel_size, spec.stride, spec.padding, spec.pool
            draft.layer(name, _fitting(name, draft.top[1], *options), conv_activation)
    for number, features in enumerate(hidden, start=1):
        draft.layer(f"fc{number}", Dense(draft.top[1], features), dense_activation)
    return draft.model(num_classes, output, output_activation or dense_activation)


def _image(shape: Shape) -> tuple[int, int, int]:
    if len(shape) != 3:
        raise ValueError(f"a convolution needs (height, width, channels), not {shape}")
    return shape[0], shape[1], shape[2]


def _fitting(name: str, shape: Shape, *options: Any) -> Conv:
    """The convolution of these options on a map of `shape`; a refusal names the layer."""
    try:
        return Conv(_image(shape), *options)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _residual_block(draft: _Draft, name: str, spec: ConvSpec, activation: Any) -> None:
    """in -> a, a -> b and the skip in -> b, which has no weight where the shapes are equal."""
    below, shape = draft.top
    first = _fitting(f"{name}_a", shape, spec.features, 3, 1, 1)
    draft.layer(f"{name}_a", first, activation)
    second = _fitting(f"{name}_b", first.out_shape, spec.features, 3, spec.stride, 1)
    draft.layer(f"{name}_b", second, activation)
    skip: Coupling = Identity(shape)
    if second.out_shape != shape:
        # The bias of b is in the other edge.
        skip = Conv(_image(shape), spec.features, 1, spec.stride, 0, use_bias=False)
    draft.edge(below, f"{name}_b", skip, f"{name}_skip")


def resnet(
    channels: Sequence[int],
    image_shape: tuple[int, int, int],
    num_classes: int,
    *,
    activation: Any = relu6,
    output: str = "neurons",
    output_activation: Any = linear,
    gain: Gain = 1.0,
) -> Model:
    """A residual net; with channels (128, 256, 512, 512) Hopfield-ResNet13.

    Elayedam & Srinivasan 2025. Block k has layers resk_a and resk_b and edges resk_a (3x3), resk_b
    (3x3, stride 2) and resk_skip (1x1, stride 2).

    Args:
        channels: of each block.
        image_shape: (height, width, channels).
        num_classes: size of the output.
        activation: σ of the blocks.
        output: as for `vgg`.
        output_activation: σ of an output layer.
        gain: as for `vgg`.
    """
    spec = " ".join(f"R{features}" for features in channels)
    return vgg(
        spec,
        (),
        image_shape,
        num_classes,
        conv_activation=activation,
        output=output,
        output_activation=output_activation,
        gain=gain,
    )


def mlp(
    hidden: Sequence[int],
    input_shape: Shape,
    num_classes: int,
    *,
    activation: Any = hard_sigmoid,
    output: str = "neurons",
    output_activation: Any = None,
    gain: Gain = 1.0,
) -> Model:
    """A chain of dense layers, fc1, fc2 and so on, from an input of any shape.

    Args:
        hidden: neurons of each.
        input_shape: without the batch.
        num_classes: size of the output.
        activation: σ of the layers.
        output: as for `vgg`.
        output_activation: σ of an output layer; None: as of the others.
        gain: as for `vgg`.
    """
    return vgg(
        "",
        hidden,
        input_shape,
        num_classes,
        dense_activation=activation,
        output=output,
        output_activation=output_activation,
        gain=gain,
    )


def hopfield(
    hidden: Sequence[int],
    input_shape: Shape,
    num_classes: int,
    *,
    activation: Any = hard_sigmoid,
    output: str = "neurons",
    output_activation: Any = None,
    gain: Gain = 1.0,
    skips: float = 1.0,
    seed: int = 0,
) -> Model:
    """A layered Hopfield net: every layer and the input joined with every other, all to all.

    As `mlp`, with an edge LOWER_UPPER for each pair that is not joined in the chain. There only a
    random share `skips` of the pairs of units is connected, see `Sparse` (Gammell et al. 2021).

    Args:
        hidden, input_shape, num_classes, activation, output, output_activation, gain: as of `mlp`.
        skips: share of the pairs of units that are connected, over 0 and at most 1.
        seed: of which ones are.
    """
    sizes = [*hidden, num_classes]
    if not checks.is_number(skips) or not 0 < skips <= 1:
        raise ValueError(f"skips = {skips!r}: must be a number over 0 and at most 1")

    def link(lower: int, upper: int, shape: Shape) -> Coupling:
        if lower == upper - 1 or skips == 1:
            return Dense(shape, sizes[upper - 1], use_bias=lower == upper - 1)
        return Sparse(shape, sizes[upper - 1], False, skips, (seed, lower, upper))

    options: dict[str, Any] = {"output": output, "output_activation": output_activation}
    options |= {"activation": activation, "gain": gain}
    return joined(hidden, input_shape, num_classes, link, **options)


def joined(
    hidden: Sequence[int],
    input_shape: Shape,
    num_classes: int,
    link: Callable[[int, int, Shape], Coupling],
    *,
    gain: Gain,
    **options: Any,
) -> Model:
    """The layers of `mlp`, each joined with every other: LAYER from the one below, or LOWER_UPPER.

    Args:
        hidden: neurons of each.
        input_shape: without the batch.
        num_classes: size of the output.
        link: (number of the lower layer, of the upper, shape of the lower) -> what joins the two;
            the input is number 0.
        gain: as for `vgg`.
        options: of `mlp`.
    """
    chain = mlp(hidden, input_shape, num_classes, **options)
    draft = _Draft(chain.network.inputs, gain, list(chain.network.layers))
    parts = [(part.name, part.shape) for part in (*chain.network.inputs, *chain.network.layers)]
    for place, (upper, _) in enumerate(parts):
        for below in reversed(range(place)):
            lower, shape = parts[below]
            name = upper if below == place - 1 else f"{lower}_{upper}"
            draft.edge(lower, upper, link(below, place, shape), name)
    head = chain.heads[0]
    return draft.with_head(dataclasses.replace(head, gain=draft.gain_of(head.name)))
