"""The systems of the literature by the name of `config.system`: each a network and its energy.

A new one is a line of `SYSTEMS`; what the settings say of its network is built here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from jaxep.core.energy import Energy
from jaxep.energies import (
    EnergyTransformer,
    feedback,
    predictive_coding,
    sequence,
    untied,
    vector_field,
)
from jaxep.nets.builders import ACTIVATIONS, hopfield, vgg
from jaxep.nets.heads import readout
from jaxep.nets.model import Model
from jaxep.nets.specs import parse_conv
from jaxep.nets.weights import gain_of
from jaxep.training.rules import refuse

if TYPE_CHECKING:
    from jaxep.training.settings import Settings

ImageShape = tuple[int, int, int]
OUTPUTS = {"cross_entropy": "readout", "squared_error": "neurons"}


class System(NamedTuple):
    """How settings become a network and its energy.

    Attributes:
        build: (settings, image shape, classes, gain) -> the network with the head of its output;
            `gain` is a number, or a mapping of such by the names of weights.
        energy: (settings, model) -> what solvers and estimators take.
        starts_settled: its initial states are the free equilibrium, so that `t_free` may be 0.
    """

    build: Callable[[Settings, ImageShape, int, Any], Model]
    energy: Callable[[Settings, Model], Any]
    starts_settled: bool = False


def graph(settings: Settings, image_shape: ImageShape, num_classes: int, gain: Any) -> Model:
    """The network of `conv`, `hidden` and `wiring`.

    Raises:
        SettingsError: it cannot be built.
    """
    outside = settings.output_activation
    options: dict[str, Any] = {
        "output": OUTPUTS[settings.output_loss],
        "output_activation": ACTIVATIONS[outside] if outside else None,
        "gain": gain,
    }
    dense = ACTIVATIONS[settings.dense_activation]
    if settings.wiring == "all":
        if not settings.hidden:
            raise refuse("hidden", settings.hidden, "a network needs a hidden layer")
        skips = {"skips": settings.skips, "seed": settings.seed}
        options |= {"activation": dense, **skips}
        return hopfield(settings.hidden, image_shape, num_classes, **options)
    if not parse_conv(settings.conv) and not settings.hidden:
        raise refuse("conv", settings.conv, "a network needs a convolution or a hidden layer")
    with refused_conv(settings, image_shape):
        return vgg(
            settings.conv,
            settings.hidden,
            image_shape,
            num_classes,
            conv_activation=ACTIVATIONS[settings.conv_activation],
            dense_activation=dense,
            **options,
        )


def rows_retrieved(
    settings: Settings, image_shape: ImageShape, num_classes: int, gain: Any
) -> Model:
    """The projection layer over the rows of the images, and the dense layers of `hidden`.

    Raises:
        SettingsError: the settings ask for other layers.
    """
    _check_tokens(settings)
    if not settings.hidden:
        raise refuse("hidden", settings.hidden, "a network needs a hidden layer")
    outside = settings.output_activation
    return sequence(
        settings.hidden,
        image_shape,
        num_classes,
        scale=settings.retrieval or None,
        places=settings.places,
        activation=ACTIVATIONS[settings.dense_activation],
        output=OUTPUTS[settings.output_loss],
        output_activation=ACTIVATIONS[outside] if outside else None,
        gain=gain,
    )


def transformer(settings: Settings, image_shape: ImageShape, num_classes: int, gain: Any) -> Model:
    """The energy transformer of `dim`, `heads` and `memories` over the rows of the images.

    Raises:
        SettingsError: the settings ask for other layers, or the heads do not divide `dim`.
    """
    _check_tokens(settings)
    if settings.hidden:
        allowed = f"must be () with system {settings.system}"
        raise refuse("hidden", settings.hidden, allowed)
    if settings.output_loss != "cross_entropy":
        allowed = f"must be cross_entropy with system {settings.system}"
        raise refuse("output_loss", settings.output_loss, allowed)
    if settings.heads and settings.dim % settings.heads:
        raise refuse("heads", settings.heads, f"must divide dim = {settings.dim}, or be 0")
    named = isinstance(gain, dict)
    network = EnergyTransformer(
        image_shape[0],
        image_shape[1] * image_shape[2],
        settings.dim,
        settings.heads,
        settings.dim // max(settings.heads, 1),
        settings.memories,
        settings.retrieval or None,
        {name: each for name, each in gain.items() if name != "readout"} if named else gain,
    )
    (layer,) = network.layer_names
    head = readout(layer, network.shapes[layer], num_classes, gain_of(gain, "readout"))
    return Model(network, (head,))


def _check_tokens(settings: Settings) -> None:
    if parse_conv(settings.conv):
        allowed = f"must be empty with system {settings.system}, whose tokens are rows of images"
        raise refuse("conv", settings.conv, allowed)
    if settings.wiring != "chain":
        raise refuse("wiring", settings.wiring, f"must be chain with system {settings.system}")


@contextlib.contextmanager
def refused_conv(settings: Settings, image_shape: ImageShape | None = None) -> Iterator[None]:
    """What a builder cannot build is a refusal of `conv`."""
    try:
        yield
    except ValueError as error:
        images = f"; the images are {image_shape[0]}x{image_shape[1]}" if image_shape else ""
        raise refuse("conv", settings.conv, f"{error}{images}") from error


def graph_energy(settings: Settings, model: Model) -> Energy:
    """E of the network's own Φ and σ."""
    return model.energy(settings.init_states)


def weak_feedback(settings: Settings, model: Model) -> Energy:
    """The energy whose feedback is weaker by the factor `feedback`.

    Raises:
        SettingsError: its power over the layers is beyond float32.
    """
    try:
        return feedback(model, settings.feedback, settings.init_states)
    except ValueError as error:
        raise refuse("feedback", settings.feedback, str(error)) from error


SYSTEMS: dict[str, System] = {
    "hopfield": System(graph, graph_energy),
    "predictive_coding": System(
        graph, lambda settings, model: predictive_coding(model), starts_settled=True
    ),
    "vector_field": System(
        lambda *of: untied(graph(*of)),
        lambda settings, model: vector_field(model, settings.alignment, settings.init_states),
    ),
    "feedback": System(graph, weak_feedback),
    "sequence": System(rows_retrieved, graph_energy),
    "energy_transformer": System(transformer, graph_energy),
}
