"""Eq. 6 and Theorem 3.2 in float64. python -m benchmarks.gradients [--scale small|paper]

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

from benchmarks import gradients_report, runs, systems
from benchmarks.show import COLORS
from jaxep import BPTT, EP, Fixed, Implicit, Tolerance, centered, one_sided

SIGNALS = tuple(COLORS)
VARIANTS = {"centered": centered, "one_sided": one_sided}
KAPPA = 0.7
# Of the comparison by layer and by step: small enough that the error of β itself is out of sight.
SMALL_BETA = 1e-4
# Synchronous everywhere, as BPTT is: alternating sweeps can end in another equilibrium, and of a
# tiny net with random weights they did.
TIGHT = Tolerance(4000, tol=1e-15)


@dataclasses.dataclass(frozen=True)
class Scale:
    """Which net, how many images, which β, and how many nudged steps are looked at."""

    run: runs.Run
    layers: tuple[int, ...]
    images: int
    betas: tuple[float, ...]
    steps: tuple[int, ...]
    bptt_steps: int


_TINY = runs.Run(
    "digits_le",
    {
        "conv": "4 M 5 M",
        "hidden": (6,),
        "learning_rates": (0.0,) * 4,
        "signal_layers": (0, 1),
        "train_size": 60,
    },
)
_NARROW = {"conv": "8 M 12 12 M", "hidden": (16,), "learning_rates": (0.0,) * 5}
SCALES = {
    "tiny": Scale(_TINY, (0, 1), 2, (1e-3, 2e-3, 4e-3), (1, 3), 60),
    "small": Scale(
        runs.Run("digits_le", {**_NARROW, "signal_layers": (0, 2)}),
        (0, 2),
        4,
        tuple(float(b) for b in np.logspace(-4, 0, 13)),
        (1, 2, 3, 4, 6, 8, 16, 32),
        400,
    ),
    "paper": Scale(
        runs.Run("vgg7_le"),
        (2, 4),
        8,
        tuple(float(b) for b in np.logspace(-4, 0, 13)),
        (1, 2, 4, 8, 16, 32, 50),
        1000,
    ),
}
# Where the slope is fitted. For larger β units reach the corners of σ and pools switch; for smaller
# β the rounding of the phases, divided by β, is as large as the centered error.
FITTED = (4e-4, 4e-3)


def slope(betas: Sequence[float], errors: Sequence[float]) -> float:
    """Exponent p of error ~ β^p, by least squares of the logarithms over β in `FITTED`."""
    least, most = FITTED
    fitted = [(b, e) for b, e in zip(betas, errors, strict=True) if least <= b <= most]
    logs = np.log(np.array(fitted))
    return float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])


def problem(scale: Scale, kind: str) -> tuple[Any, Any, Any]:
    """(energy, parameters, batch) in float64, for the signal `kind`."""
    chosen = {"STD": {"signal": "none", "signal_layers": ()}}.get(kind, {})
    if kind in ("KD", "KDW"):
        chosen = {"signal": kind.lower(), "teacher": "configs/teacher_digits.py"}
    run = scale.run.but(**{"augment": False, **chosen})
    network = systems.system(scale.run).network
    own = [network.state_shapes[layer] for layer in scale.layers]
    # KDW maps to another shape than the student's: half the channels.
    shapes = tuple((*s[:-1], max(s[-1] // 2, 1)) for s in own) if kind == "KDW" else tuple(own)
    mine = systems.system(run, shapes)
    keys = jax.random.split(jax.random.key(1), len(shapes))
    features: tuple = ()
    if kind in ("KD", "KDW"):
        features = tuple(
            jax.random.normal(key, (scale.images, *shape), jnp.float64)
            for key, shape in zip(keys, shapes, strict=True)
        )
    x, targets = mine.batch(scale.images, lambda images: features)
    params = systems.as_float64(mine.initial())
    # Biases of 0.3 keep most units off the corners of σ, where Φ has no derivative.
    layers = tuple({**layer, "bias": layer["bias"] + 0.3} for layer in params["layers"])
    targets = targets._replace(kappa=jnp.asarray(KAPPA, jnp.float64))
    return mine.model, {**params, "layers": layers}, (x.astype(jnp.float64), targets)


def parts(grads: dict[str, Any], names: Sequence[str]) -> dict[str, np.ndarray]:
    """The gradient of each weighted layer and each readout or map of a signal, flat."""
    weighted = [*grads["layers"], *([grads["readout"]] if "readout" in grads else [])]
    named = dict(zip(names, weighted, strict=True))
    named |= {f"signal of layer {layer}": tree for layer, tree in grads["signals"].items()}
    return {
        name: np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])
        for name, tree in named.items()
    }


def compare(estimate: dict[str, np.ndarray], exact: dict[str, np.ndarray]) -> dict[str, Any]:
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


def measure(scale: Scale, kind: str) -> dict[str, Any]:
    """All comparisons for one signal."""
    model, params, batch = problem(scale, kind)
    names = systems.system(scale.run).network.layer_names

    def gradient(estimator) -> dict[str, np.ndarray]:
        _, grads, _ = jax.jit(estimator.value_and_grad(model))(params, batch, jax.random.key(0))
        return parts(grads, names)

    # β and the nudged steps are traced: one compilation serves all of them.
    @functools.partial(jax.jit, static_argnums=1)
    def at(beta, betas):
        estimator = EP(beta, TIGHT, TIGHT, betas)
        return estimator.value_and_grad(model)(params, batch, jax.random.key(0))[1]

    @jax.jit
    def after(steps):
        estimator = EP(SMALL_BETA, TIGHT, Fixed(steps))
        return estimator.value_and_grad(model)(params, batch, jax.random.key(0))[1]

    exact = gradient(Implicit(TIGHT, tol=1e-14, steps=2000))
    errors = {
        name: [compare(parts(at(b, v), names), exact)["error_of_all"] for b in scale.betas]
        for name, v in VARIANTS.items()
    }
    full = gradient(BPTT(Fixed(scale.bptt_steps), scale.bptt_steps))
    estimate = parts(at(SMALL_BETA, centered), names)
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
                "ep_against_bptt": compare(
                    parts(after(steps), names), gradient(BPTT(Fixed(scale.bptt_steps), steps))
                ),
                "ep_against_exact": compare(parts(after(steps), names), exact),
            }
            for steps in scale.steps
        ],
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, draws and prints."""
    options = runs.options("gradients", __doc__, arguments)
    jax.config.update("jax_enable_x64", True)
    scale = SCALES[options.scale]
    result: dict[str, Any] = {"config": runs.to_dict(runs.settings_of(scale.run))}
    result |= {"images": scale.images, "kappa": KAPPA, "small_beta": SMALL_BETA, "fitted": FITTED}
    result["signals"] = {}
    for kind in SIGNALS:
        result["signals"][kind] = measure(scale, kind)
        written = runs.keep(options, result)
    gradients_report.draw(written, options.picture)
    print(gradients_report.table(written))


if __name__ == "__main__":
    main()
