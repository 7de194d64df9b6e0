"""Eq. 6 and Theorem 3.2 in float64.

EP against the exact gradient (implicit, at the converged equilibrium) and against backpropagation
through time: for each layer, for each number of nudged steps, and over β with the slope of the
error. Random weights; the targets of KD and KDW are random features: the theorems ask for no more.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.shared import runs, show, systems
from benchmarks.shared.results import Claim, Claims, Options, Result
from jaxep import BPTT, EP, Fixed, Implicit, Tolerance, centered, one_sided

SIGNALS = tuple(show.COLORS)
# By name, with the power of β that the error falls as.
STENCILS = {"centered": (centered, 2), "one_sided": (one_sided, 1)}
ALLOWED = 0.2
KAPPA = 0.7
# Of the comparison by layer and by step: small enough that the error of β itself is out of sight.
SMALL_BETA = 1e-4
# Synchronous everywhere, as BPTT is: alternating sweeps can end in another equilibrium, and of a
# tiny net with random weights they did.
TIGHT = Tolerance(4000, tol=1e-15)
# Where the slope is fitted. For larger β units reach the corners of σ and pools switch; for smaller
# β the rounding of the phases, divided by β, is as large as the centered error.
FITTED = (4e-4, 4e-3)
Parts = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Scale:
    """Which net, how many images, which β, and how many nudged steps are looked at."""

    run: runs.Run
    layers: tuple[int, ...]
    images: int
    betas: tuple[float, ...]
    steps: tuple[int, ...]
    bptt_steps: int


_TINY = {"conv": "4 M 5 M", "hidden": (6,), "learning_rates": (0.0,) * 4, "signal_layers": (0, 1)}
_NARROW = {"conv": "8 M 12 12 M", "hidden": (16,), "learning_rates": (0.0,) * 5}
_BETAS = tuple(float(b) for b in np.logspace(-4, 0, 13))
SCALES = {
    "tiny": Scale(
        runs.Run("digits_le", {**_TINY, "train_size": 60}),
        (0, 1),
        2,
        (1e-3, 2e-3, 4e-3),
        (1, 3),
        60,
    ),
    "small": Scale(
        runs.Run("digits_le", {**_NARROW, "signal_layers": (0, 2)}),
        (0, 2),
        4,
        _BETAS,
        (1, 2, 3, 4, 6, 8, 16, 32),
        400,
    ),
    "paper": Scale(runs.Run("vgg7_le"), (2, 4), 8, _BETAS, (1, 2, 4, 8, 16, 32, 50), 1000),
}


def slope(betas: Sequence[float], errors: Sequence[float]) -> float:
    """Exponent p of error ~ β^p, by least squares of the logarithms over β in `FITTED`."""
    least, most = FITTED
    fitted = [(b, e) for b, e in zip(betas, errors, strict=True) if least <= b <= most]
    logs = np.log(np.array(fitted))
    return float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])


def problem(scale: Scale, kind: str) -> tuple[systems.System, Any, Any]:
    """(system, parameters, batch) in float64, for the signal `kind`."""
    changes: dict[str, Any] = {"augment": False}
    if kind == "STD":
        changes |= {"signal": "none", "signal_layers": ()}
    if kind in ("KD", "KDW"):
        changes |= {"signal": kind.lower(), "teacher": "configs/teacher_digits.py"}
    own = [list(systems.model(scale.run).network.shapes.values())[i] for i in scale.layers]
    # KDW maps to another shape than the student's: half the channels.
    shapes = tuple((*s[:-1], max(s[-1] // 2, 1)) if kind == "KDW" else s for s in own)
    mine = systems.system(scale.run.but(**changes), shapes)

    def features(images) -> tuple[jax.Array, ...]:
        drawn = zip(jax.random.split(jax.random.key(1), len(shapes)), shapes, strict=True)
        return tuple(jax.random.normal(k, (len(images), *s), jnp.float64) for k, s in drawn)

    x, targets = mine.batch(scale.images, features if "teacher" in changes else systems.silent)
    params = systems.as_float64(mine.initial())
    # Biases of 0.3 keep most units off the corners of σ, where Φ has no derivative.
    edges = {name: {**e, "bias": e["bias"] + 0.3} for name, e in params["edges"].items()}
    targets = targets._replace(kappa=jnp.asarray(KAPPA, jnp.float64))
    return mine, {**params, "edges": edges}, (x.astype(jnp.float64), targets)


def parts(grads: dict[str, Any], names: Sequence[str]) -> Parts:
    """The gradient of each weighted layer, and of each readout or map of a signal, flat."""
    named = {**grads["edges"], **grads["heads"]}
    order = [*names, *(name for name in named if name not in names)]
    return {
        name: np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(named[name])])
        for name in order
    }


def compare(estimate: Parts, exact: Parts) -> dict[str, Any]:
    """Cosine and relative error ||a - b|| / ||b|| of each part, and the error of all together."""
    pairs = {name: (estimate[name], exact[name]) for name in exact}
    every = [np.concatenate(side) for side in zip(*pairs.values(), strict=True)]
    return {
        "cosine": {name: float(_cosine(a, b)) for name, (a, b) in pairs.items()},
        "error": {name: _error(a, b) for name, (a, b) in pairs.items()},
        "error_of_all": _error(*every),
    }


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return a @ b / (np.linalg.norm(a) * np.linalg.norm(b) or math.nan)


def _error(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / (np.linalg.norm(b) or math.nan))


def measure_signal(scale: Scale, kind: str) -> dict[str, Any]:
    """All comparisons for one signal."""
    mine, params, batch = problem(scale, kind)

    def gradient(estimator) -> Any:
        return estimator.value_and_grad(mine.energy)(params, batch, jax.random.key(0))[1]

    def flat(grads) -> Parts:
        return parts(grads, mine.model.weight_names)

    # β and the nudged steps are traced: one compilation serves all of them.
    @functools.partial(jax.jit, static_argnums=1)
    def at(beta, stencil):
        return gradient(EP(beta, TIGHT, TIGHT, stencil))

    @jax.jit
    def after(steps):
        return gradient(EP(SMALL_BETA, TIGHT, Fixed(steps)))

    def through(steps: int) -> Parts:
        return flat(jax.jit(lambda: gradient(BPTT(Fixed(scale.bptt_steps), steps)))())

    exact = flat(jax.jit(lambda: gradient(Implicit(TIGHT, tol=1e-14, steps=2000)))())
    errors = {
        name: [compare(flat(at(b, stencil)), exact)["error_of_all"] for b in scale.betas]
        for name, (stencil, _) in STENCILS.items()
    }
    full, estimate = through(scale.bptt_steps), flat(at(SMALL_BETA, centered))
    return {
        "betas": list(scale.betas),
        "errors": errors,
        "slopes": {name: slope(scale.betas, values) for name, values in errors.items()},
        "ep_against_exact": compare(estimate, exact),
        "ep_against_bptt": compare(estimate, full),
        "bptt_against_exact": compare(full, exact),
        # After n synchronous nudged steps EP, and through the last n free steps BPTT, is the same
        # partial sum of the Neumann series of the exact gradient (Ernoult et al. 2019).
        "by_step": [
            {
                "steps": steps,
                "ep_against_bptt": compare(flat(after(steps)), through(steps)),
                "ep_against_exact": compare(flat(after(steps)), exact),
            }
            for steps in scale.steps
        ],
    }


def measure(options: Options) -> Result:
    """All signals, one after the other."""
    jax.config.update("jax_enable_x64", True)
    scale = SCALES[options.scale]
    result: Result = {"config": runs.to_dict(runs.settings_of(scale.run)), "images": scale.images}
    result |= {"kappa": KAPPA, "small_beta": SMALL_BETA, "fitted": FITTED, "signals": {}}
    for kind in SIGNALS:
        result["signals"][kind] = measure_signal(scale, kind)
        options.keep(result, finished=False)
    return result


def worst(comparison: dict[str, Any]) -> tuple[float, float]:
    """(smallest cosine, largest relative error) over the layers; None is a part without one."""
    known = [v for v in comparison["cosine"].values() if v is not None]
    return min(known), max(v for v in comparison["error"].values() if v is not None)


def worst_step(found: dict[str, Any]) -> float:
    """Largest relative error to BPTT over layers and numbers of steps."""
    return max(worst(row["ep_against_bptt"])[1] for row in found["by_step"])


def table(result: Result) -> str:
    """Slopes, and the worst layer of each comparison."""
    rows = []
    for signal, found in result["signals"].items():
        cells = [f"{found['slopes'][name]:.3f}" for name in STENCILS]
        for key in ("ep_against_exact", "ep_against_bptt"):
            cosine, error = worst(found[key])
            cells += [f"1 − {1 - cosine:.0e}", f"{error:.0e}"]
        rows.append([signal, *cells, f"{worst_step(found):.0e}"])
    header = ["signal", "slope, centered", "slope, one-sided", "EP, exact: cosine", "error"]
    header += ["EP, BPTT: cosine", "error", "EP, BPTT by step: error"]
    return show.markdown(header, rows)


def claims(result: Result) -> Claims:
    """The orders of the error in β, and that EP equals the exact gradient and BPTT."""
    signals = result["signals"].values()
    for name, (_, order) in STENCILS.items():
        slopes = [found["slopes"][name] for found in signals]
        statement = f"{name.replace('_', '-')}: the error falls as β to the power {order}"
        here = f"{show.between(slopes, '.3f')}, β from {' to '.join(map(str, result['fitted']))}"
        holds = all(abs(slope - order) <= ALLOWED for slope in slopes)
        yield Claim(statement, "for small β, away from the corners of σ", here, holds)
    cosine = min(worst(found["ep_against_exact"])[0] for found in signals)
    statement = f"At β = {result['small_beta']} every layer's estimate is along the exact gradient"
    here = f"cosines of at least 1 − {1 - cosine:.0e}"
    yield Claim(statement, "equal in the limit (eq. 6)", here, cosine > 1 - 1e-6)
    error = max(worst_step(found) for found in signals)
    statement, here = "After n nudged steps EP equals BPTT through n", f"to {error:.0e}, relative"
    yield Claim(statement, "equal (Theorem 3.2)", here, error < 1e-4)


def draw(result: Result):
    """Error over β, by layer, and by nudged step."""
    over_beta: list[show.Part] = []
    by_layer, by_step = list(over_beta), list(over_beta)
    # Without the maps of the signals, which not every net has.
    layers = list(result["signals"]["STD"]["ep_against_exact"]["error"])
    for signal, found in result["signals"].items():
        color = {"color": show.COLORS[signal]}
        for name, style in (("centered", ".-"), ("one_sided", ".--")):
            errors = found["errors"][name]
            over_beta.append(show.line(None, errors, found["betas"], style, ms=4, **color))
        steps = [row["steps"] for row in found["by_step"]]
        for key, style, mark in (("ep_against_exact", "o-", "-"), ("ep_against_bptt", "x", "x")):
            errors = [found[key]["error"][name] for name in layers]
            label = signal if mark == "-" else None
            by_layer.append(show.line(label, errors, range(len(layers)), style, ms=4, **color))
            errors = [row[key]["error_of_all"] for row in found["by_step"]]
            by_step.append(show.line(None, errors, steps, mark, **color))
    over_beta += [show.line("centered", [], [], "k-"), show.line("one-sided", [], [], "k--")]
    told: Any = {"color": "0.45", "alpha": 0.15, "lw": 0, "label": "fitted"}
    over_beta.append(lambda axis: axis.axvspan(*result["fitted"], **told))
    by_layer.append(show.line("against BPTT (lines: against exact)", [], [], "kx"))
    error, title = "relative error of EP", f"by layer, β = {result['small_beta']}"
    panels = [
        show.Panel("error over β", over_beta, error, "β", "xy", legend="lower right"),
        show.Panel(title, by_layer, error, "", "y", ticks=layers),
        show.Panel("by nudged step", by_step, error, "nudged steps", "y"),
    ]
    return show.figure([panels], legend=5, of=1)
