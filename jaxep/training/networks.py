"""The network that the settings describe, and whether they fit it: it is built to see that."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from jaxep.core import holomorphic
from jaxep.core.energy import Energy, initial_states
from jaxep.core.objective import free_objective
from jaxep.nets import heads
from jaxep.nets.builders import vgg
from jaxep.nets.cut import cut
from jaxep.nets.graph import Network
from jaxep.nets.model import Model
from jaxep.nets.specs import parse_conv
from jaxep.nets.teachers import layers_of_blocks, parse_teacher
from jaxep.training.rules import PerWeight, numbers, refuse
from jaxep.training.systems import SYSTEMS, ImageShape, refused_conv

if TYPE_CHECKING:
    from jaxep.training.settings import Settings

Shape = tuple[int, ...]
# Kernels and biases of one network; more cannot be indexed by an int32, nor held by a device.
LARGEST_NETWORK = 2**31 - 1
# In a value by the names of weights: of all that are not named.
DEFAULT = "default"
WITH_BLOCKS: dict[str, tuple[Any, ...]] = {
    "signal": ("none",),
    "estimator": ("ep", "implicit"),
    "precision": ("float32",),
    "micro_batch": (0,),
}


def build_model(
    settings: Settings,
    image_shape: ImageShape,
    num_classes: int,
    teacher_shapes: tuple[Shape, ...] = (),
) -> Model:
    """The network of the settings, with the head of its output and those of its signal.

    Args:
        settings: of task "ep".
        image_shape: (height, width, channels).
        num_classes: size of the output.
        teacher_shapes: of the teacher's block for each layer of Υ, for KDW.

    Raises:
        SettingsError: the network cannot be built.
    """
    model = build_network(settings, image_shape, num_classes)
    if settings.signal == "none":
        return model
    layers = signal_layers(settings, model)
    tau, axis = settings.tau, settings.softmax_axis
    if settings.signal == "kd":
        return model.with_heads(*heads.distillation(layers, tau, axis))
    # A map starts with the gain of the layer that it reads.
    gains = model.network.gains
    signal: list[heads.Head] = []
    for number, layer in enumerate(layers):
        network, gain = model.network, gains[layer]
        if settings.signal == "le":
            learned, soften = settings.learn_readout, settings.soften_labels
            signal += heads.local_errors(
                network, (layer,), num_classes, tau, learned=learned, soften=soften, gain=gain
            )
        else:
            shapes = (teacher_shapes[number],)
            signal += heads.weighted_distillation(network, (layer,), shapes, tau, axis, gain=gain)
    return model.with_heads(*signal)


def build_network(settings: Settings, image_shape: ImageShape, num_classes: int) -> Model:
    """The network of the settings with the head of its output alone; arguments as above."""
    if isinstance(settings.gain, float):
        return _built(settings, image_shape, num_classes, settings.gain)
    names = _built(settings, image_shape, num_classes, 1.0).weight_names
    return _built(settings, image_shape, num_classes, by_weight("gain", settings.gain, names))


def _built(settings: Settings, image_shape: ImageShape, num_classes: int, gain: Any) -> Model:
    return SYSTEMS[settings.system].build(settings, image_shape, num_classes, gain)


def by_weight(key: str, value: PerWeight, names: tuple[str, ...]) -> dict[str, float]:
    """The number of each weight by name, of a number for all, a tuple in their order, or by name.

    Raises:
        SettingsError: of `key`: another number of numbers, a name that no weight has, or weights
            without one.
    """
    known = ", ".join(names)
    if isinstance(value, dict):
        unknown = [name for name in value if name not in (*names, DEFAULT)]
        if unknown:
            raise refuse(key, value, f"there is no weight {unknown[0]}; there are {known}")
        missing = [name for name in names if name not in value and DEFAULT not in value]
        if missing:
            allowed = f"has none for {', '.join(missing)}: name them, or {DEFAULT} for all others"
            raise refuse(key, value, allowed)
        return {name: value[name] if name in value else value[DEFAULT] for name in names}
    if isinstance(value, tuple):
        if len(value) != len(names):
            allowed = f"must be {len(names)} numbers (one per weight: {known}), not {len(value)}"
            raise refuse(key, value, allowed)
        return dict(zip(names, value, strict=True))
    return dict.fromkeys(names, value)


def build_blocks(settings: Settings, model: Model) -> tuple[Model, ...]:
    """The EP blocks of task "blocks", from the input upwards; a head for each stands for its own.

    Args:
        settings: say how many.
        model: of `build_network`.

    Raises:
        SettingsError: the network cannot be cut so, or its system has no Φ.
    """
    if not isinstance(model.network, Network):
        raise refuse("system", settings.system, "must be one of layers and edges with task blocks")
    try:
        networks = cut(model.network, settings.blocks)
    except ValueError as error:
        raise refuse("blocks", settings.blocks, str(error)) from error
    blocks = tuple(Model(part, (heads.output(part.layer_names[-1]),)) for part in networks)
    if not isinstance(SYSTEMS[settings.system].energy(settings, blocks[0]), Energy):
        raise refuse("system", settings.system, "must be one with an energy with task blocks")
    return blocks


def signal_layers(settings: Settings, model: Model) -> tuple[str, ...]:
    """The names of the layers of Υ.

    Raises:
        SettingsError: one does not exist or cannot have the signal, or Υ is empty.
    """
    upsilon, output = settings.signal_layers, model.heads[0]
    names = [n for n in model.network.layer_names if output.map or n != output.layer]
    numbered = dict(enumerate(names))
    layers = tuple(numbered.get(i, "") if isinstance(i, int) else i for i in upsilon)
    if not layers or len(set(layers)) != len(layers) or not set(layers) <= set(names):
        allowed = (
            f"must be different neuron layers out of 0, ..., {len(names) - 1} (or by name: "
            f"{', '.join(names)}), at least one"
        )
        raise refuse("signal_layers", upsilon, allowed)
    smaller = layers_of_blocks(settings.conv)
    if settings.signal in ("kd", "kdw") and not set(layers) <= set(smaller):
        allowed = (
            f"must be out of {[names.index(name) for name in smaller]}: {settings.signal} compares "
            "layers that end in a pool or a stride"
        )
        raise refuse("signal_layers", upsilon, allowed)
    return layers


def check_network(
    settings: Settings, image_shape: ImageShape | None, num_classes: int | None
) -> None:
    """The network can be built, and the settings of its weights and layers fit it.

    Args:
        settings: of any task.
        image_shape: (height, width, channels); None where no data have been read yet: what depends
            on it is not looked at.
        num_classes: the same.

    Raises:
        SettingsError: it is not so.
    """
    if settings.task == "blocks":
        _check_whole_batch(settings)
    elif settings.blocks != 1:
        raise refuse("blocks", settings.blocks, "must be 1 where task is not blocks")
    if settings.task == "teacher":
        _check_teacher(settings, image_shape, num_classes)
        return
    with refused_conv(settings):
        specs = parse_conv(settings.conv)
    if specs and settings.wiring == "all":
        raise refuse("wiring", settings.wiring, "must be chain where conv is not empty")
    if settings.signal == "none" and settings.signal_layers:
        allowed = "must be () where signal is none"
        raise refuse("signal_layers", settings.signal_layers, allowed)
    if image_shape is None or num_classes is None:
        return
    plain = _built(settings, image_shape, num_classes, 1.0)
    _check_size(settings, plain)
    names = plain.weight_names
    by_weight("gain", settings.gain, names)
    by_weight("learning_rates", settings.learning_rates, names)
    if settings.signal != "none":
        signal_layers(settings, plain)
    if settings.task == "blocks":
        build_blocks(settings, plain)
    if (settings.estimator, settings.ep_variant) == ("ep", "holomorphic") and settings.points > 2:
        _check_holomorphic(settings, image_shape, plain)


def _check_holomorphic(settings: Settings, image_shape: ImageShape, model: Model) -> None:
    """The phases of the network may be nudged by a complex β: traced for one sample to see that."""
    for key, refused in (("precision", "bfloat16"), ("solver", "event_driven")):
        if getattr(settings, key) == refused:
            allowed = f"must be another with ep_variant {settings.ep_variant}"
            raise refuse(key, refused, allowed)
    energy = SYSTEMS[settings.system].energy(settings, model)

    def trial(key: jax.Array) -> None:
        params, x = model.init_params(key), jnp.zeros((1, *image_shape))
        states = initial_states(energy, key, params, x)
        targets = heads.Targets(jnp.zeros(1, jnp.int32))
        holomorphic.check(free_objective(energy, params, x), states, targets)

    try:
        jax.eval_shape(trial, jax.random.key(0))
    except ValueError as error:
        raise refuse("ep_variant", settings.ep_variant, str(error)) from error


def _check_whole_batch(settings: Settings) -> None:
    """Blocks are layers of a net that backpropagates, whose batch norm wants its batch whole."""
    for key, allowed in WITH_BLOCKS.items():
        if (value := getattr(settings, key)) not in allowed:
            told = " or ".join(str(one) for one in allowed)
            raise refuse(key, value, f"must be {told} with task blocks")


def _check_teacher(
    settings: Settings, image_shape: ImageShape | None, num_classes: int | None
) -> None:
    with refused_conv(settings):
        parse_teacher(settings.conv)
    rates = settings.learning_rates
    if isinstance(rates, dict) or len(numbers(rates)) != 1:
        allowed = f"must be 1 number (a teacher has one), not {len(numbers(rates))}"
        raise refuse("learning_rates", rates, allowed)
    if image_shape is not None and num_classes is not None:
        with refused_conv(settings, image_shape):  # by the builder of networks of the same shapes
            same = vgg(settings.conv, (*settings.hidden, num_classes), image_shape, num_classes)
        _check_size(settings, same)


def _check_size(settings: Settings, model: Model) -> None:
    """The network has not more parameters than can be."""
    size = max(math.prod(shape) for shape in model.network.shapes.values())
    if size <= LARGEST_NETWORK:
        shapes = jax.eval_shape(model.init_params, jax.random.key(0))
        size = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))
    if size > LARGEST_NETWORK:
        key = "hidden" if settings.hidden else "conv" if settings.conv else "dim"
        allowed = f"too large, at most {LARGEST_NETWORK} parameters in all"
        raise refuse(key, getattr(settings, key), allowed)
