"""Eq. 6 and Theorem 3.2 in float64.

EP against the exact gradient (implicit, at the converged equilibrium) and against backpropagation
through time: for each layer, for each number of nudged steps, and over β with the slope of the
error. Random weights; the targets of KD and KDW are random features: the theorems ask for no more.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from benchmarks.shared import runs, show, systems
from benchmarks.shared.nets import chain
from benchmarks.shared.results import Claim, Claims, Options, Result
from jaxep import BPTT, EP, Fixed, Implicit, Tolerance, centered, one_sided
from jaxep.training.networks import signal_layers

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
Parts = dict[str, jax.Array]


class Scale(NamedTuple):
    """Which net, how many images, which β, and how many nudged steps are looked at."""

    run: runs.Run
    images: int
    betas: tuple[float, ...]
    steps: tuple[int, ...]
    bptt_steps: int


_untrained = functools.partial(chain, "digits_le", rates=(0.0, 0.0))
_TINY = _untrained("4 M 5 M", hidden=(6,), signal_layers=(0, 1), train_size=60)
_NARROW = _untrained("8 M 12 12 M", hidden=(16,), signal_layers=(0, 2))
_BETAS = tuple(float(b) for b in np.logspace(-4, 0, 13))
SCALES = {
    "tiny": Scale(_TINY, 2, (1e-3, 2e-3, 4e-3), (1, 3), 60),
    "small": Scale(_NARROW, 4, _BETAS, (1, 2, 3, 4, 6, 8, 16, 32), 400),
    "paper": Scale(runs.Run("vgg7_le"), 8, _BETAS, (1, 2, 4, 8, 16, 32, 50), 1000),
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
    net = systems.model(scale.run)
    layers = signal_layers(runs.settings_of(scale.run), net)
    own = [net.network.shapes[layer] for layer in layers]
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
    return {name: ravel_pytree(named[name])[0] for name in order}


def compare(estimate: Parts, exact: Parts) -> dict[str, Any]:
    """Cosine and relative error ||a - b|| / ||b|| of each part, and the error of all together."""
    return {
        "cosine": {name: systems.cosine(estimate[name], b) for name, b in exact.items()},
        "error": {name: systems.error(estimate[name], b) for name, b in exact.items()},
        "error_of_all": systems.error(estimate, exact),
    }


def measure_signal(scale: Scale, kind: str) -> dict[str, Any]:
    """All comparisons for one signal."""
    mine, params, batch = problem(scale, kind)

    def gradient(build: Callable[..., Any]) -> Callable[..., Parts]:
        """Of the estimator that is built from traced numbers: one compilation serves all."""

        @jax.jit
        def compiled(*numbers) -> Any:
            estimator = build(*numbers)
            return estimator.value_and_grad(mine.energy)(params, batch, jax.random.key(0))[1]

        return lambda *numbers: parts(compiled(*numbers), mine.model.weight_names)

    at = {
        name: gradient(lambda b, s=s: EP(b, TIGHT, TIGHT, s)) for name, (s, _) in STENCILS.items()
    }
    after = gradient(lambda steps: EP(SMALL_BETA, TIGHT, Fixed(steps)))

    def through(steps: int) -> Parts:
        return gradient(lambda: BPTT(Fixed(scale.bptt_steps), steps))()

    exact = gradient(lambda: Implicit(TIGHT, tol=1e-14, steps=2000))()
    errors = {
        name: [compare(of(beta), exact)["error_of_all"] for beta in scale.betas]
        for name, of in at.items()
    }
    full, estimate = through(scale.bptt_steps), at["centered"](SMALL_BETA)
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
                "ep_against_bptt": compare(after(steps), through(steps)),
                "ep_against_exact": compare(after(steps), exact),
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
