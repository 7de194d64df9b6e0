"""Fig. 3: do the phases converge? python -m benchmarks.convergence [--scale small|paper]

Energy per step of VGG-7 in both nudged phases, mean and deviation over CIFAR-10 images, with local
errors and distillation, synchronous and alternating; and the residual per step of all phases. At
small scale weights are as drawn, and so is the teacher; at paper scale both are trained.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import convergence_report, nets, runs, systems
from jaxep.core.solvers import relative_residual
from jaxep.core.sweep import Energy, Sweep, Tree, free_value, nudged_value
from jaxep.core.theory import energy_per_sample
from jaxep.nets import teachers
from jaxep.training import data as data_lib
from jaxep.training import loop as training
from jaxep.training.settings import from_config, load_config_file
from jaxep.training.teaching import build_teacher, load_teacher

SIGNALS = ("LE", "KD")
# An alternating sweep moves every layer once from the newest states; it advances as far as two
# synchronous steps, so it gets half as many.
ORDERS = {"synchronous": 1, "alternating": 2}


@dataclasses.dataclass(frozen=True)
class Scale:
    """Runs by signal, whether their weights are trained, how many images in which batches."""

    net: dict[str, runs.Run]
    trained: bool
    images: int
    batch: int


_TINY = {
    "KD": nets.DIGITS_5["KD"].but(t_free=6, t_nudge=4),
    "LE": nets.DIGITS_5["LE"].but(t_free=6, t_nudge=4),
}
SCALES = {
    "tiny": Scale(_TINY, False, 8, 4),
    "small": Scale(nets.PAPER_7, False, 100, 20),
    "paper": Scale(nets.PAPER_7, True, 100, 100),
}


class Phases(NamedTuple):
    """Per step: residuals [steps, phases] and energies [steps, phases, images]."""

    residual: jax.Array
    energy: jax.Array


def follow(step, value_of, states: Tree, count: int) -> tuple[Tree, Phases]:
    """`count` passes of `step` over states [phases, batch, ...]; energies by `value_of(states)`."""

    def body(old, _):
        new = step(old)
        return new, Phases(jax.vmap(relative_residual)(new, old), value_of(new))

    return jax.lax.scan(body, states, length=count)


def settle(model: Energy, params: Tree, batch: Any, order: str, counts: tuple, beta: float) -> Any:
    """Free phase and the two nudged phases, as `Phases`, and the energies where these start.

    The energy is E = 1/2 ||ξ||² - Φ_Aug, which in the free phase is that with β = 0.
    """
    x, targets = batch
    prepared = model.prepare(params, x)

    def energy_of(states: Tree, beta) -> jax.Array:
        free = energy_per_sample(model, *prepared, states)
        return free + beta * model.loss(params, states, targets)

    start = jax.tree.map(lambda s: s[None], model.init_states(jax.random.key(0), x))
    ends, free = follow(
        jax.vmap(Sweep(model, free_value(model, *prepared), order)),
        lambda s: jax.vmap(energy_of)(s, jnp.zeros(1)),
        start,
        counts[0],
    )
    betas = jnp.asarray([beta, -beta])
    both = jax.tree.map(lambda s: jnp.concatenate([s, s]), ends)
    before = jax.vmap(energy_of)(both, betas)
    _, nudged = follow(
        Sweep(model, nudged_value(model, *prepared, targets, betas), order),
        lambda s: jax.vmap(energy_of)(s, betas),
        both,
        counts[1],
    )
    return free, nudged, before


def teacher_features(run: runs.Run, mine: systems.System, scale: Scale, options: runs.Options):
    """uint8 images -> the blocks of the teacher of a KD run, trained or as drawn."""
    settings = mine.settings
    if scale.trained:
        workdir = str(runs.teacher_place(run, options.folder))
        settings = dataclasses.replace(settings, teacher_workdir=workdir)
        return load_teacher(settings, mine.data, train=training.fit)[0]
    theirs = from_config(load_config_file(settings.teacher))
    model = build_teacher(theirs, mine.data)
    params, statistics = teachers.init(model, jax.random.key(0), mine.data.image_shape)
    mean, std = data_lib.moments(theirs.dataset, theirs.std_scale)
    blocks = [teachers.block_of_layer(settings.conv, layer) for layer in settings.signal_layers]

    def features(images):
        x = data_lib.normalise(images, mean, std)
        every = teachers.predict(model, params, statistics, x)[1]
        return tuple(every[block] for block in blocks)

    return features


def measure(run: runs.Run, scale: Scale, options: runs.Options) -> dict[str, Any]:
    """Both orders for one signal: mean and deviation of the energy, mean residual, per step."""
    mine = systems.system(run)
    settings = mine.settings
    params = mine.initial()
    if scale.trained:
        params = systems.weights(run, options.folder, [settings.epochs])[settings.epochs]
    kd = settings.signal == "kd"
    teacher = {"teacher": teacher_features(run, mine, scale, options)} if kd else {}
    found: dict[str, Any] = {}
    for order, advance in ORDERS.items():
        counts = (settings.t_free // advance, settings.t_nudge // advance)
        go = jax.jit(functools.partial(settle, mine.model, order=order, counts=counts))
        parts = []
        for first in range(0, scale.images, scale.batch):
            batch = mine.batch(scale.batch, first=first, **teacher)
            parts.append(jax.device_get(go(params, batch, beta=settings.beta)))
        found[order] = {"steps_per_pass": advance, **_summary(parts)}
    return found


def _summary(parts: list[Any]) -> dict[str, Any]:
    """Statistics of the batches' phases, as lists by step."""
    free = [part[0] for part in parts]
    nudged = [part[1] for part in parts]
    energies = np.concatenate([phase.energy for phase in nudged], axis=-1)
    changes = energies - np.concatenate([part[2] for part in parts], axis=-1)
    residuals = np.mean([phase.residual for phase in nudged], axis=0)
    free_residual = np.mean([phase.residual for phase in free], axis=0)
    free_energy = np.concatenate([phase.energy for phase in free], axis=-1)[:, 0]
    return {
        "free": {
            "residual": free_residual[:, 0].tolist(),
            "energy": free_energy.mean(-1).tolist(),
            "deviation": free_energy.std(-1).tolist(),
        },
        **{
            sign: {
                "residual": residuals[:, place].tolist(),
                "energy": energies[:, place].mean(-1).tolist(),
                "deviation": energies[:, place].std(-1).tolist(),
                "change": changes[:, place].mean(-1).tolist(),
                "change_deviation": changes[:, place].std(-1).tolist(),
            }
            for place, sign in enumerate(("positive", "negative"))
        },
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains at paper scale, measures, draws and prints."""
    options = runs.options("convergence", __doc__, arguments)
    scale = SCALES[options.scale]
    chosen = {signal: scale.net[signal] for signal in SIGNALS}
    result: dict[str, Any] = {"images": scale.images, "trained": scale.trained, "signals": {}}
    if scale.trained:
        result["runs"] = runs.train_all(options, chosen)
    for signal, run in chosen.items():
        result["signals"][signal] = {
            "config": run.config,
            "changes": run.changes,
            "beta": runs.settings_of(run).beta,
            "orders": measure(run, scale, options),
        }
        written = runs.keep(options, result)
    convergence_report.draw(written, options.picture)
    print(convergence_report.table(written))


if __name__ == "__main__":
    main()
