"""Settings of a run: every key with its type, its rule and its default, checked when they are made.

Every refusal is one line that names the key, its value and what is allowed.
"""

import dataclasses
import typing
from collections.abc import Mapping
from typing import Annotated, Any

from ml_collections import ConfigDict

from jaxep.configs import base, load
from jaxep.core.stencils import STENCILS
from jaxep.nets.builders import ACTIVATIONS
from jaxep.run.errors import DataError, SettingsError, did_you_mean
from jaxep.training.networks import check_network
from jaxep.training.rules import (
    ANY,
    KINDS,
    NAME,
    NEURONS,
    NOT_NEGATIVE,
    POSITIVE,
    SEED,
    UNDER_ONE,
    UNDER_TWO,
    UP_TO_ONE,
    Layers,
    PerWeight,
    Rule,
    at_least,
    each,
    one_of,
    refuse,
    short,
    shown,
)
from jaxep.training.sources import spec_of
from jaxep.training.systems import SYSTEMS

BASE = base.get_config()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What configs/base.py explains key by key, and gives the defaults of.

    Lists serve as tuples, integers as floats, and numbers of numpy as Python's.

    Raises:
        SettingsError: a value of a wrong type, or not allowed, or values that do not fit each
            other: the network is built to see that.
    """

    name: Annotated[str, NAME] = BASE.name
    task: Annotated[str, one_of("ep", "teacher", "blocks")] = BASE.task
    seed: Annotated[int, SEED] = BASE.seed
    dataset: str = BASE.dataset
    data_dir: str = BASE.data_dir
    train_size: Annotated[int, at_least(0)] = BASE.train_size
    test_size: Annotated[int, at_least(0)] = BASE.test_size
    split: Annotated[str, one_of("test", "validation")] = BASE.split
    std_scale: Annotated[float, POSITIVE] = BASE.std_scale
    augment: bool = BASE.augment
    conv: str = BASE.conv
    hidden: Annotated[tuple[int, ...], NEURONS] = BASE.hidden
    blocks: Annotated[int, at_least(1)] = BASE.blocks
    wiring: Annotated[str, one_of("chain", "all")] = BASE.wiring
    skips: Annotated[float, UP_TO_ONE] = BASE.skips
    conv_activation: Annotated[str, one_of(*ACTIVATIONS)] = BASE.conv_activation
    dense_activation: Annotated[str, one_of(*ACTIVATIONS)] = BASE.dense_activation
    output_activation: Annotated[str, one_of("", *ACTIVATIONS)] = BASE.output_activation
    gain: Annotated[PerWeight, each(POSITIVE)] = BASE.gain
    system: Annotated[str, one_of(*SYSTEMS)] = BASE.system
    feedback: Annotated[float, UP_TO_ONE] = BASE.feedback
    retrieval: Annotated[float, NOT_NEGATIVE] = BASE.retrieval
    places: Annotated[float, NOT_NEGATIVE] = BASE.places
    dim: Annotated[int, at_least(1)] = BASE.dim
    heads: Annotated[int, at_least(0)] = BASE.heads
    memories: Annotated[int, at_least(0)] = BASE.memories
    alignment: Annotated[float, NOT_NEGATIVE] = BASE.alignment
    output_loss: Annotated[str, one_of("cross_entropy", "squared_error")] = BASE.output_loss
    init_states: Annotated[str, one_of("zeros", "uniform")] = BASE.init_states
    signal: Annotated[str, one_of("none", "le", "kd", "kdw")] = BASE.signal
    signal_layers: Layers = BASE.signal_layers
    kappa: Annotated[float, NOT_NEGATIVE] = BASE.kappa
    kappa_schedule: Annotated[str, one_of("constant", "linear", "exponential", "cosine")] = (
        BASE.kappa_schedule
    )
    kappa_min: Annotated[float, NOT_NEGATIVE] = BASE.kappa_min
    kappa_gamma: Annotated[float, NOT_NEGATIVE] = BASE.kappa_gamma
    tau: Annotated[float, POSITIVE] = BASE.tau
    learn_readout: bool = BASE.learn_readout
    soften_labels: bool = BASE.soften_labels
    softmax_axis: Annotated[str, one_of("all", "channel")] = BASE.softmax_axis
    estimator: Annotated[str, one_of("ep", "continual", "bptt", "implicit", "backprop")] = (
        BASE.estimator
    )
    ep_variant: Annotated[str, one_of(*STENCILS, "holomorphic")] = BASE.ep_variant
    points: Annotated[int, at_least(2)] = BASE.points
    field_correction: bool = BASE.field_correction
    beta: Annotated[float, POSITIVE] = BASE.beta
    t_free: Annotated[int, at_least(0)] = BASE.t_free
    t_nudge: Annotated[int, at_least(1)] = BASE.t_nudge
    continual_rate: Annotated[float, POSITIVE] = BASE.continual_rate
    bptt_steps: Annotated[int, at_least(0)] = BASE.bptt_steps
    solver: Annotated[
        str, one_of("fixed", "tolerance", "fixed_point", "anderson", "event_driven")
    ] = BASE.solver
    event_step: Annotated[float, POSITIVE] = BASE.event_step
    tol_free: Annotated[float, POSITIVE] = BASE.tol_free
    tol_nudge: Annotated[float, POSITIVE] = BASE.tol_nudge
    order: Annotated[str, one_of("synchronous", "alternating")] = BASE.order
    relaxation: Annotated[float, UNDER_TWO] = BASE.relaxation
    precision: Annotated[str, one_of("float32", "bfloat16")] = BASE.precision
    micro_batch: Annotated[int, at_least(0)] = BASE.micro_batch
    optimizer: Annotated[str, one_of("sgd", "adam", "adamw", "bop")] = BASE.optimizer
    flip_threshold: Annotated[float, POSITIVE] = BASE.flip_threshold
    flip_rate: Annotated[float, UP_TO_ONE] = BASE.flip_rate
    scale_rate: Annotated[float, NOT_NEGATIVE] = BASE.scale_rate
    learning_rates: Annotated[PerWeight, each(NOT_NEGATIVE)] = BASE.learning_rates
    momentum: Annotated[float, UNDER_ONE] = BASE.momentum
    nesterov: bool = BASE.nesterov
    weight_decay: Annotated[float, NOT_NEGATIVE] = BASE.weight_decay
    lr_schedule: Annotated[str, one_of("constant", "cosine")] = BASE.lr_schedule
    batch_size: Annotated[int, at_least(1)] = BASE.batch_size
    eval_batch_size: Annotated[int, at_least(1)] = BASE.eval_batch_size
    epochs: Annotated[int, at_least(1)] = BASE.epochs
    keep_checkpoints: Annotated[int, at_least(2)] = BASE.keep_checkpoints
    checkpoint_every: Annotated[int, at_least(0)] = BASE.checkpoint_every
    on_divergence: Annotated[str, one_of("stop", "skip")] = BASE.on_divergence
    teacher: str = BASE.teacher
    teacher_workdir: str = BASE.teacher_workdir
    train_teacher: bool = BASE.train_teacher

    def __post_init__(self) -> None:
        for key, (kind, rule) in _TABLE.items():
            given = getattr(self, key)
            value = KINDS[kind].convert(given)
            if value is None:
                raise refuse(key, given, f"must be {KINDS[kind].words}")
            if not rule.test(value):
                raise refuse(key, given, f"must be {rule.allowed}")
            object.__setattr__(self, key, value)
        if self.optimizer == "bop" and self.task != "ep":
            raise refuse("optimizer", self.optimizer, f"must be another with task {self.task}")
        # The images of a file or of the caller of `fit` are not known yet: the network is built
        # once they are.
        check_network(self, *_shapes(self.dataset))
        if self.task != "teacher":
            _check_estimator(self)


def _table() -> dict[str, tuple[Any, Rule]]:
    """The kind and the rule of each key."""
    table = {}
    for key, hint in typing.get_type_hints(Settings, include_extras=True).items():
        rules = getattr(hint, "__metadata__", (ANY,))
        table[key] = (hint.__origin__ if rules[0] is not ANY else hint, rules[0])
    return table


_TABLE = _table()


def _shapes(dataset: str) -> tuple[tuple[int, int, int] | None, int | None]:
    """(image shape, classes) of a data set, as far as its name tells."""
    if not dataset:
        return None, None
    try:
        spec = spec_of(dataset)
    except DataError as error:
        raise SettingsError(short(str(error))) from error
    return spec.image_shape, spec.classes


def _check_estimator(settings: Settings) -> None:
    settled = [name for name, system in SYSTEMS.items() if system.starts_settled]
    if settings.system not in settled:
        if not settings.t_free:
            allowed = f"must be at least 1 where system is not {' or '.join(settled)}"
            raise refuse("t_free", settings.t_free, allowed)
        if settings.estimator == "backprop":
            allowed = f"needs the system {' or '.join(settled)}, which starts at its equilibrium"
            raise refuse("estimator", settings.estimator, allowed)
    if settings.estimator == "bptt" and not settings.t_free:
        raise refuse("t_free", settings.t_free, "must be at least 1 with estimator bptt")
    if settings.bptt_steps > settings.t_free:
        raise refuse(
            "bptt_steps", settings.bptt_steps, f"must be at most t_free = {settings.t_free}"
        )
    if settings.solver == "event_driven" and settings.estimator != "ep":
        allowed = f"must be another with estimator {settings.estimator}"
        raise refuse("solver", settings.solver, allowed)
    if settings.estimator == "continual":
        _check_continual(settings)
    if settings.precision != "float32" and settings.estimator != "ep":
        allowed = f"must be float32 with estimator {settings.estimator}"
        raise refuse("precision", settings.precision, allowed)
    if settings.system != "feedback" and settings.feedback != 1:
        raise refuse("feedback", settings.feedback, "must be 1 where system is not feedback")
    if settings.system != "vector_field" and settings.alignment:
        raise refuse("alignment", settings.alignment, "must be 0 where system is not vector_field")
    if not (settings.field_correction or settings.system == "vector_field"):
        allowed = "must be True where system is not vector_field"
        raise refuse("field_correction", settings.field_correction, allowed)
    if not settings.field_correction and settings.estimator != "ep":
        allowed = f"must be True with estimator {settings.estimator}"
        raise refuse("field_correction", settings.field_correction, allowed)
    if settings.signal in ("kd", "kdw") and not settings.teacher:
        allowed = f"signal {settings.signal} needs the config file of a teacher"
        raise refuse("teacher", settings.teacher, allowed)


def _check_continual(settings: Settings) -> None:
    if settings.ep_variant not in ("one_sided", "random_sign"):
        allowed = "must be one_sided or random_sign with estimator continual"
        raise refuse("ep_variant", settings.ep_variant, allowed)
    if settings.micro_batch:
        allowed = "must be 0 with estimator continual, whose weights move with the whole batch"
        raise refuse("micro_batch", settings.micro_batch, allowed)


def from_config(config: ConfigDict | Mapping[str, Any]) -> Settings:
    """The settings of a configuration that is whole.

    Raises:
        SettingsError: an unknown or missing key, or what `Settings` refuses.
    """
    given = config.to_dict() if isinstance(config, ConfigDict) else dict(config)
    for key, value in given.items():
        if key not in _TABLE:
            name = short(key) if isinstance(key, str) else shown(key)
            raise refuse(name, value, f"there is no such key{did_you_mean(name, _TABLE)}")
    for key, (kind, _) in _TABLE.items():
        if key not in given:
            raise SettingsError(f"config.{key} is missing: it must be {KINDS[kind].words}")
    return Settings(**given)


def to_dict(settings: Settings) -> dict[str, Any]:
    """All keys as JSON values (tuples as lists)."""
    values = dataclasses.asdict(settings)
    return {key: list(v) if isinstance(v, tuple) else v for key, v in values.items()}


def load_config_file(path: str) -> ConfigDict:
    """The configuration in a file, or of an experiment by its name: "digits_le".

    Args:
        path: as `jaxep.configs.load` finds it.

    Raises:
        SettingsError: there is no such file, it cannot be run, or it gives no ConfigDict.
    """
    try:
        return load(path)
    except ValueError as error:
        raise SettingsError(str(error)) from error


def as_settings(given: Settings | ConfigDict | Mapping[str, Any]) -> Settings:
    """The settings that a caller of `fit` gives, in any of the forms that a config has.

    Raises:
        SettingsError: as `from_config`, or it is neither.
    """
    if isinstance(given, Settings):
        return given
    if isinstance(given, ConfigDict | Mapping):
        return from_config(given)
    raise SettingsError(f"settings: must be Settings or a config, not a {type(given).__name__}")
