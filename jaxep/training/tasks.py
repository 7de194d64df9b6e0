"""What the one training loop trains, as a few pure functions: here an EP network.

This is where settings become objects: strings are looked up in the tables below, once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxep.core import estimators, solvers
from jaxep.core import theory as diagnostics
from jaxep.core.sweep import hard_sigmoid, relu
from jaxep.nets import heads as signals
from jaxep.nets.graph import Network, vgg
from jaxep.training import data as data_lib
from jaxep.training import optimizer, parallel
from jaxep.training.settings import Settings

Tree = Any
Metrics = dict[str, jax.Array]
# Images uint8 [batch, height, width, channels] -> one feature per layer of Υ.
TeacherFeatures = Callable[[jax.Array], tuple[jax.Array, ...]]

ACTIVATIONS = {"hard_sigmoid": hard_sigmoid, "relu": relu}
PRECISIONS = {"float32": lambda x: x, "bfloat16": lambda x: x.astype(jnp.bfloat16)}
SOLVERS = {
    "tolerance": solvers.Tolerance,
    "fixed_point": solvers.FixedPointIteration,
    "anderson": solvers.AndersonAcceleration,
}


class Task(NamedTuple):
    """What the training loop needs of the thing it trains.

    Attributes:
        init: key -> (params, extra); extra is state that is not trained by gradients.
        update: (params, extra, images, labels, key, kappa) -> (grads, extra, metrics); metrics are
            means over the batch, float scalars.
        metrics: their names.
        evaluate: (params, extra, images, labels, key) -> (loss, correct), both [batch].
        optimizer: of all parameters.
        rate: learning rate that metrics.csv reports, from the step.
        kappa: κ of an epoch counted from 0; None where there is no signal.
        report: (params, extra, images, labels, key, kappa) -> per-layer arrays by column name.
        layer_names: the rows of that report.
        mesh: the devices that it runs on.
    """

    init: Callable[[jax.Array], tuple[Tree, Tree]]
    update: Callable[..., tuple[Tree, Tree, Metrics]]
    metrics: tuple[str, ...]
    evaluate: Callable[..., tuple[jax.Array, jax.Array]]
    optimizer: Any
    rate: Callable[[Any], Any]
    kappa: Callable[[Any], Any] | None
    report: Callable[..., dict[str, jax.Array]]
    layer_names: tuple[str, ...]
    mesh: Mesh


def build_network(settings: Settings, data: data_lib.Dataset) -> Network:
    """The CRNN of the settings, for the images of `data`."""
    return vgg(
        settings.conv,
        settings.hidden,
        data.image_shape,
        data.num_classes,
        conv_activation=ACTIVATIONS[settings.conv_activation],
        dense_activation=hard_sigmoid,
        has_readout=settings.output_loss == "cross_entropy",
        gain=settings.gain,
    )


def build_signal(
    settings: Settings, network: Network, num_classes: int, teacher_shapes: Any = ()
) -> signals.Signal:
    """The intermediate signal of the settings."""
    layers = settings.signal_layers
    shapes = tuple(network.state_shapes[layer] for layer in layers)
    if settings.signal == "le":
        return signals.LocalError(
            layers,
            shapes,
            num_classes,
            settings.tau,
            settings.learn_readout,
            settings.soften_labels,
        )
    if settings.signal == "kd":
        return signals.Distillation(layers, settings.tau, settings.softmax_axis)
    if settings.signal == "kdw":
        return signals.WeightedDistillation(
            layers, shapes, tuple(teacher_shapes), settings.tau, settings.softmax_axis
        )
    return signals.NoSignal()


def build_solver(settings: Settings, steps: int, tol: float) -> solvers.Solver:
    """The solver of one phase of at most `steps` sweeps."""
    if settings.solver == "fixed":
        return solvers.Fixed(steps, settings.order, settings.relaxation)
    return SOLVERS[settings.solver](steps, settings.order, settings.relaxation, tol)


def build_estimator(settings: Settings):
    """The gradient estimator of the settings: an EP, BPTT or Implicit object."""
    free = build_solver(settings, settings.t_free, settings.tol_free)
    if settings.estimator == "bptt":
        return estimators.BPTT(free, settings.bptt_steps or settings.t_free)
    if settings.estimator == "implicit":
        return estimators.Implicit(free)
    nudge = build_solver(settings, settings.t_nudge, settings.tol_nudge)
    betas = estimators.VARIANTS[settings.ep_variant]
    return estimators.EP(settings.beta, free, nudge, betas)


def augment(settings: Settings, key: jax.Array, images: jax.Array) -> jax.Array:
    """Training images of one batch, uint8 in and out, moved and mirrored as the data allows."""
    if not settings.augment:
        return images
    if settings.dataset == "digits":  # a mirrored digit is another sign, and 8x8 leaves no room
        return data_lib.augment(key, images, padding=1, flip=False)
    return data_lib.augment(key, images)


@dataclass(frozen=True, eq=False)
class _EPLearner:
    """What an update and an evaluation of `ep_task` compute, one method each."""

    settings: Settings
    data: data_lib.Dataset
    network: Network
    model: Any
    estimator: Any
    teacher: TeacherFeatures
    mesh: Mesh

    def image(self, images):
        # The states take the type of the images: with bfloat16 all phases run in it, while
        # parameters, losses and gradients stay float32.
        normal = data_lib.normalise(images, self.data.mean, self.data.std)
        return PRECISIONS[self.settings.precision](normal)

    def value_and_grad(self, params, images, labels, key, kappa):
        kappa = jnp.asarray(kappa, jnp.float32)
        targets = signals.Targets(labels, kappa, self.teacher(images))
        run = self.estimator.value_and_grad(self.model)
        return run(params, (self.image(images), targets), key)

    def score(self, params, states, labels):
        correct = self.network.outputs(params, states).argmax(-1) == labels
        return signals.l_ep(self.network, params, states, labels), correct

    def learn(self, params, batch, key, kappa):
        images, labels = batch
        _, grads, aux = self.value_and_grad(params, images, labels, key, kappa)
        loss, correct = self.score(params, aux.free.states, labels)
        return grads, {**_phases(aux), "loss": loss.mean(), "accuracy": correct.mean()}

    def learn_in_shares(self, params, batch, key, kappa):
        largest = self.settings.micro_batch
        return parallel.mean_over_shares(self.learn, largest, params, batch, key, kappa)

    def update(self, params, extra, images, labels, key, kappa):
        augment_key, key = jax.random.split(key)
        batch = augment(self.settings, augment_key, images), labels
        mean = parallel.mean_over_devices
        grads, metrics = mean(self.learn_in_shares, params, batch, key, kappa, mesh=self.mesh)
        return grads, extra, metrics

    def judge(self, params, batch, key):
        images, labels = batch
        x, solver = self.image(images), self.estimator.free
        free, _ = estimators.free_phase(self.model, solver, params, x, key)
        return self.score(params, free.states, labels)

    def evaluate(self, params, extra, images, labels, key):
        batch = images, labels
        return parallel.samples_over_devices(self.judge, params, batch, key, mesh=self.mesh)

    def report(self, params, extra, images, labels, key, kappa):
        _, grads, aux = self.value_and_grad(params, images, labels, key, kappa)
        return diagnostics.layer_report(params, grads, aux)


def ep_task(
    settings: Settings,
    data: data_lib.Dataset,
    steps: int,
    teacher: TeacherFeatures = lambda images: (),
    teacher_shapes: Any = (),
) -> Task:
    """Trains the network of the settings by equilibrium propagation.

    Args:
        settings: of task "ep".
        data: gives shapes and normalisation.
        steps: updates of the whole run.
        teacher: features of the images for each layer of Υ, for KD and KDW.
        teacher_shapes: their shapes without the batch.
    """
    network = build_network(settings, data)
    signal = build_signal(settings, network, data.num_classes, teacher_shapes)
    model = signals.energy(network, signal, settings.init_states)
    mesh = parallel.mesh_for(settings.batch_size)
    estimator = build_estimator(settings)
    learner = _EPLearner(settings, data, network, model, estimator, teacher, mesh)
    return Task(
        init=lambda key: (signals.init_params(network, signal, key), {}),
        update=learner.update,
        metrics=("loss", "accuracy", *PHASE_METRICS),
        evaluate=learner.evaluate,
        optimizer=optimizer.layerwise_sgd(
            settings.learning_rates,
            steps,
            schedule=settings.lr_schedule,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
        ),
        rate=optimizer.rate_schedule(settings.lr_schedule, settings.learning_rates[0], steps),
        kappa=None if settings.signal == "none" else _kappa(settings),
        report=learner.report,
        layer_names=network.layer_names,
        mesh=mesh,
    )


def _kappa(settings: Settings):
    return signals.kappa_schedule(
        settings.kappa_schedule,
        settings.kappa,
        settings.epochs,
        gamma=settings.kappa_gamma,
        minimum=settings.kappa_min,
    )


PHASE_METRICS = ("free_steps", "free_residual", "nudge_steps", "nudge_residual")


def _phases(aux: estimators.Aux) -> Metrics:
    """Steps and residuals of the phases; zeros for phases that an estimator does not have."""
    nudged = aux.nudged or solvers.Solution((), jnp.zeros(()), jnp.zeros(()))
    values = [
        *(aux.free.steps.astype(jnp.float32), aux.free.residual),
        *(nudged.steps.astype(jnp.float32), nudged.residual),
    ]
    return dict(zip(PHASE_METRICS, values, strict=True))
