"""Fig. 3: do the phases converge?

Energy per step of VGG-7 in both nudged phases, mean and deviation over CIFAR-10 images, with local
errors and distillation, synchronous and alternating; and the residual per step of all phases. At
small scale weights are as drawn, and so is the teacher; at paper scale both are trained.
"""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.shared import nets, runs, show, systems
from benchmarks.shared.results import Claim, Claims, Options, Result
from jaxep import Energy, energy_per_sample, initial_states
from jaxep.core.objective import free_objective
from jaxep.core.solvers import relative_residual

SIGNALS = ("LE", "KD")
# An alternating sweep moves every layer once from the newest states; it advances as far as two
# synchronous steps, so it gets half as many.
ORDERS = {"synchronous": 1, "alternating": 2}
STYLES = {"synchronous": "-", "alternating": "--"}
COLORS = {"free": "0.3", "positive": "tab:blue", "negative": "tab:purple"}
SIGNS = {"positive": "POS", "negative": "NEG"}
# The energy counts as settled where what is left to fall is this share of its whole change, and a
# phase as long enough where it has settled after this share of its steps.
SETTLED, EARLY = 0.01, 0.9
Tree = Any


class Scale(NamedTuple):
    """Runs by signal, whether their weights are trained, how many images in which batches."""

    net: dict[str, runs.Run]
    trained: bool
    images: int
    batch: int


_TINY = {signal: nets.DIGITS_5[signal].but(t_free=6, t_nudge=4) for signal in SIGNALS}
SCALES = {
    "tiny": Scale(_TINY, False, 8, 4),
    "small": Scale(nets.PAPER_7, False, 100, 20),
    "paper": Scale(nets.PAPER_7, True, 100, 100),
}


class Phases(NamedTuple):
    """Per step: residuals [steps, phases] and energies [steps, phases, images]."""

    residual: jax.Array
    energy: jax.Array


def settle(energy: Energy, params: Tree, batch: Any, order: str, counts: tuple, beta: float) -> Any:
    """Free phase and the two nudged phases, as `Phases`, and the energies where these start.

    The energy is E = 1/2 ||ξ||² - Φ_Aug, which in the free phase is that with β = 0.
    """
    x, targets = batch
    objective = free_objective(energy, params, x)

    def energies(states: Tree, betas: jax.Array) -> jax.Array:
        def of_phase(states, beta):
            loss = energy.loss(params, states, targets)
            return energy_per_sample(energy, params, x, states) + beta * loss

        return jax.vmap(of_phase)(states, betas)

    def follow(states: Tree, betas: jax.Array, count: int) -> tuple[Tree, Phases]:
        def tell(old: Tree, new: Tree) -> Phases:
            return Phases(jax.vmap(relative_residual)(new, old), energies(new, betas))

        return systems.follow(objective.nudged(targets, betas), states, order, count, tell)

    start = initial_states(energy, jax.random.key(0), params, x)
    ends, free = follow(jax.tree.map(lambda s: s[None], start), jnp.zeros(1), counts[0])
    both = jax.tree.map(lambda s: jnp.concatenate([s, s]), ends)
    betas = jnp.asarray([beta, -beta])
    return free, follow(both, betas, counts[1])[1], energies(both, betas)


def measure_signal(run: runs.Run, scale: Scale, folder) -> dict[str, Any]:
    """Both orders for one signal: mean and deviation of the energy, mean residual, per step."""
    mine = systems.system(run)
    settings, params = mine.settings, mine.initial()
    if scale.trained:
        params = systems.weights(run, folder, [settings.epochs])[settings.epochs]
    trained_in = runs.teacher_place(run, folder) if scale.trained and settings.teacher else None
    teacher = systems.teacher(mine, trained_in)
    found: dict[str, Any] = {}
    for order, advance in ORDERS.items():
        counts = (settings.t_free // advance, settings.t_nudge // advance)
        go = jax.jit(functools.partial(settle, mine.energy, order=order, counts=counts))
        parts = []
        for first in range(0, scale.images, scale.batch):
            batch = mine.batch(scale.batch, teacher, first)
            parts.append(jax.device_get(go(params, batch, beta=settings.beta)))
        found[order] = {"steps_per_pass": advance, **_summary(parts)}
    return found


def _summary(parts: list[Any]) -> dict[str, Any]:
    """Statistics of the batches' phases by step."""
    free, nudged, before = zip(*parts, strict=True)
    found = {"free": _statistics(free, 0)}
    start = np.concatenate(before, axis=-1)
    for place, sign in enumerate(SIGNS):
        changes = np.concatenate([p.energy for p in nudged], axis=-1)[:, place] - start[place]
        found[sign] = {
            **_statistics(nudged, place),
            "change": changes.mean(-1),
            "change_deviation": changes.std(-1),
        }
    return found


def _statistics(batches: Any, place: int) -> dict[str, np.ndarray]:
    energies = np.concatenate([phases.energy for phases in batches], axis=-1)[:, place]
    residuals = np.mean([phases.residual for phases in batches], axis=0)[:, place]
    return {"residual": residuals, "energy": energies.mean(-1), "deviation": energies.std(-1)}


def measure(options: Options) -> Result:
    """Trains at paper scale, and follows the phases of both signals."""
    scale = SCALES[options.scale]
    chosen = {signal: scale.net[signal] for signal in SIGNALS}
    result: Result = {"images": scale.images, "trained": scale.trained, "signals": {}}
    if scale.trained:
        result["runs"] = runs.train_all(options, chosen)
    for signal, run in chosen.items():
        result["signals"][signal] = {
            "config": run.config,
            "changes": run.changes,
            "beta": runs.settings_of(run).beta,
            "orders": measure_signal(run, scale, options.runs),
        }
        options.keep(result, finished=False)
    return result


def settled_after(phase: dict[str, Any], advance: int) -> int:
    """Synchronous steps, two for a sweep, until the energy stays within 1 % of its end."""
    energy = np.asarray(phase["energy"])
    gap = np.abs(energy - energy[-1])
    outside = np.flatnonzero(gap > SETTLED * gap.max())
    return int(advance * (outside[-1] + 2)) if len(outside) else advance


def _steps(phases: dict[str, Any], phase: str) -> int:
    """Synchronous steps of a phase."""
    return phases["steps_per_pass"] * len(phases[phase]["residual"])


def _each(result: Result) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for signal, found in result["signals"].items():
        for order, phases in found["orders"].items():
            yield signal, order, phases


def table(result: Result) -> str:
    """Residual at the end of each phase, and when the energies of the nudged ones settle."""
    rows = []
    for signal, order, phases in _each(result):
        steps = f"{_steps(phases, 'free')} / {_steps(phases, 'positive')}"
        ends = [f"{phases[p]['residual'][-1]:.1e}" for p in ("free", *SIGNS)]
        settled = [settled_after(phases[sign], phases["steps_per_pass"]) for sign in SIGNS]
        rows.append([signal, order, steps, *ends, *settled])
    header = ["signal", "order", "steps, free / nudged", "residual, free", "POS", "NEG"]
    header += ["energy settled, POS, steps", "NEG, steps"]
    return show.markdown(header, rows)


def claims(result: Result) -> Claims:
    """The energy settles; what is left of the residuals."""
    shares = [
        settled_after(phases[sign], phases["steps_per_pass"]) / _steps(phases, sign)
        for _, _, phases in _each(result)
        for sign in SIGNS
    ]
    here = f"over {result['images']} images the mean stays within 1 % of its change from its end "
    here += f"after {show.between(show.percents(shares), '.0f')} % of the steps"
    statement = "The energy has settled well before a nudged phase ends"
    yield Claim(statement, "it has (25th epoch)", here, max(shares) <= EARLY)
    here = "trained" if result["trained"] else "weights and teacher as drawn"
    yield Claim("It is measured with trained weights", "25th epoch", here, result["trained"])
    for order in ORDERS:
        mine = [phases for _, o, phases in _each(result) if o == order]
        free = [phases["free"]["residual"][-1] for phases in mine]
        nudged = [phases[sign]["residual"][-1] for phases in mine for sign in SIGNS]
        here = f"free {show.between(free, '.0e')}, nudged {show.between(nudged, '.0e')}"
        yield Claim(f"Residuals at the ends of the {order} phases", "not shown", here)


def draw(result: Result):
    """Energies of the nudged phases by signal and sign; residuals of all phases.

    Images differ in their energy by far more than a phase moves it, so the change is drawn.
    """
    own: dict[str, Any] = {"xlabel": "synchronous steps (a sweep is two)", "legend": "best"}
    rows = []
    for signal, found in result["signals"].items():
        panels, orders = [], found["orders"].items()
        for sign, short in SIGNS.items():
            last = found["orders"]["alternating"][sign]
            ends = f"{last['energy'][-1]:.0f} ± {last['deviation'][-1]:.0f}"
            title = f"{signal}-{short}, |β| = {found['beta']}: ends at {ends}"
            parts = [_change(phases, sign, order, show.COLORS[signal]) for order, phases in orders]
            panels.append(show.Panel(title, parts, "change of ½‖ξ‖² − Φ_Aug per image", **own))
        for title, names in (("free phase", ["free"]), ("nudged phases", list(SIGNS))):
            parts = [_residual(phases, name, order) for order, phases in orders for name in names]
            title = f"{signal}: {title}"
            panels.append(show.Panel(title, parts, "‖F(ξ) − ξ‖ / ‖ξ‖", log="y", **own))
        rows.append(panels)
    return show.figure(rows)


def _residual(phases: dict[str, Any], name: str, order: str) -> show.Part:
    values = phases[name]["residual"]
    label = f"{order}, {SIGNS[name]}" if name in SIGNS else order
    steps = phases["steps_per_pass"] * np.arange(1, len(values) + 1)
    return show.line(label, values, steps, STYLES[order], color=COLORS[name])


def _change(phases: dict[str, Any], sign: str, order: str, color: str) -> show.Part:
    """The mean over the images from 0, of the synchronous phase with the deviation shaded."""
    change, spread = (np.asarray([0, *phases[sign][k]]) for k in ("change", "change_deviation"))
    steps = phases["steps_per_pass"] * np.arange(len(change))

    def part(axis) -> None:
        axis.plot(steps, change, STYLES[order], color=color, label=order)
        if order == "synchronous":
            low, high = change - spread, change + spread
            axis.fill_between(steps, low, high, color=color, alpha=0.15, lw=0)

    return part
