"""Theorem 3.1 along training, in float64.

K₁ + |β| K₂ + |βκ| K₃ of a net along its epochs, beside the decay of the residual that is measured
in the nudged phases; then the same for its weights times a factor, from a contraction to far off.

What can be proven. Where the maxima of the pools stay the same, ∂Φ/∂ξ is linear in the states with
the matrix H = ∂²Φ/∂ξ²; σ = clip(·, 0, 1) never lengthens a difference. So K₁ = ||H|| bounds every
step over which no maximum changes, and a net without pools everywhere. Where one changes, ∂Φ/∂ξ
jumps: with max pools assumption (1) of the theorem holds between changes only.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.paper.contraction_told import claims, draw, table
from benchmarks.shared import runs, systems
from benchmarks.shared.nets import chain
from benchmarks.shared.results import Options, Result
from jaxep import Energy, Fixed, Tolerance, initial_states
from jaxep.core.objective import free_objective
from jaxep.core.solvers import tree_norm
from jaxep.core.theory import lipschitz, transition

__all__ = ["claims", "draw", "measure", "table"]
Tree = Any
ORDERS = ("synchronous", "alternating")
# A step counts as linear where ∂Φ/∂ξ moves by HΔ to this share of Δ, or to the rounding of ∂Φ/∂ξ.
LINEAR, ROUNDING = 1e-9, 1e-14
POWER_STEPS = 300


class Scale(NamedTuple):
    """Nets by name, images, nudged steps whose decay is measured, and factors on the weights.

    Each net is measured at its own β and at `small_beta`, where the theorem's condition can hold.
    """

    nets: dict[str, runs.Run]
    images: int
    steps: int
    factors: tuple[float, ...]
    free_steps: int = 400
    small_beta: float = 0.1


def _net(conv: str, local: tuple[int, ...]) -> runs.Run:
    """A narrow digits net with local errors that keeps every epoch's weights."""
    kept: dict[str, Any] = {"signal_layers": local, "epochs": 12, "keep_checkpoints": 13}
    return chain("digits_le", conv, (0.01, 0.03), hidden=(16,), **kept)


_FACTORS = tuple(float(f) for f in np.geomspace(0.05, 2.0, 6))
_SMALL = {"without pools": _net("8v 16v 16v", (0, 2)), "with pools": _net("8 M 16 M", (0, 1))}
_TINY = {"with pools": runs.shrink(_SMALL["with pools"]).but(epochs=2)}
_PAPER = {"VGG-7": runs.Run("vgg7_le", {"keep_checkpoints": 251})}
SCALES = {
    "tiny": Scale(_TINY, 2, 10, (0.1, 1.0), 40),
    "small": Scale(_SMALL, 10, 60, _FACTORS),
    "paper": Scale(_PAPER, 10, 100, _FACTORS, 1000),
}


def loss_constants(params: Tree) -> tuple[float, float]:
    """Proven K₂ of ∂L_EP/∂ξ and K₃ of ∂(Σ L_Aug)/∂ξ, for cross entropy and local errors.

    The Hessian of a cross entropy in its logits is diag(p) - ppᵀ, of norm at most 1/2; the logits
    are a linear map of the states, and the layers of Υ do not meet.
    """
    norms = {name: np.linalg.norm(own["kernel"], 2) for name, own in params["heads"].items()}
    readout = norms.pop("readout")
    return float(readout**2 / 2), float(max(norms.values()) ** 2 / 2)


def local_constants(energy: Energy, params: Tree, batch: Any, states: Tree, key) -> dict:
    """K₁, K₂, K₃ at one point by power iteration, and the spectral radius of the transition."""
    x, targets = batch
    drive = jax.grad(free_objective(energy, params, x).value)
    slopes = jax.tree.map(lambda a: ((a > 0) & (a < 1)) * 1.0, drive(states))

    def masked(u: Tree) -> Tree:
        inner = jax.tree.map(jnp.multiply, slopes, u)
        return jax.tree.map(jnp.multiply, slopes, jax.jvp(drive, (states,), (inner,))[1])

    def loss(s: Tree, kappa: float) -> jax.Array:
        return jnp.sum(energy.loss(params, s, targets._replace(kappa=jnp.asarray(kappa))))

    functions = {
        "K1": drive,
        "K1_clipped": transition(energy, params, x),
        "radius": masked,
        "K2": jax.grad(lambda s: loss(s, 0.0)),
        "K3": jax.grad(lambda s: loss(s, 1.0) - loss(s, 0.0)),
    }
    return {name: lipschitz(f, states, key, POWER_STEPS) for name, f in functions.items()}


def decay(energy: Energy, params: Tree, batch: Any, beta: Any, free: Tree, steps: int) -> dict:
    """Residuals of the nudged phase of factor `beta` from `free`, each order, and what bounds them.

    Returns:
        synchronous, alternating: ||ξ_{t+1} - ξ_t|| of each step, [steps];
        linear: whether ∂Φ/∂ξ is linear between the two states of a synchronous step, [steps];
        K1: ||H|| at the state before each synchronous step, [steps].
    """
    x, targets = batch
    objective = free_objective(energy, params, x)
    nudged, drive = objective.nudged(targets, jnp.asarray([beta])), jax.grad(objective.value)
    start = jax.tree.map(lambda leaf: leaf[None], free)

    def length(old: Tree, new: Tree) -> jax.Array:
        return tree_norm(_less(new, old))

    def told(*phase: Tree) -> dict[str, jax.Array]:
        old, new = (jax.tree.map(lambda leaf: leaf[0], states) for states in phase)
        change = _less(new, old)
        before, product = jax.jvp(drive, (old,), (change,))
        gap = tree_norm(_less(_less(drive(new), before), product))
        linear = gap <= LINEAR * tree_norm(change) + ROUNDING * tree_norm(before)
        k1 = lipschitz(drive, old, jax.random.key(0), POWER_STEPS)
        return {"synchronous": length(old, new), "linear": linear, "K1": k1}

    found = systems.follow(nudged, start, "synchronous", steps, told)[1]
    return {**found, "alternating": systems.follow(nudged, start, "alternating", steps, length)[1]}


def _less(a: Tree, b: Tree) -> Tree:
    return jax.tree.map(jnp.subtract, a, b)


def judge(found: dict, constants: tuple[float, float], beta: float, kappa: float) -> dict[str, Any]:
    """Measured ratios of successive residuals beside their proven bounds.

    Raises:
        AssertionError: a ratio is over a bound that is proven for it.
    """
    k2, k3 = constants
    found = {name: np.asarray(values) for name, values in found.items()}
    norms = found["synchronous"]
    # Differences of states near rounding tell nothing of the map.
    known = norms[:-1] > 1e-9 * norms[0]
    ratios = np.where(known, norms[1:] / np.maximum(norms[:-1], 1e-300), np.nan)
    bounds = found["K1"][:-1] + abs(beta) * k2 + abs(beta * kappa) * k3
    linear, jumps = (flags[:-1] & known for flags in (found["linear"], ~found["linear"]))
    # Power iteration comes to ||H|| from below, here to a few parts in 10^4.
    beaten = linear & (ratios > bounds * (1 + 1e-3))
    assert not beaten.any(), f"measured decay {ratios[beaten]} over its bound {bounds[beaten]}"
    return {
        "ratio": _mean_decay(norms),
        "ratio_alternating": _mean_decay(found["alternating"]),
        "largest_ratio_linear": np.max(ratios[linear], initial=0.0),
        "largest_ratio_to_bound": np.max((ratios / bounds)[linear], initial=0.0),
        "steps_linear": linear.sum(),
        "steps_with_a_jump": jumps.sum(),
        "largest_ratio_at_a_jump": np.max(ratios[jumps], initial=0.0),
    }


def _mean_decay(norms: np.ndarray) -> float:
    """Geometric mean of the ratios of the second half of the steps that are over rounding."""
    above = norms[norms > 1e-9 * norms[0]]
    tail = above[len(above) // 2 :]
    return float((tail[-1] / tail[0]) ** (1 / max(len(tail) - 1, 1)))


def instruments(mine: systems.System, scale: Scale) -> Callable[[Tree, float], dict[str, Any]]:
    """A function of weights and β that measures all of Theorem 3.1; compiled once."""
    kappa, energy = mine.settings.kappa, mine.energy
    x, targets = systems.as_float64(mine.batch(scale.images))
    solver = Tolerance(scale.free_steps * 10, "alternating", 1.5, 1e-12)

    @jax.jit
    def compiled(params, beta):
        start = systems.as_float64(initial_states(energy, jax.random.key(0), params, x))
        objective = free_objective(energy, params, x)
        free = solver.run(objective, start)
        local = local_constants(energy, params, (x, targets), free.states, jax.random.key(1))
        phases = {
            sign: decay(energy, params, (x, targets), factor, free.states, scale.steps)
            for sign, factor in (("positive", beta), ("negative", -beta))
        }
        ends = {
            order: Fixed(scale.free_steps + 1, order).run(objective, start).residual
            for order in ORDERS
        }
        return free.residual, local, phases, ends

    def measure(params: Tree, beta: float) -> dict[str, Any]:
        params = systems.as_float64(params)
        residual, local, phases, ends = jax.device_get(compiled(params, beta))
        k2, k3 = loss_constants(params)
        bound = local["K1"] + beta * k2 + beta * kappa * k3
        return {
            "K1": local["K1"],
            "K2": k2,
            "K3": k3,
            "bound": bound,
            "holds": bound < 1,
            "local": local,
            "free_residual": residual,
            "residual_after": ends,
            "phases": {sign: judge(p, (k2, k3), beta, kappa) for sign, p in phases.items()},
        }

    return measure


def scaled(params: Tree, factor: float) -> Tree:
    """Weights and biases of the couplings times `factor`; readouts as they are."""
    return {**params, "edges": jax.tree.map(lambda leaf: factor * leaf, params["edges"])}


def measure(options: Options) -> Result:
    """Trains, and measures along the epochs and over the factors."""
    scale = SCALES[options.scale]
    result: Result = {"runs": runs.train_all(options, scale.nets), "nets": {}}
    jax.config.update("jax_enable_x64", True)
    for name, run in scale.nets.items():
        mine = systems.system(run)
        epochs = sorted({0, 1, *np.linspace(0, mine.settings.epochs, 5).astype(int).tolist()})
        params = systems.weights(run, options.runs, epochs)
        of, last = instruments(mine, scale), params[epochs[-1]]
        for beta in (scale.small_beta, mine.settings.beta):
            result["nets"][f"{name}, β {beta:g}"] = {
                "beta": beta,
                "kappa": mine.settings.kappa,
                "along_training": [{"epoch": e, **of(params[e], beta)} for e in epochs],
                "over_factor": [{"factor": f, **of(scaled(last, f), beta)} for f in scale.factors],
            }
            options.keep(result, finished=False)
    return result
