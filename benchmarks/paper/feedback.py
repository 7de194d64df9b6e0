"""What weak feedback buys and costs (Liu & Chen 2025, arXiv 2508.11659), on MLPs of 64 a layer.

Each step down is weaker than the step up by a ratio. Free phases: sweeps to a tolerance, with and
without over-relaxation. Gradients by layer: EP with λ in float32 and float64 against the exact one,
and the update of the paper, which has no λ. Training on digits with λ, and without.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.shared import runs, show, systems
from benchmarks.shared.results import Claim, Claims, Options, Result
from jaxep import Implicit, Tolerance
from jaxep.core.objective import free_objective
from jaxep.core.solvers import relative_residual
from jaxep.core.sweep import Sweep
from jaxep.energies.feedback import layer_weights
from jaxep.training.dynamics import build_estimator

SHALLOW, DEEP = "5 layers", "12 layers"
HIDDEN = {SHALLOW: (64,) * 4, DEEP: (64,) * 11}
RATIOS = (1.0, 0.5, 0.2, 0.1)
# Of the comparison by layer; with more feedback the net has several equilibria.
BY_LAYER = (0.3, 0.2, 0.1)
TOLERANCES = ("1e-03", "1e-06")
PLAIN, RELAXED = "1", "1.7"
# Without λ the early layers learn less, so that all together stand a higher rate.
RATE, RATE_WITHOUT = 0.01, 0.03
TIGHT = Tolerance(2000, "alternating", tol=1e-14)
COLORS = {SHALLOW: "tab:blue", DEEP: "tab:red", "0.3": "C0", "0.2": "C2", "0.1": "C3"}


class Scale(NamedTuple):
    """The runs' config with what is changed, sweeps at most and images of what is measured here."""

    run: runs.Run
    ratios: tuple[float, ...]
    sweeps: int
    images: int


_RUN = runs.Run("digits_feedback", {"epochs": 12})
SCALES = {
    "tiny": Scale(runs.shrink(_RUN), (1.0, 0.1), 60, 8),
    "small": Scale(_RUN, RATIOS, 500, 64),
    "paper": Scale(_RUN.but(epochs=40), RATIOS, 2000, 256),
}


def of_net(scale: Scale, depth: str, ratio: float) -> runs.Run:
    """The run of one net; a readout follows the hidden layers."""
    return scale.run.but(hidden=HIDDEN[depth], feedback=ratio)


def specs(scale: str) -> dict[str, runs.Run]:
    """All runs, named "DEPTH, WITH OR WITHOUT λ, RATIO": without, rates are divided by λ."""
    chosen, named = SCALES[scale], {}
    for ratio in chosen.ratios:
        for depth in HIDDEN:
            run = of_net(chosen, depth, ratio)
            named[f"{depth}, with λ, {ratio:g}"] = run.but(learning_rates=RATE)
        if ratio < 1:
            weights = layer_weights(systems.model(run).network, ratio).values()
            rates = (*(RATE_WITHOUT / weight for weight in weights), RATE_WITHOUT)
            named[f"{DEEP}, without λ, {ratio:g}"] = run.but(learning_rates=rates)
    return named


def sweeps_to(mine: systems.System, relaxation: float, scale: Scale) -> dict[str, int | None]:
    """Alternating sweeps of the free phase until the residual is under each tolerance."""
    params, (x, _) = mine.initial(), mine.batch(scale.images)

    @jax.jit
    def residuals() -> jax.Array:
        start = mine.energy.init_states(jax.random.key(0), params, x)
        objective = free_objective(mine.energy, params, x)
        sweep = Sweep.over(objective, start, "alternating", relaxation)

        def body(old: Any, _: None) -> tuple[Any, jax.Array]:
            new = sweep(old)
            return new, relative_residual(new, old, relaxation)

        return jax.lax.scan(body, start, length=scale.sweeps)[1]

    found = np.asarray(residuals())
    under = {tol: np.flatnonzero(found < float(tol)) for tol in TOLERANCES}
    return {tol: int(places[0]) + 1 if len(places) else None for tol, places in under.items()}


def by_layer(mine: systems.System, images: int) -> dict[str, list[float]]:
    """Cosines of EP's estimates and of the paper's update to the exact gradient, and its size."""
    estimate = jax.jit(build_estimator(mine.settings).value_and_grad(mine.energy))
    params, batch, key = mine.initial(), mine.batch(images), jax.random.key(0)
    single = estimate(params, batch, key)[1]["edges"]
    with jax.enable_x64(True):
        params, batch = systems.as_float64((params, batch))
        exact = jax.jit(Implicit(TIGHT, tol=1e-13, steps=2000).value_and_grad(mine.energy))
        wanted = exact(params, batch, key)[1]["edges"]
        _, grads, aux = estimate(params, batch, key)
        below = batch[0].reshape(images, -1)
        found: dict[str, list[float]] = {k: [] for k in ("float32", "float64", "paper", "size")}
        for name in mine.model.network.layer_names:
            moved = (aux.nudged.states[name][0] - aux.nudged.states[name][1]) / 2
            update = -below.T @ moved / mine.settings.beta / images
            kernel, below = wanted[name]["kernel"], aux.free.states[name]
            found["float32"].append(
                systems.cosine(systems.as_float64(single)[name]["kernel"], kernel)
            )
            found["float64"].append(systems.cosine(grads["edges"][name]["kernel"], kernel))
            found["paper"].append(systems.cosine(update, kernel))
            found["size"].append(float(jnp.linalg.norm(update) / jnp.linalg.norm(kernel)))
    return found


def measure(options: Options) -> Result:
    """All runs, free phases, and gradients by layer."""
    scale = SCALES[options.scale]
    rows = runs.train_all(options, specs(options.scale))
    result: Result = {
        "runs": rows,
        "images": scale.images,
        "most_sweeps": scale.sweeps,
        "sweeps": {},
    }
    for depth in HIDDEN:
        for ratio in scale.ratios:
            mine = systems.system(of_net(scale, depth, ratio))
            row = {w: sweeps_to(mine, float(w), scale) for w in (PLAIN, RELAXED)}
            result["sweeps"].setdefault(depth, {})[f"{ratio:g}"] = row
    nets = {r: systems.system(of_net(scale, DEEP, r)) for r in BY_LAYER}
    result["layers"] = {f"{r:g}": by_layer(mine, scale.images) for r, mine in nets.items()}
    result["names"] = list(mine.model.network.layer_names)
    return result


def _count(sweeps: int | None, most: int) -> str:
    return f"over {most}" if sweeps is None else str(sweeps)


def table(result: Result) -> str:
    """By depth and ratio: sweeps of the free phase, and what was trained with and without λ."""
    trained, most, rows = runs.by_last_part(result["runs"]), result["most_sweeps"], []
    for depth, of_ratio in result["sweeps"].items():
        for ratio, found in of_ratio.items():
            counts = [_count(found[w][tol], most) for w in (PLAIN, RELAXED) for tol in TOLERANCES]
            (row,) = trained[f"{depth}, with λ"][ratio]
            last = f"{row['free_steps'][-1]:.0f} + {row['nudge_steps'][-1]:.0f}"
            without = trained.get(f"{depth}, without λ", {}).get(ratio)
            cell = show.percent(runs.accuracies(without)) if without else ""
            accuracy = show.percent(runs.accuracies([row]))
            rows.append([depth, ratio, *counts, last, accuracy, cell])
    header = ["net", "ratio", *(f"sweeps to {float(tol):g}, ω 1" for tol in TOLERANCES)]
    header += [f"{float(tol):g}, ω 1.7" for tol in TOLERANCES]
    header += ["sweeps in training, last epoch", "test, %", "test without λ, %"]
    return show.markdown(header, rows)


def claims(result: Result) -> Claims:
    """Fewer sweeps, an exact gradient, what float32 loses, and what trains."""
    sweeps, most = result["sweeps"], result["most_sweeps"]
    ends = {depth: (list(found)[0], list(found)[-1]) for depth, found in sweeps.items()}

    def told(omega: str, tol: str) -> tuple[str, list[tuple[float, float]]]:
        pairs = [[sweeps[d][r][omega][tol] for r in ends[d]] for d in sweeps]
        here = ", ".join(
            f"{d}: {_count(a, most)} to {_count(b, most)}"
            for d, (a, b) in zip(sweeps, pairs, strict=True)
        )
        return here, [(a or np.inf, b or np.inf) for a, b in pairs]

    first, last = ends[DEEP]
    here, pairs = told(PLAIN, TOLERANCES[0])
    statement = f"Ratio {last} needs fewer plain sweeps than ratio {first}, to 0.001"
    yield Claim(statement, "it converges sooner", here, all(b < a for a, b in pairs))
    here, pairs = told(RELAXED, TOLERANCES[0])
    statement = "Over-relaxed by ω = 1.7, the default, it does not"
    yield Claim(statement, "not in the paper", here, all(b >= a for a, b in pairs))
    layers = result["layers"]
    least = {r: (min(v["float64"]), min(_known(v["float32"]))) for r, v in layers.items()}
    statement = "With λ, EP is the exact gradient in every layer, in float64 and as trained"
    here = ", ".join(f"ratio {r}: cosine from {double:.3f}" for r, (double, _) in least.items())
    yield Claim(
        statement,
        "claimed here; the paper has no λ",
        here,
        min(d for d, _ in least.values()) > 0.95,
    )
    statement = "In float32 too"
    here = ", ".join(f"ratio {r}: cosine from {single:.3f}" for r, (_, single) in least.items())
    yield Claim(statement, "not in the paper: λ multiplies the rounding", here)
    trained = runs.by_last_part(result["runs"])
    accuracy = {
        name: {r: runs.accuracies(rows)[0] for r, rows in found.items()}
        for name, found in trained.items()
    }
    deep, without = accuracy[f"{DEEP}, with λ"], accuracy[f"{DEEP}, without λ"]
    best = max(deep, key=lambda r: deep[r])
    statement = f"{DEEP} train with weak feedback and not with full"
    here = f"{100 * deep[best]:.1f} % at ratio {best}, {100 * deep[first]:.1f} % at {first}"
    yield Claim(statement, "the best ratio is about 0.1", here, deep[best] > deep[first] + 0.1)
    statement = "There λ teaches the early layers what the update without it does not"
    other = max(without, key=lambda r: without[r])
    here = f"best without {100 * without[other]:.1f} %, at ratio {other}"
    yield Claim(statement, "gradients vanish with depth", here, deep[best] > without[other])


def _known(values: list[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def draw(result: Result):
    """Sweeps and accuracy over the ratio; cosines and sizes by layer."""
    settling: list[show.Part] = []
    for depth, of_ratio in result["sweeps"].items():
        ratios = [float(ratio) for ratio in of_ratio]
        for omega, style in ((PLAIN, "o-"), (RELAXED, "x--")):
            for tol, shade in zip(TOLERANCES, (1.0, 0.45), strict=True):
                counts = [found[omega][tol] for found in of_ratio.values()]
                label = f"{depth}, ω {omega}, to {float(tol):g}"
                more: Any = {"color": COLORS[depth], "alpha": shade, "ms": 4}
                settling.append(show.line(label, counts, ratios, style, **more))
    training = []
    for name, found in runs.by_last_part(result["runs"]).items():
        values = [runs.accuracies(rows)[0] for rows in found.values()]
        style = "o-" if name.endswith("with λ") else "x--"
        color = COLORS[name.split(",")[0]]
        ratios = [float(ratio) for ratio in found]
        training.append(show.line(name, show.percents(values), ratios, style, color=color))
    cosines: list[show.Part] = []
    sizes: list[show.Part] = []
    names = result["names"]
    for ratio, found in result["layers"].items():
        for kind, style in (("float64", "-"), ("float32", "o--")):
            label, color = f"ratio {ratio}, {kind}", COLORS[ratio]
            cosines.append(
                show.line(label, found[kind], range(len(names)), style, ms=3, color=color)
            )
        powers = [float(ratio) ** above for above in reversed(range(len(names)))]
        sizes.append(
            show.line(f"ratio {ratio}", found["size"], range(len(names)), "o", color=color)
        )
        sizes.append(show.line(None, powers, range(len(names)), ":", color=color))
    sizes.append(show.line("1/λ", [], [], ":", color="0.45"))
    update, learned = "‖paper's update‖ / ‖exact‖", "test accuracy, %"
    panels = [
        show.Panel(
            "free phase", settling, "sweeps", "ratio", "xy", ticks=RATIOS, legend="upper left"
        ),
        show.Panel(
            "digits", training, learned, "ratio", "x", (0, 100), RATIOS, legend="lower center"
        ),
        show.Panel(
            f"EP with λ, {DEEP}", cosines, "cosine to exact", "", ticks=names, legend="lower right"
        ),
        show.Panel(
            f"update without λ, {DEEP}", sizes, update, "", "y", ticks=names, legend="lower right"
        ),
    ]
    return show.figure([panels[:2], panels[2:]], size=(5.6, 4.0))
