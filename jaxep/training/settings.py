"""Settings of a run: a ConfigDict becomes one frozen dataclass, checked once.

Every refusal is one line that names the key, its value and what is allowed.
"""

import dataclasses
import difflib
import importlib.util
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxep.nets.graph import ConvSpec, parse_conv
from jaxep.run.errors import SettingsError, reason
from jaxep.training.rules import ANY, IMAGE_SHAPES, RULES


@dataclasses.dataclass(frozen=True)
class Settings:
    """What configs/base.py explains key by key."""

    name: str
    task: str
    seed: int
    dataset: str
    data_dir: str
    train_size: int
    test_size: int
    split: str
    std_scale: float
    augment: bool
    conv: str
    hidden: tuple[int, ...]
    conv_activation: str
    gain: float
    output_loss: str
    init_states: str
    signal: str
    signal_layers: tuple[int, ...]
    kappa: float
    kappa_schedule: str
    kappa_min: float
    kappa_gamma: float
    tau: float
    learn_readout: bool
    soften_labels: bool
    softmax_axis: str
    estimator: str
    ep_variant: str
    beta: float
    t_free: int
    t_nudge: int
    bptt_steps: int
    solver: str
    tol_free: float
    tol_nudge: float
    order: str
    relaxation: float
    precision: str
    micro_batch: int
    learning_rates: tuple[float, ...]
    momentum: float
    weight_decay: float
    lr_schedule: str
    batch_size: int
    eval_batch_size: int
    epochs: int
    keep_checkpoints: int
    checkpoint_every: int
    on_divergence: str
    teacher: str
    teacher_workdir: str
    train_teacher: bool


# Computations are in float32: what is beyond it would be an infinity there.
LARGEST_FLOAT = (2 - 2**-23) * 2.0**127
# Kernels and biases of one network; more cannot be indexed by an int32, nor held by a device.
LARGEST_NETWORK = 2**31 - 1
_TYPE_NAMES = {
    str: "a text of printable characters",
    int: "an integer",
    bool: "True or False",
    float: "a finite number in float32",
    tuple[int, ...]: "a tuple of integers",
    tuple[float, ...]: "a tuple of finite numbers in float32",
}


def refuse(key: str, value: Any, allowed: str) -> SettingsError:
    """The error of one bad value, in one line."""
    return SettingsError(f"config.{key} = {_shown(value)}: {_short(allowed)}")


def _shown(value: Any) -> str:
    try:
        return _short(repr(value))
    except ValueError:  # Python writes no integer of more than 4300 digits
        return f"a very large {type(value).__name__}"


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 300 else f"{text[:297]}..."


def from_config(config: ConfigDict | Mapping[str, Any]) -> Settings:
    """Checks a configuration whole.

    Raises:
        SettingsError: an unknown or missing key, a wrong type, a value that is not allowed, or
            values that do not fit each other.
    """
    given = config.to_dict() if isinstance(config, ConfigDict) else dict(config)
    types: dict[str, Any] = {field.name: field.type for field in dataclasses.fields(Settings)}
    for key, value in given.items():
        if key not in types:
            name = _short(key) if isinstance(key, str) else _shown(key)
            near = difflib.get_close_matches(name, types, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise refuse(name, value, f"there is no such key{hint}")
    values = {}
    for key, kind in types.items():
        if key not in given:
            raise SettingsError(f"config.{key} is missing: it must be {_TYPE_NAMES[kind]}")
        values[key] = _typed(key, given[key], kind)
        rule = RULES.get(key, ANY)
        if not rule.test(values[key]):
            raise refuse(key, given[key], f"must be {rule.allowed}")
    settings = Settings(**values)
    _check_network(settings)
    if settings.task == "ep":
        _check_signal(settings)
        if settings.bptt_steps > settings.t_free:
            allowed = f"must be at most t_free = {settings.t_free}"
            raise refuse("bptt_steps", settings.bptt_steps, allowed)
        if settings.precision != "float32" and settings.estimator != "ep":
            allowed = f"must be float32 with estimator {settings.estimator}"
            raise refuse("precision", settings.precision, allowed)
    return settings


def _typed(key: str, value: Any, kind: Any) -> Any:
    """`value` as `kind`: an int serves as a float, a list as a tuple; a bool is no number."""
    if kind in (tuple[int, ...], tuple[float, ...]):
        element = int if kind == tuple[int, ...] else float
        if isinstance(value, (list, tuple)):
            items = [_number(item, element) for item in value]
            if None not in items:
                return tuple(items)
    elif kind in (int, float):
        number = _number(value, kind)
        if number is not None:
            return number
    elif isinstance(value, kind) and (kind is not str or value.isprintable()):
        return value
    raise refuse(key, value, f"must be {_TYPE_NAMES[kind]}")


def _number(value: Any, kind: type) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if kind is int:
        return value if isinstance(value, int) else None
    try:
        return float(value) if abs(value) <= LARGEST_FLOAT else None
    except OverflowError:  # an integer beyond the range of float64
        return None


def _check_network(settings: Settings) -> None:
    """The convolutions fit the image and each weighted layer has its learning rate."""
    try:
        convs = parse_conv(settings.conv)
    except ValueError as error:
        raise refuse("conv", settings.conv, str(error)) from error
    image = size = IMAGE_SHAPES[settings.dataset][0]  # all images are square
    for number, conv in enumerate(convs, start=1):
        before, size = size, size - 2 + 2 * conv.padding
        words, why = "leaves", "each without padding takes 2 from height and width"
        if size >= 1 and conv.pool:
            size //= 2
            words, why = "and its pool leave", f"{int(math.log2(image))} pools at most"
        if size < 1:
            raise refuse(
                "conv",
                settings.conv,
                f"convolution {number} {words} nothing of a {before}x{before} map; images of "
                f"{settings.dataset} are {image}x{image}: {why}",
            )
    _check_size(settings, convs, size)
    layers = 1 if settings.task == "teacher" else len(convs) + len(settings.hidden) + 1
    if len(settings.learning_rates) != layers:
        reason = "a teacher has one" if settings.task == "teacher" else "one per weighted layer"
        allowed = f"must be {layers} numbers ({reason}), not {len(settings.learning_rates)}"
        raise refuse("learning_rates", settings.learning_rates, allowed)
    if layers == 1 and settings.task == "ep":
        raise refuse("conv", settings.conv, "a network needs a convolution or a hidden layer")


def _check_size(settings: Settings, convs: tuple[ConvSpec, ...], size: int) -> None:
    """The network has not more parameters than can be; `size`: of the last convolution's map."""
    inputs, parameters = IMAGE_SHAPES[settings.dataset][2], 0
    for conv in convs:
        parameters += (9 * inputs + 1) * conv.features
        inputs = conv.features
    inputs *= size**2
    for neurons in settings.hidden:
        parameters += (inputs + 1) * neurons
        inputs = neurons
    if parameters > LARGEST_NETWORK:
        key = "hidden" if settings.hidden else "conv"
        allowed = f"too large, at most {LARGEST_NETWORK} parameters in all"
        raise refuse(key, getattr(settings, key), allowed)


def _check_signal(settings: Settings) -> None:
    """Υ names neuron layers that exist and that the signal can use; KD has a teacher."""
    convs, upsilon = parse_conv(settings.conv), settings.signal_layers
    neurons = len(convs) + len(settings.hidden)
    if settings.signal == "none":
        if upsilon:
            raise refuse("signal_layers", upsilon, "must be () where signal is none")
        return
    if not upsilon or len(set(upsilon)) != len(upsilon) or not set(upsilon) <= set(range(neurons)):
        allowed = f"must be different neuron layers out of 0, ..., {neurons - 1}, at least one"
        raise refuse("signal_layers", upsilon, allowed)
    if settings.signal == "le":
        return
    pooled = [layer for layer, conv in enumerate(convs) if conv.pool]
    if not set(upsilon) <= set(pooled):
        allowed = f"must be out of {pooled}: {settings.signal} compares layers that end in a pool"
        raise refuse("signal_layers", upsilon, allowed)
    if not settings.teacher:
        allowed = f"signal {settings.signal} needs the config file of a teacher"
        raise refuse("teacher", settings.teacher, allowed)


def to_dict(settings: Settings) -> dict[str, Any]:
    """All keys as JSON values (tuples as lists)."""
    values = dataclasses.asdict(settings)
    return {key: list(v) if isinstance(v, tuple) else v for key, v in values.items()}


def load_config_file(path: str) -> ConfigDict:
    """What `get_config()` of the Python file `path` returns.

    Args:
        path: absolute, or relative to the current directory or else to the project's root, where
            configs/ lies: a config that names its teacher serves from any directory.

    Raises:
        SettingsError: there is no such file, it cannot be run, or it gives no ConfigDict.
    """
    places = (Path(path), Path(__file__).parent.parent.parent / path)
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        raise refuse("teacher", path, "there is no such file")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise refuse("teacher", path, "must be a Python file")
    try:
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        config = module.get_config()
    except Exception as error:  # the file is the user's: whatever it raises is about that file
        raise refuse("teacher", path, f"{type(error).__name__}: {reason(error)}") from error
    if not isinstance(config, ConfigDict):
        raise refuse("teacher", path, "its get_config() must return a ConfigDict")
    return config
