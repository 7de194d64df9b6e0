"""The systems of the literature by the name of `config.system`: each a network and its energy.

A new one is a line of `SYSTEMS`; what the settings say of its network is built here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from jaxep.energies import predictive_coding
from jaxep.nets.builders import ACTIVATIONS, hopfield, vgg
from jaxep.nets.model import Model
from jaxep.nets.specs import parse_conv
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
        return hopfield(settings.hidden, image_shape, num_classes, activation=dense, **options)
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


@contextlib.contextmanager
def refused_conv(settings: Settings, image_shape: ImageShape | None = None) -> Iterator[None]:
    """What a builder cannot build is a refusal of `conv`."""
    try:
        yield
    except ValueError as error:
        images = f"; the images are {image_shape[0]}x{image_shape[1]}" if image_shape else ""
        raise refuse("conv", settings.conv, f"{error}{images}") from error


SYSTEMS: dict[str, System] = {
    "hopfield": System(graph, lambda settings, model: model.energy(settings.init_states)),
    "predictive_coding": System(
        graph, lambda settings, model: predictive_coding(model), starts_settled=True
    ),
}
