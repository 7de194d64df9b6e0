"""Intermediate error signals: L_Aug of LE, KD and KDW (eq. 7, 8, 13), and κ (eq. 16).

A signal is a small frozen object with two functions: `init_params` for what it learns, and
`l_aug`, its loss summed over the layers of Υ. Layers are neuron layers, counted from 0.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax

from jaxep.core.sweep import Energy
from jaxep.nets.couplings import uniform_init
from jaxep.nets.graph import Network, Params, States
from jaxep.nets.losses import cross_entropy, soft_target, squared_error

Shapes = Sequence[tuple[int, ...]]


class Targets(NamedTuple):
    """What the nudge pulls towards.

    Attributes:
        labels: integers [batch].
        kappa: strength κ of the intermediate signals, a scalar.
        features: the teacher's block feature for each layer of Υ, [batch, ...]; () without one.
    """

    labels: jax.Array
    kappa: jax.Array | float = 0.0
    features: tuple[jax.Array, ...] = ()


class Signal(Protocol):
    """What `total_loss` needs of an intermediate signal."""

    @property
    def layers(self) -> tuple[int, ...]: ...
    def init_params(self, key: jax.Array, gain: float, dtype) -> Params: ...
    def l_aug(self, params: Params, states: States, targets: Targets) -> jax.Array: ...


def _flat(x: jax.Array) -> jax.Array:
    return x.reshape(x.shape[0], -1)


def _maps(layers, sizes, key, gain, dtype) -> Params:
    """One matrix [inputs, outputs] for each layer of Υ, initialised like a dense layer."""
    keys = jax.random.split(key, max(len(layers), 1))
    return {
        str(layer): {"kernel": uniform_init(k, size, size[0], gain, dtype)}
        for layer, size, k in zip(layers, sizes, keys, strict=False)
    }


@dataclasses.dataclass(frozen=True)
class NoSignal:
    """Standard EP: no layer has an intermediate signal."""

    layers: tuple[int, ...] = ()

    def init_params(self, key: jax.Array, gain: float, dtype) -> Params:
        """Nothing to learn: {}."""
        return {}

    def l_aug(self, params: Params, states: States, targets: Targets) -> jax.Array:
        """Zero for each sample, [batch]."""
        return jnp.zeros(targets.labels.shape, states[0].dtype)


@dataclasses.dataclass(frozen=True)
class LocalError:
    """LE, eq. 7: a readout B_i of each layer in Υ is pulled towards the label.

    Attributes:
        layers: Υ.
        shapes: shape of each layer in Υ, without the batch.
        num_classes: size of the readouts.
        tau: temperature τ.
        learn_readout: B_i learn by eq. 15; else they stay as they were drawn.
        soften_labels: the target is softmax(onehot / τ), the literal eq. 7, instead of the one-hot
            distribution. For 10 classes that target is almost uniform (0.125 against 0.097).
    """

    layers: tuple[int, ...]
    shapes: tuple[tuple[int, ...], ...]
    num_classes: int
    tau: float = 4.0
    learn_readout: bool = True
    soften_labels: bool = False

    def init_params(self, key: jax.Array, gain: float, dtype) -> Params:
        """{layer: {"kernel": B_i [neurons, classes]}}."""
        sizes = [(math.prod(shape), self.num_classes) for shape in self.shapes]
        return _maps(self.layers, sizes, key, gain, dtype)

    def l_aug(self, params: Params, states: States, targets: Targets) -> jax.Array:
        """Σ_i τ² CE(target, softmax(B_i ξ_i / τ)), [batch]."""
        onehot = jax.nn.one_hot(targets.labels, self.num_classes, dtype=states[0].dtype)
        target = jax.nn.softmax(onehot / self.tau) if self.soften_labels else onehot
        total = jnp.zeros(())
        for layer in self.layers:
            kernel = params[str(layer)]["kernel"]
            if not self.learn_readout:
                kernel = jax.lax.stop_gradient(kernel)
            total = total + soft_target(_flat(states[layer]) @ kernel, target, self.tau)
        return total


def _distill(student: jax.Array, teacher: jax.Array, tau: float, axis: str) -> jax.Array:
    """τ² CE(softmax(teacher / τ), softmax(student / τ)): [batch, ...] twice -> [batch]."""
    if axis == "all":
        student, teacher = _flat(student), _flat(teacher)
    return soft_target(student, jax.nn.softmax(teacher / tau), tau)


@dataclasses.dataclass(frozen=True)
class Distillation:
    """KD, eq. 8: the states of each layer in Υ are logits, pulled towards a teacher's block.

    Attributes:
        layers: Υ.
        tau: temperature τ.
        axis: softmax over `all` units of the layer, or over the `channel`s at each position.
    """

    layers: tuple[int, ...]
    tau: float = 4.0
    axis: str = "all"

    def init_params(self, key: jax.Array, gain: float, dtype) -> Params:
        """Nothing to learn: {}."""
        return {}

    def l_aug(self, params: Params, states: States, targets: Targets) -> jax.Array:
        """Σ_i τ² CE(softmax(t_i / τ), softmax(ξ_i / τ)), [batch]."""
        pairs = zip(self.layers, targets.features, strict=True)
        terms = [_distill(states[layer], t, self.tau, self.axis) for layer, t in pairs]
        return jnp.sum(jnp.stack(terms), axis=0)


@dataclasses.dataclass(frozen=True)
class WeightedDistillation:
    """KDW, eq. 13-15: as KD, through a learned map w_i^map from student to teacher.

    Attributes:
        layers: Υ.
        shapes: shape of each student layer in Υ, without the batch.
        teacher_shapes: shape of the teacher's block for each of them.
        tau: temperature τ.
        axis: as for `Distillation`.
    """

    layers: tuple[int, ...]
    shapes: tuple[tuple[int, ...], ...]
    teacher_shapes: tuple[tuple[int, ...], ...]
    tau: float = 4.0
    axis: str = "all"

    def init_params(self, key: jax.Array, gain: float, dtype) -> Params:
        """{layer: {"kernel": w_i^map [student neurons, teacher neurons]}}."""
        pairs = zip(self.shapes, self.teacher_shapes, strict=True)
        sizes = [(math.prod(student), math.prod(teacher)) for student, teacher in pairs]
        return _maps(self.layers, sizes, key, gain, dtype)

    def l_aug(self, params: Params, states: States, targets: Targets) -> jax.Array:
        """Σ_i τ² CE(softmax(t_i / τ), softmax(w_i^map ξ_i / τ)), [batch]."""
        total = jnp.zeros(())
        for layer, teacher in zip(self.layers, targets.features, strict=True):
            mapped = _flat(states[layer]) @ params[str(layer)]["kernel"]
            total = total + _distill(mapped.reshape(teacher.shape), teacher, self.tau, self.axis)
        return total


def l_ep(network: Network, params: Params, states: States, labels: jax.Array) -> jax.Array:
    """L_EP at the output, [batch]: cross entropy of the readout or squared error of neurons."""
    loss = squared_error if network.readout is None else cross_entropy
    return loss(network.outputs(params, states), labels)


def init_params(network: Network, signal: Signal, key: jax.Array, dtype=jnp.float32) -> Params:
    """The network's parameters with the signal's under "signals"."""
    network_key, signal_key = jax.random.split(key)
    params = network.init_params(network_key, dtype)
    return {**params, "signals": signal.init_params(signal_key, network.gain, dtype)}


def energy(network: Network, signal: Signal, init_states: str = "zeros") -> Energy:
    """The network and its signal as an `Energy`, with L_Total = L_EP + κ Σ L_Aug (eq. 9)."""

    def loss(params: Params, states: States, targets: Targets) -> jax.Array:
        aug = signal.l_aug(params["signals"], states, targets)
        return l_ep(network, params, states, targets.labels) + targets.kappa * aug

    def start(key: jax.Array, x: Any) -> States:
        return network.init_states(key, x.shape[0], init_states, x.dtype)

    return Energy(
        network.phi, loss, start, network.activations, network.prepare, recall=network.recall
    )


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
    """
    if kind == "linear":
        return optax.linear_schedule(kappa, 0.0, epochs)
    if kind == "exponential":
        return optax.exponential_decay(kappa, 1, math.exp(-gamma))
    if kind == "cosine":
        ratio = minimum / kappa if kappa else 0.0
        return optax.cosine_decay_schedule(kappa, epochs, alpha=ratio)
    return optax.constant_schedule(kappa)
