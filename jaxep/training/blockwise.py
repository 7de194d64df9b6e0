"""EP blocks joined by batch norm, trained end to end in the one loop: task "blocks".

Nest & Ernoult 2024 (arXiv 2409.03306): the layers of a network are cut into blocks that settle one
after the other, each clamped by the batch norm of the last layer below. The loss of the output is
backpropagated down to the blocks, and through each by equilibrium propagation (`core.layer`).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxep.core.estimators import Aux
from jaxep.core.layer import settling
from jaxep.core.solvers import Solution
from jaxep.nets.diagnostics import layer_report, report_rows
from jaxep.nets.model import Model
from jaxep.training import data as data_lib
from jaxep.training import dynamics, parallel
from jaxep.training.networks import build_blocks, build_network
from jaxep.training.settings import Settings
from jaxep.training.systems import SYSTEMS
from jaxep.training.tasks import (
    Task,
    Tree,
    augment,
    build_optimizer,
    judge,
    keys_of_samples,
    network_input,
)


class Blocks(nn.Module):
    """The net: its parameters are block1, norm2, block2, ..., and those of the output's head.

    Attributes:
        model: the whole network, whose first head reads the last layer.
        parts: its blocks, from the input upwards.
        settle: (params, x, keys) -> Solution of each.
        axis: name of the devices that share a batch; None: there is one.
    """

    model: Model
    parts: tuple[Model, ...]
    settle: tuple[Callable[..., Solution], ...]
    axis: str | None

    @nn.compact
    def __call__(self, x: jax.Array, keys: jax.Array, train: bool) -> Solution:
        """States of all layers, the sweeps of all blocks and their largest residual.

        Args:
            x: [batch, *input shape].
            keys: of the initial states, one for each sample.
            train: normalise by the batch; else by the running statistics.
        """
        states: dict[str, jax.Array] = {}
        phases: list[Solution] = []
        for number, (part, settle) in enumerate(zip(self.parts, self.settle, strict=True), 1):
            if number > 1:
                norm = nn.BatchNorm(momentum=0.9, axis_name=self.axis, name=f"norm{number}")
                x = norm(x, use_running_average=not train)
            params = self.param(f"block{number}", part.init_params)
            own = jax.vmap(lambda key, place=number: jax.random.fold_in(key, place))(keys)
            found = settle(params, x, own)
            states |= found.states
            phases.append(found)
            x = found.states[part.network.layer_names[-1]]
        head = self.model.heads[0]
        if head.map is not None:
            self.param(head.name, head.init, x.dtype)
        steps = jnp.sum(jnp.stack([phase.steps for phase in phases]))
        return Solution(states, steps, jnp.max(jnp.stack([phase.residual for phase in phases])))

    def labels(self, params: Tree) -> Tree:
        """The weight whose learning rate each parameter uses; a batch norm's is that above it."""
        found = {name: jax.tree.map(lambda _, n=name: n, own) for name, own in params.items()}
        for number, part in enumerate(self.parts, 1):
            block, norm = f"block{number}", f"norm{number}"
            found[block] = part.weight_labels(params[block])
            if norm in found:
                found[norm] = jax.tree.map(lambda _, n=part.weight_names[0]: n, found[norm])
        return found

    def in_groups(self, params: Tree) -> Tree:
        """Parameters of the network and its head as those of `model`."""
        blocks = [params[f"block{number}"] for number in range(1, len(self.parts) + 1)]
        head = self.model.heads[0].name
        return {
            "edges": {name: own for block in blocks for name, own in block["edges"].items()},
            "layers": {name: own for block in blocks for name, own in block["layers"].items()},
            "heads": {head: params[head]} if head in params else {},
        }


@dataclasses.dataclass(frozen=True, eq=False)
class _Learner:
    """What an update and an evaluation of `blocks_task` compute, one method each."""

    settings: Settings
    data: data_lib.Dataset
    net: Blocks
    mesh: Any

    def settled(self, params, extra, images, keys, train):
        x = network_input(self.settings, self.data.mean, self.data.std, images)
        variables = {"params": params, "batch_stats": extra}
        if not train:
            return self.net.apply(variables, x, keys, False), extra
        free, changed = self.net.apply(variables, x, keys, True, mutable=["batch_stats"])
        return free, dict(changed).get("batch_stats", {})

    def learn(self, params, batch, extra):
        images, labels, keys = batch

        def loss_of(params):
            free, new = self.settled(params, extra, images, keys, True)
            loss, correct = judge(self.net.model, self.net.in_groups(params), free.states, labels)
            return loss.mean(), (free, new, correct.mean())

        (loss, (free, new, accuracy)), grads = jax.value_and_grad(loss_of, has_aux=True)(params)
        return grads, new, {"loss": loss, "accuracy": accuracy}, free

    def learn_share(self, params, batch, extra):
        grads, extra, metrics, free = self.learn(params, batch, extra)
        phase = {"free_steps": free.steps.astype(jnp.float32), "free_residual": free.residual}
        return grads, extra, metrics | phase

    def update(self, params, extra, step, images, labels, key):
        augment_key, key = jax.random.split(key)
        images = augment(self.settings, self.data, augment_key, images)
        batch = images, labels, keys_of_samples(key, images)
        return parallel.mean_over_devices(self.learn_share, params, batch, extra, mesh=self.mesh)

    def judge_share(self, params, batch, extra):
        images, labels, keys = batch
        free, _ = self.settled(params, extra, images, keys, False)
        return judge(self.net.model, self.net.in_groups(params), free.states, labels)

    def evaluate(self, params, extra, images, labels, key):
        batch = images, labels, keys_of_samples(key, images)
        return parallel.samples_over_devices(self.judge_share, params, batch, extra, mesh=self.mesh)

    def report(self, params, extra, step, images, labels, key):
        batch = images, labels, keys_of_samples(key, images)
        alone = dataclasses.replace(self, net=self.net.clone(axis=None))  # the images are not cut
        grads, _, _, free = alone.learn(params, batch, extra)
        return layer_report(self.net.model, self.net.in_groups(grads), Aux(free))


def blocks_task(settings: Settings, data: data_lib.Dataset, steps: int) -> Task:
    """Trains EP blocks end to end.

    Args:
        settings: of task "blocks".
        data: gives shapes and normalisation.
        steps: updates of the whole run.

    Raises:
        SettingsError: the settings do not fit the data.
    """
    model = build_network(settings, data.image_shape, data.num_classes)
    parts, ep = build_blocks(settings, model), dynamics.build_estimator(settings)
    energies = [SYSTEMS[settings.system].energy(settings, part) for part in parts]
    mesh = parallel.mesh_for(settings.batch_size)
    axis = parallel.AXIS if mesh.size > 1 else None
    net = Blocks(model, parts, tuple(settling(energy, ep) for energy in energies), axis)
    learner = _Learner(settings, data, net, mesh)

    def init(key):
        x = jnp.zeros((1, *data.image_shape))
        # Jitted: nothing needs to settle for the parameters.
        variables = jax.jit(net.init, static_argnums=3)(key, x, jax.random.split(key, 1), False)
        return variables["params"], variables.get("batch_stats", {})

    trained_by, rate = build_optimizer(settings, model, steps, net.labels)
    return Task(
        init=init,
        update=learner.update,
        metrics=("loss", "accuracy", "free_steps", "free_residual"),
        evaluate=learner.evaluate,
        optimizer=trained_by,
        rate=rate,
        kappa=None,
        report=learner.report,
        rows=report_rows(model),
        mesh=mesh,
    )
