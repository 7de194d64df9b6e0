"""What the one training loop trains, as a few pure functions: here an EP network.

This is where settings become objects: strings are looked up in tables, once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxep.core import estimators, solvers
from jaxep.core.energy import Energy, initial_states
from jaxep.nets.diagnostics import layer_report, report_rows
from jaxep.nets.heads import Targets, kappa_schedule
from jaxep.nets.model import Model
from jaxep.training import binary, dynamics, optimizer, parallel
from jaxep.training import data as data_lib
from jaxep.training.networks import build_model, by_weight
from jaxep.training.settings import Settings
from jaxep.training.systems import SYSTEMS

Tree = Any
Metrics = dict[str, jax.Array]
Moments = tuple[float, ...]
Rows = dict[str, dict[str, jax.Array]]
# Images [batch, height, width, channels] -> one feature per layer of Υ.
TeacherFeatures = Callable[[jax.Array], tuple[jax.Array, ...]]

PRECISIONS = {"float32": lambda x: x, "bfloat16": lambda x: x.astype(jnp.bfloat16)}


class Task(NamedTuple):
    """What the training loop needs of the thing it trains.

    Attributes:
        init: key -> (params, extra); extra is state that is not trained by gradients.
        update: (params, extra, step, images, labels, key) -> (grads, extra, metrics) of update
            `step` of the run, from 0; metrics are means over the batch, float scalars.
        metrics: their names.
        evaluate: (params, extra, images, labels, key) -> (loss, correct), both [batch].
        optimizer: of all parameters.
        rate: learning rate that metrics.csv reports, from the step.
        kappa: κ, from the step; None where there is no signal.
        report: (params, extra, step, images, labels, key) -> {row: {column: scalar}} of layers.csv.
        rows: of that report, in order.
        mesh: the devices that it runs on.
        statistics: those of the metrics that metrics.csv has for some runs alone.
    """

    init: Callable[[jax.Array], tuple[Tree, Tree]]
    update: Callable[..., tuple[Tree, Tree, Metrics]]
    metrics: tuple[str, ...]
    evaluate: Callable[..., tuple[jax.Array, jax.Array]]
    optimizer: Any
    rate: Callable[[Any], Any]
    kappa: Callable[[Any], Any] | None
    report: Callable[..., Rows]
    rows: tuple[str, ...]
    mesh: Mesh
    statistics: tuple[str, ...] = ()


def build_rule(settings: Settings) -> optimizer.Rule:
    """The function rate -> optimizer of the settings."""
    kind, options = settings.optimizer, (settings.nesterov, settings.weight_decay)
    if kind != "bop":
        return optimizer.update_rule(kind, settings.momentum, *options)
    flips = binary.bop(settings.flip_threshold, settings.flip_rate, settings.scale_rate)
    return binary.of_kernels(flips, optimizer.update_rule("sgd", settings.momentum, *options))


def drawn(settings: Settings, model: Model, key: jax.Array) -> Tree:
    """The parameters before the first update."""
    params = model.init_params(key)
    return binary.binarise(params) if settings.optimizer == "bop" else params


def kappa_of_step(settings: Settings, steps: int) -> Callable[[Any], Any] | None:
    """κ as a function of the update, eq. 16 by epochs; None where there is no signal.

    Args:
        settings: of the run.
        steps: updates of the whole run.
    """
    if settings.signal == "none":
        return None
    of_epoch = kappa_schedule(
        settings.kappa_schedule,
        settings.kappa,
        settings.epochs,
        gamma=settings.kappa_gamma,
        minimum=settings.kappa_min,
    )
    each = max(1, steps // settings.epochs)
    return lambda step: of_epoch(jnp.asarray(step // each, jnp.float32))


def augment(settings: Settings, data: data_lib.Dataset, key: jax.Array, images: jax.Array):
    """Training images of one batch, of their own type, moved and mirrored as the data allow."""
    if not settings.augment or not (data.padding or data.flip):
        return images
    return data_lib.augment(key, images, data.padding, data.flip)


def network_input(settings: Settings, mean: Moments, std: Moments, images: jax.Array) -> jax.Array:
    """Normalised images in the type of the states.

    With bfloat16 all phases run in it, while parameters, losses and gradients stay float32.
    """
    return PRECISIONS[settings.precision](data_lib.normalise(images, mean, std))


def settle(
    energy: Energy, solver: solvers.Solver, params: Tree, x: jax.Array, keys: jax.Array
) -> Tree:
    """The free equilibrium of each sample; `keys` [batch]: of their initial states."""
    start = initial_states(energy, keys, params, x)
    return solvers.equilibrium(energy, solver, params, x, start=start).states


def judge(
    model: Model, params: Tree, states: Tree, labels: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """(L_EP, whether the answer is right) of each sample, both [batch]."""
    correct = model.outputs(params, states).argmax(-1) == labels
    return model.output_loss(params, states, Targets(labels)), correct


@dataclass(frozen=True, eq=False)
class _EPLearner:
    """What an update and an evaluation of `ep_task` compute, one method each."""

    settings: Settings
    data: data_lib.Dataset
    model: Model
    energy: Energy
    estimator: Any
    kappa: Callable[[Any], Any]
    teacher: TeacherFeatures
    mesh: Mesh
    uncut: bool

    def image(self, images):
        return network_input(self.settings, self.data.mean, self.data.std, images)

    def value_and_grad(self, params, batch, key, step):
        images, labels, keys = batch
        names = [head.name for head in self.model.heads[1:]]
        features = dict(zip(names, self.teacher(images), strict=False))
        targets = Targets(labels, jnp.asarray(self.kappa(step), jnp.float32), features)
        x = self.image(images)
        # A key for each sample: what it starts from does not depend on how the batch is cut.
        start = initial_states(self.energy, keys, params, x)
        run = self.estimator.value_and_grad(self.energy)
        return run(params, (x, targets), key, start=start)

    def learn(self, params, batch, key, step):
        _, grads, aux = self.value_and_grad(params, batch, key, step)
        loss, correct = judge(self.model, params, aux.free.states, batch[1])
        phases = _phases(aux, dynamics.statistics(self.settings))
        return grads, {**phases, "loss": loss.mean(), "accuracy": correct.mean()}

    def learn_in_shares(self, params, batch, key, step):
        largest = self.settings.micro_batch
        return parallel.mean_over_shares(self.learn, largest, params, batch, key, step)

    def mean(self, *of):
        if self.uncut:
            return self.learn(*of)
        return parallel.mean_over_devices(self.learn_in_shares, *of, mesh=self.mesh)

    def update(self, params, extra, step, images, labels, key):
        augment_key, key = jax.random.split(key)
        images = augment(self.settings, self.data, augment_key, images)
        batch = images, labels, keys_of_samples(key, images)
        grads, metrics = self.mean(params, batch, key, step)
        return grads, extra, metrics

    def judge_share(self, params, batch):
        images, labels, keys = batch
        x = self.image(images)
        states = settle(self.energy, self.estimator.free, params, x, keys)
        return judge(self.model, params, states, labels)

    def evaluate(self, params, extra, images, labels, key):
        batch = images, labels, keys_of_samples(key, images)
        return parallel.samples_over_devices(self.judge_share, params, batch, mesh=self.mesh)

    def report(self, params, extra, step, images, labels, key):
        batch = images, labels, keys_of_samples(key, images)
        _, grads, aux = self.value_and_grad(params, batch, key, step)
        return layer_report(self.model, grads, aux)


def keys_of_samples(key: jax.Array, images: jax.Array) -> jax.Array:
    """One key for each sample's initial states, apart from `key`, which the estimator uses."""
    return jax.random.split(jax.random.fold_in(key, 1), images.shape[0])


def ep_task(
    settings: Settings,
    data: data_lib.Dataset,
    steps: int,
    teacher: TeacherFeatures = lambda images: (),
    teacher_shapes: tuple[tuple[int, ...], ...] = (),
) -> Task:
    """Trains the network of the settings by equilibrium propagation.

    Args:
        settings: of task "ep".
        data: gives shapes and normalisation.
        steps: updates of the whole run.
        teacher: features of the images for each layer of Υ, for KD and KDW.
        teacher_shapes: their shapes without the batch.

    Raises:
        SettingsError: the settings do not fit the data.
    """
    model = build_model(settings, data.image_shape, data.num_classes, teacher_shapes)
    uncut = settings.estimator in dynamics.UNCUT
    mesh = parallel.uncut_mesh() if uncut else parallel.mesh_for(settings.batch_size)
    kappa = kappa_of_step(settings, steps)
    learner = _EPLearner(
        settings,
        data,
        model,
        SYSTEMS[settings.system].energy(settings, model),
        dynamics.build_estimator(settings),
        kappa or (lambda step: 0.0),
        teacher,
        mesh,
        uncut,
    )
    trained_by, rate = build_optimizer(settings, model, steps, model.weight_labels)
    told = dynamics.statistics(settings)
    return Task(
        init=lambda key: (drawn(settings, model, key), {}),
        update=learner.update,
        metrics=("loss", "accuracy", *PHASE_METRICS, *told),
        evaluate=learner.evaluate,
        optimizer=trained_by,
        rate=rate,
        kappa=kappa,
        report=learner.report,
        rows=report_rows(model),
        mesh=mesh,
        statistics=told,
    )


def build_optimizer(
    settings: Settings, model: Model, steps: int, labels: Callable[[Tree], Tree]
) -> tuple[Any, Callable[[Any], Any]]:
    """(optimizer with the rate of each weight, the rate of the first).

    Args:
        settings: of the run.
        model: names the weights.
        steps: updates of the whole run.
        labels: as of `optimizer.by_weight`.
    """
    rates = by_weight("learning_rates", settings.learning_rates, model.weight_names)
    schedules = {
        name: optimizer.rate_schedule(settings.lr_schedule, rate, steps)
        for name, rate in rates.items()
    }
    made = optimizer.by_weight(build_rule(settings), schedules, labels)
    return made, next(iter(schedules.values()))


PHASE_METRICS = ("free_steps", "free_residual", "nudge_steps", "nudge_residual")


def _phases(aux: estimators.Aux, told: tuple[str, ...]) -> Metrics:
    """Steps, residuals and statistics of the phases; zeros for what a phase does not tell."""
    nothing = solvers.Solution((), jnp.zeros(()), jnp.zeros(()))
    found = dict.fromkeys((*PHASE_METRICS, *told), jnp.zeros(()))
    for name, phase in (("free", aux.free), ("nudge", aux.nudged or nothing)):
        found[f"{name}_steps"] = phase.steps.astype(jnp.float32)
        found[f"{name}_residual"] = phase.residual
        found |= {f"{name}_{statistic}": v for statistic, v in phase.statistics.items()}
    return found
