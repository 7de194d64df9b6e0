"""Which solver gives the EP gradient soonest?

For every solver and order, on shallow and deep nets, with random and with trained weights: how far
the gradient is, over the time that it takes, from the one of the same phases fully settled (the
solver's part of the error), and from the exact one (EP's own part included, which no solver can
mend): the implicit gradient in float64 at the equilibrium that the same order of updates finds.
"""

import dataclasses
import functools
import statistics
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.shared import show, systems, workload
from benchmarks.shared.nets import chain
from benchmarks.shared.results import Claim, Claims, Options, Result
from benchmarks.shared.runs import Run
from benchmarks.shared.systems import error
from benchmarks.shared.workload import Problem
from jaxep import EP, Implicit, equilibrium
from jaxep.core import solvers
from jaxep.training import parallel

BETA = 0.1
SHALLOW = chain("digits_le", "32 M 64 M", (0.01, 0.01), hidden=(64,), signal_layers=(0, 1))
# Tolerances of the free phase; those of the nudged phases are as many times smaller.
TOLERANCES = (1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5)
NUDGE_RATIOS = (1.0, 0.2)
# Steps of the paper's fixed phases, T_nudge = T_free / 5 as in its VGG-7.
FIXED = (25, 50, 100, 250)
MOST_STEPS, SETTLED_STEPS = 400, 1500
# An adaptive method with its name in a table: (kind, order, ω).
METHODS: dict[str, tuple[Any, str, float]] = {
    "fixed, synchronous (the paper)": (None, "synchronous", 1.0),
    "fixed, alternating": (None, "alternating", 1.0),
    "tolerance, synchronous": (solvers.Tolerance, "synchronous", 1.0),
    "tolerance, alternating": (solvers.Tolerance, "alternating", 1.0),
    "tolerance, alternating, ω 1.4": (solvers.Tolerance, "alternating", 1.4),
    "tolerance, alternating, ω 1.7": (solvers.Tolerance, "alternating", 1.7),
    "fixed_point (jaxopt), alternating": (solvers.FixedPointIteration, "alternating", 1.0),
    "anderson (jaxopt), synchronous": (solvers.AndersonAcceleration, "synchronous", 1.0),
    "anderson (jaxopt), alternating": (solvers.AndersonAcceleration, "alternating", 1.0),
}
# That of configs/base.py.
DEFAULT = "tolerance, alternating, ω 1.7"
# "Good enough": where errors of this size no longer change the direction of a step.
GOAL = 0.1
Rows = list[dict[str, Any]]


def digits(epochs: int, run: Run) -> Problem:
    """A net of digits with local errors after `epochs` of its training, and 40 test images."""
    mine, _, state = systems.train(run, epochs)
    x, targets = mine.batch(40)
    each = targets._replace(kappa=jnp.broadcast_to(targets.kappa, (len(x),)))
    return Problem(mine.model, mine.energy, state.params, x, each)


PROBLEMS: dict[str, Callable[[], Problem]] = {
    "4 layers, random": lambda: digits(0, SHALLOW),
    "4 layers, trained": lambda: digits(4, SHALLOW),
    "12 layers, random": lambda: digits(0, Run("digits_deep_le")),
    "12 layers, trained": lambda: digits(4, Run("digits_deep_le")),
    "VGG-7, random": lambda: workload.problem("vgg7", 4),
}
ARGUMENTS = {"problems": tuple(PROBLEMS), "--rounds": 3}


def exact(p: Problem, order: str) -> Any:
    """The implicit gradient at the equilibrium near which `order` ends, polished in float64."""
    key, rough = jax.random.key(0), solvers.Tolerance(2000, order, tol=1e-6)
    near = jax.jit(functools.partial(equilibrium, p.energy, rough))(p.params, p.batch[0], key)
    with jax.enable_x64(True):
        params, batch, states = systems.as_float64((p.params, p.batch, near.states))
        tight = solvers.Tolerance(5000, "alternating", 1.7, 1e-9)
        value_and_grad = Implicit(tight, tol=1e-8, steps=2000).value_and_grad(p.energy)
        _, grads, _ = jax.jit(value_and_grad)(params, batch, key, states)
        return jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), grads)


def gradient(p: Problem, method: str) -> Callable[..., Any]:
    """(free limit, nudge limit, most steps) -> the EP estimate and its sweeps.

    Limits are steps or tolerances, and traced: a method is compiled once.
    """
    kind, order, relaxation = METHODS[method]

    def solver(limit, most):
        if kind is None:  # under a tolerance that nothing meets it does just its steps
            return solvers.Tolerance(limit, order, relaxation, tol=1e-30)
        return dataclasses.replace(kind(most, order, relaxation), tol=limit)

    def estimate(params, batch, free, nudge, most):
        ep = EP(BETA, solver(free, most), solver(nudge, most))
        _, grads, aux = ep.value_and_grad(p.energy)(params, batch, jax.random.key(0))
        return grads, (aux.free.steps.astype(float), aux.nudged.steps.astype(float))

    run = jax.jit(functools.partial(parallel.mean_over_devices, estimate))
    return functools.partial(run, p.params, p.batch)


def limits(method: str) -> list[tuple[Any, Any]]:
    """The settings of one method, from coarse to fine."""
    if METHODS[method][0] is None:
        return [(steps, steps // 5) for steps in FIXED]
    return [(tol, ratio * tol) for tol in TOLERANCES for ratio in NUDGE_RATIOS]


def measure_problem(name: str, rounds: int) -> Rows:
    """A row for each method and limit: errors, seconds (median), steps."""
    p = PROBLEMS[name]()
    targets = {order: exact(p, order) for order in ("synchronous", "alternating")}
    rows = []
    for method, (kind, order, _) in METHODS.items():
        run = gradient(p, method)
        settled = (SETTLED_STEPS,) * 2 if kind is None else (1e-6, 1e-6)
        converged, _ = run(*settled, SETTLED_STEPS)
        for free, nudge in limits(method):
            call = functools.partial(run, free, nudge, MOST_STEPS)
            grads, steps = call()
            rows.append(
                {
                    "method": method,
                    "limits": [free, nudge],
                    "steps": [float(count) for count in steps],
                    "error": error(grads, converged),
                    "error_to_exact": error(grads, targets[order]),
                    "seconds": statistics.median(workload.seconds(call) for _ in range(rounds)),
                }
            )
    return rows


def measure(options: Options) -> Result:
    """The problems that are named, the others' results kept."""
    of = functools.partial(measure_problem, rounds=options.own.rounds)
    return options.each(options.own.problems, PROBLEMS, of) | {"beta": BETA}


def fastest(rows: Rows, method: str, goal: float = GOAL) -> dict[str, Any] | None:
    """The quickest setting of `method` whose error is at most `goal`; None where there is none."""
    good = [row for row in rows if row["method"] == method and row["error"] <= goal]
    return min(good, key=lambda row: row["seconds"], default=None)


def table(result: Result) -> str:
    """Milliseconds to the goal, methods against problems."""
    problems, lines = dict(show.known(PROBLEMS, result)), []
    for method in METHODS:
        found = [fastest(rows, method) for rows in problems.values()]
        lines.append([method, *(f"{1e3 * r['seconds']:.0f}" if r else "never" for r in found)])
    return show.markdown([f"ms to an error of {GOAL}", *problems], lines)


def claims(result: Result) -> Claims:
    """The default's phases are the quickest where they were chosen to be."""
    for name, rows in show.known(PROBLEMS, result):
        ways = {m: 1e3 * row["seconds"] for m in METHODS if (row := fastest(rows, m))}
        order = sorted(ways, key=lambda method: ways[method])
        here = ", then ".join(f"{ways[m]:.0f} ms ({m})" for m in order[:2]) or "nothing is"
        statement = f"{name}: the default ({DEFAULT}) is soonest at an error of {GOAL}"
        holds = order[:1] == [DEFAULT] if "trained" in name else None
        yield Claim(statement, "aim: soonest, with trained weights", here, holds)


def draw(result: Result):
    """Error over time, a panel for each problem."""
    panels = []
    for name, rows in show.known(PROBLEMS, result):
        parts: list[show.Part] = []
        for marker, method in zip("os^vDP*X<", METHODS, strict=True):
            points = sorted((1e3 * r["seconds"], r["error"]) for r in rows if r["method"] == method)
            # What a user who knows the best limits gets: the error falls with the time allowed.
            times, errors = np.array(points).T
            falling = np.minimum.accumulate(errors).tolist()
            parts.append(show.line(method, falling, times, f"{marker}-", ms=4, lw=1))
        parts.append(show.level(GOAL, "_"))
        label, unit = "relative distance to the settled gradient", "time of one EP gradient, ms"
        panels.append(show.Panel(name, parts, label, unit, "xy", ticks="plain"))
    return show.figure([panels], legend=3, size=(4.2, 4.6))
