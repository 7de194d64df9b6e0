"""What more points in β buy: two and four real points, and the complex ones of holomorphic EP.

Error and cosine of the estimate to the exact gradient (implicit) over β, with settled phases in
float64, at initial and trained weights; and the time of a gradient with the phases of the config.
The net with local errors has hard_sigmoid and max pools, so that complex points are for the smooth
net alone. The real points of `four_point` reach to 2β.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks.shared import runs, show, systems, workload
from benchmarks.shared.results import Claim, Claims, Options, Result
from jaxep import EP, Implicit, Stencil, Tolerance, centered, four_point, holomorphic
from jaxep.training.dynamics import build_estimator

REAL = {"centered": centered, "four points": four_point}
COMPLEX = {"holomorphic, N = 4": holomorphic(4), "holomorphic, N = 8": holomorphic(8)}
COLORS = {"centered": "tab:gray", "four points": "tab:orange"}
COLORS |= {"holomorphic, N = 4": "tab:blue", "holomorphic, N = 8": "tab:purple"}
# The paper's β for its VGG-7 with local errors; its other nets have 0.15 to 1.
BETA, PAPER = 0.25, (0.15, 1.0)
STEPS, TOL = 3000, 1e-10


class Net(NamedTuple):
    """A run, its stencils, and the ω with which its phases settle soonest."""

    run: runs.Run
    stencils: dict[str, Stencil]
    relaxation: float


class Scale(NamedTuple):
    """The nets by name, how many images, which β, and rounds of the clock."""

    nets: dict[str, Net]
    images: int
    betas: tuple[float, ...]
    rounds: int


_NETS = {
    "local errors": Net(runs.Run("digits_le"), REAL, 1.7),
    "smooth": Net(runs.Run("digits_holomorphic"), {**REAL, **COMPLEX}, 1.0),
}
_TINY = {
    name: Net(runs.shrink(net.run.but(t_free=2)), net.stencils, net.relaxation)
    for name, net in _NETS.items()
}
_BETAS = (0.02, 0.05, 0.1, BETA, 0.5, 1.0, 2.0)
SCALES = {
    "tiny": Scale(_TINY, 2, (0.1, BETA, 1.0), 1),
    "small": Scale(_NETS, 10, _BETAS, 7),
    "paper": Scale({"VGG-7": Net(runs.Run("vgg7_le"), REAL, 1.7)}, 8, _BETAS, 7),
}


def specs(scale: str) -> dict[str, runs.Run]:
    """The runs that train the nets."""
    return {name: net.run for name, net in SCALES[scale].nets.items()}


def errors(
    energy: Any,
    params: Any,
    batch: Any,
    net: Net,
    betas: tuple[float, ...],
    sweeps: int = STEPS,
) -> dict[str, dict[str, list[float]]]:
    """By stencil, the relative error and the cosine to the exact gradient at each β.

    Args:
        energy: of the model.
        params: where the gradients are compared, in float64.
        batch: (x, targets), in float64.
        net: gives the stencils and ω.
        betas: nudging factors.
        sweeps: of a phase at most.
    """
    settle = Tolerance(sweeps, "alternating", net.relaxation, TOL)

    def gradient(estimator: Any) -> Any:
        return estimator.value_and_grad(energy)(params, batch, jax.random.key(0))[1]

    exact = jax.jit(lambda: gradient(Implicit(settle, tol=1e-9, steps=2000)))()
    found = {}
    for name, stencil in net.stencils.items():
        at = jax.jit(lambda beta, s=stencil: gradient(EP(beta, settle, settle, s)))
        grads = [at(beta) for beta in betas]
        found[name] = {
            "error": [systems.error(own, exact) for own in grads],
            "cosine": [systems.cosine(own, exact) for own in grads],
        }
    return found


def clocks(mine: systems.System, params: Any, net: Net) -> dict[str, Callable[[], float]]:
    """By stencil, the seconds of one gradient of a batch, with the phases of the config."""
    batch = mine.batch(mine.settings.batch_size)

    def clock(stencil: Stencil) -> Callable[[], float]:
        ep = dataclasses.replace(build_estimator(mine.settings), stencil=stencil)
        run = jax.jit(ep.value_and_grad(mine.energy))
        jax.block_until_ready(run(params, batch, jax.random.key(0)))
        return lambda: workload.seconds(run, params, batch, jax.random.key(0))

    return {name: clock(stencil) for name, stencil in net.stencils.items()}


def measure_net(net: Net, scale: Scale, weights: dict[str, Any]) -> dict[str, Any]:
    """Errors at each of the weights, and times at the last of them."""
    mine = systems.system(net.run)
    *_, trained = weights.values()
    seconds = workload.medians(clocks(mine, trained, net), scale.rounds)
    phases = {name: len(stencil.phases) for name, stencil in net.stencils.items()}
    with jax.enable_x64(True):
        x, targets = mine.batch(scale.images)
        batch = systems.as_float64((x, targets))
        at = {
            when: errors(mine.energy, systems.as_float64(params), batch, net, scale.betas)
            for when, params in weights.items()
        }
    return {"seconds": seconds, "phases": phases, "weights": at}


def measure(options: Options) -> Result:
    """Trains the nets, then compares the stencils on each."""
    scale = SCALES[options.scale]
    result: Result = {"betas": list(scale.betas), "images": scale.images, "nets": {}}
    result["runs"] = runs.train_all(options, specs(options.scale))
    for name, net in scale.nets.items():
        epochs = runs.settings_of(net.run).epochs
        kept = systems.weights(net.run, options.runs, [0, epochs])
        weights = {"initial": kept[0], "trained": kept[epochs]}
        result["nets"][name] = measure_net(net, scale, weights)
        options.keep(result, finished=False)
    return result


def at_beta(result: Result, found: dict[str, Any], beta: float) -> tuple[float, float]:
    """(relative error, cosine) of one stencil at a β."""
    place = result["betas"].index(beta)
    return found["error"][place], found["cosine"][place]


def cases(result: Result) -> list[tuple[str, str, dict[str, Any]]]:
    """(net, weights, {stencil: errors and cosines}) in order."""
    return [
        (name, when, found)
        for name, net in result["nets"].items()
        for when, found in net["weights"].items()
    ]


def table(result: Result) -> str:
    """Error and cosine at the paper's β and at 1, and the time, of each stencil."""
    rows = []
    for name, when, found in cases(result):
        net = result["nets"][name]
        for stencil, own in found.items():
            cells = []
            for beta in (BETA, PAPER[1]):
                error, cosine = at_beta(result, own, beta)
                cells += [f"{error:.2g}", f"{cosine:.4f}"]
            time = f"{1e3 * net['seconds'][stencil]:.0f}"
            rows.append([name, when, stencil, 1 + net["phases"][stencil], *cells, time])
    header = ["net", "weights", "stencil", "phases", f"error, β {BETA}", "cosine"]
    header += [f"error, β {PAPER[1]:g}", "cosine", "ms"]
    return show.markdown(header, rows)


def claims(result: Result) -> Claims:
    """More points against two at the paper's β, and what they cost."""
    for name, when, found in cases(result):
        two = at_beta(result, found["centered"], BETA)[0]
        for stencil, own in found.items():
            if stencil != "centered":
                error = at_beta(result, own, BETA)[0]
                statement = f"{name}, {when} weights: {stencil}, nearer to the exact gradient"
                here = f"error {error:.2g} against {two:.2g} of two points, β {BETA}"
                yield Claim(statement, "a higher order in β", here, error < two)
    for name, net in result["nets"].items():
        costs = {s: t / net["seconds"]["centered"] for s, t in net["seconds"].items()}
        here = ", ".join(f"{s} {cost:.1f}" for s, cost in costs.items() if s != "centered")
        yield Claim(f"{name}: time over that of two points", "told", f"{here} times")


def draw(result: Result):
    """Error and cosine over β, a column for each net and weights."""

    def panel(quantity: str, case: tuple, log: str, ylim: Any, legend: str) -> show.Panel:
        name, when, found = case
        parts = [
            show.line(s, own[quantity], result["betas"], ".-", color=COLORS[s])
            for s, own in found.items()
        ]
        parts.append(lambda axis: axis.axvspan(*PAPER, color="0.45", alpha=0.15, lw=0))
        label = "relative error" if quantity == "error" else quantity
        title = f"{name}, {when} weights"
        return show.Panel(title, parts, label, "β", log, ylim, "plain", legend)

    every = cases(result)
    rows = [
        [panel("error", case, "xy", (1e-9, 20), "lower right") for case in every],
        [panel("cosine", case, "x", (min(0, _least(result)), 1.05), "") for case in every],
    ]
    return show.figure(rows, size=(3.9, 3.3), sharey="row")


def _least(result: Result) -> float:
    """The least cosine of all."""
    return float(np.min([own["cosine"] for *_, found in cases(result) for own in found.values()]))
