"""Heads: what pulls the states, each a layer, a map, a loss against a target, and a weight.

The output is one (a readout, or output neurons), and so is every intermediate error signal of the
paper: LE, KD and KDW (eq. 7, 8, 13). L_Total is the sum over the heads (eq. 9).
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxep.core import checks
from jaxep.nets.couplings import Dense, Params
from jaxep.nets.graph import Network, Shape, States
from jaxep.nets.losses import cross_entropy, one_hot, soft_target, squared_error
from jaxep.nets.weights import typed_as


class Targets(NamedTuple):
    """What the nudge pulls towards.

    Attributes:
        labels: integers [batch].
        kappa: strength κ of the intermediate signals, a scalar.
        features: of a teacher, by the name of the head that compares with it, [batch, ...] each.
    """

    labels: jax.Array
    kappa: jax.Array | float = 0.0
    features: Mapping[str, jax.Array] = {}


def labels(targets: Targets) -> jax.Array:
    """Integers [batch]."""
    return targets.labels


def one(targets: Targets) -> float:
    """The weight of an output."""
    return 1.0


def kappa(targets: Targets) -> jax.Array | float:
    """The weight of an intermediate signal."""
    return targets.kappa


def _feature(name: str, targets: Targets) -> jax.Array:
    if name not in targets.features:
        raise ValueError(f"targets: no feature for the head {name}")
    return targets.features[name]


@dataclasses.dataclass(frozen=True)
class Head:
    """A pull on one layer: weight(targets) * loss(map(ξ_layer), target(targets)).

    Attributes:
        name: of its own in the model; that of its parameters.
        layer: whose states it reads.
        loss: (outputs, target) -> [batch].
        target: what the loss compares with, out of the `Targets`.
        map: from the layer's states to the outputs; None: the states themselves.
        learned: the map learns by eq. 15; else it stays as it was drawn.
        weight: of the loss, out of the `Targets`: `one`, or `kappa`.
        gain: the map's weights start as U(-gain/sqrt(fan_in), gain/sqrt(fan_in)).
    """

    name: str
    layer: str
    loss: Callable[[jax.Array, Any], jax.Array]
    target: Callable[[Targets], Any] = labels
    map: Dense | None = None
    learned: bool = True
    weight: Callable[[Targets], jax.Array | float] = kappa
    gain: float = 1.0

    def init(self, key: jax.Array, dtype=jnp.float32) -> Params:
        """Parameters of the map; {} without one."""
        return {} if self.map is None else self.map.init(key, self.gain, dtype)

    def outputs(self, params: Params, states: States) -> jax.Array:
        """map(ξ_layer), [batch, ...].

        Args:
            params: of this head.
            states: of all layers.
        """
        layer = states[self.layer]
        if self.map is None:
            return layer
        if not self.learned:
            params = jax.lax.stop_gradient(params)
        operators = self.map.prepare(params)
        return self.map.apply(operators, typed_as(operators, layer))

    def value(self, params: Params, states: States, targets: Targets) -> jax.Array:
        """The loss without its weight, [batch]."""
        return self.loss(self.outputs(params, states), self.target(targets))


def readout(layer: str, shape: Shape, classes: int, gain: float = 1.0) -> Head:
    """Logits W_out ξ + b_out outside of Φ, and their cross entropy (Laborieux et al. 2021).

    Args:
        layer: that it reads.
        shape: of that layer's states, without the batch.
        classes: number of logits.
        gain: of its initial weights.
    """
    return Head("readout", layer, cross_entropy, labels, Dense(shape, classes), True, one, gain)


def output(layer: str) -> Head:
    """The squared error of neurons that are the output."""
    return Head("output", layer, squared_error, labels, None, True, one)


def _soft_labels(logits: jax.Array, labels: jax.Array, *, tau: float, soften: bool) -> jax.Array:
    onehot = one_hot(labels, logits.shape[-1], logits.dtype)
    return soft_target(logits, jax.nn.softmax(onehot / tau) if soften else onehot, tau)


def local_errors(
    network: Network,
    layers: Sequence[str],
    classes: int,
    tau: float = 4.0,
    *,
    learned: bool = True,
    soften: bool = False,
    gain: float = 1.0,
) -> tuple[Head, ...]:
    """LE, eq. 7: a readout B_i of each layer in Υ is pulled towards the label.

    The loss is τ² CE(target, softmax(B_i ξ_i / τ)).

    Args:
        network: has the layers.
        layers: Υ, by name.
        classes: size of the readouts.
        tau: temperature τ.
        learned: B_i learn by eq. 15; else they stay as they were drawn.
        soften: the target is softmax(onehot / τ), the literal eq. 7, instead of the one-hot
            distribution. For 10 classes that target is almost uniform (0.125 against 0.097).
        gain: scale of the initial B_i.
    """
    checks.between("tau", tau, 0, math.inf)
    loss = functools.partial(_soft_labels, tau=tau, soften=soften)
    return tuple(
        Head(
            f"le_{layer}",
            layer,
            loss,
            labels,
            Dense(_shape(network, layer), classes, use_bias=False),
            learned,
            kappa,
            gain,
        )
        for layer in layers
    )


def _distil(
    student: jax.Array, teacher: jax.Array, *, name: str, shape: Shape | None, tau: float, axis: str
) -> jax.Array:
    """τ² CE(softmax(teacher / τ), softmax(student / τ)): [batch, ...] twice -> [batch].

    `shape` is that of the student as the teacher has it, without the batch; None: as it is.
    """
    if shape is not None:
        student = student.reshape(student.shape[0], *shape)
    if student.shape != jnp.shape(teacher):
        raise ValueError(
            f"targets: the feature for the head {name} is {list(jnp.shape(teacher))}, must be "
            f"{list(student.shape)}"
        )
    if axis == "all":
        student, teacher = (part.reshape(part.shape[0], -1) for part in (student, teacher))
    return soft_target(student, jax.nn.softmax(teacher / tau), tau)


def _distilled(
    name: str, layer: str, tau: float, axis: str, shape: Shape | None = None, **options: Any
) -> Head:
    """A head that compares `layer` with the feature of its own name."""
    checks.one_of("axis", axis, ("all", "channel"))
    checks.between("tau", tau, 0, math.inf)
    loss = functools.partial(_distil, name=name, shape=shape, tau=tau, axis=axis)
    return Head(name, layer, loss, functools.partial(_feature, name), **options)


def distillation(layers: Sequence[str], tau: float = 4.0, axis: str = "all") -> tuple[Head, ...]:
    """KD, eq. 8: the states of each layer in Υ are logits, pulled towards a teacher's block.

    Args:
        layers: Υ, by name.
        tau: temperature τ.
        axis: softmax over `all` units of the layer, or over the `channel`s at each position.
    """
    return tuple(_distilled(f"kd_{layer}", layer, tau, axis) for layer in layers)


def weighted_distillation(
    network: Network,
    layers: Sequence[str],
    teacher_shapes: Sequence[Shape],
    tau: float = 4.0,
    axis: str = "all",
    *,
    gain: float = 1.0,
) -> tuple[Head, ...]:
    """KDW, eq. 13-15: as KD, through a learned map w_i^map from student to teacher.

    Args:
        network: has the layers.
        layers: Υ, by name.
        teacher_shapes: shape of the teacher's block for each of them, without the batch.
        tau: temperature τ.
        axis: as for `distillation`.
        gain: scale of the initial maps.
    """
    if len(layers) != len(teacher_shapes):
        raise ValueError(
            f"teacher_shapes: has {len(teacher_shapes)}, must have one for each of the "
            f"{len(layers)} layers"
        )
    heads = []
    for layer, shape in zip(layers, teacher_shapes, strict=True):
        link = Dense(_shape(network, layer), math.prod(shape), use_bias=False)
        heads.append(_distilled(f"kdw_{layer}", layer, tau, axis, shape, map=link, gain=gain))
    return tuple(heads)


def _shape(network: Network, layer: str) -> Shape:
    if layer not in network.shapes:
        raise ValueError(f"there is no layer {layer}; there are {', '.join(network.layer_names)}")
    return network.shapes[layer]


KAPPA_SCHEDULES = ("constant", "linear", "exponential", "cosine")


def kappa_schedule(
    kind: str, kappa: float, epochs: int, *, gamma: float = 0.02, minimum: float = 0.0
) -> Callable[[jax.Array | float], jax.Array]:
    """κ as a function of the epoch (eq. 16).

    Args:
        kind: `constant`, `linear` (to 0), `exponential` (rate `gamma` per epoch) or `cosine` (to
            `minimum`).
        kappa: κ_init, at epoch 0.
        epochs: total number of epochs E_total.
        gamma: decay of the exponential schedule, per epoch.
        minimum: κ_min of the cosine schedule.

    Raises:
        ValueError: there is no such kind.
    """
    checks.one_of("kind of κ schedule", kind, KAPPA_SCHEDULES)
    if kind == "linear":
        return optax.linear_schedule(kappa, 0.0, epochs)
    if kind == "exponential":
        return optax.exponential_decay(kappa, 1, math.exp(-gamma))
    if kind == "cosine":
        ratio = minimum / kappa if kappa else 0.0
        return optax.cosine_decay_schedule(kappa, epochs, alpha=ratio)
    return optax.constant_schedule(kappa)
