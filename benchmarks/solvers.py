"""Which solver gives the EP gradient soonest? python -m benchmarks.solvers [PROBLEM ...]

For every solver and order, on shallow and deep nets, with random and with trained weights: how far
the gradient is, over the time that it takes, from the one of the same phases fully settled (the
solver's part of the error), and from the exact one (EP's own part included, which no solver can
mend): the implicit gradient in float64 at the equilibrium that the same order of updates finds.
Results: results/solvers.json and .png.
"""

import argparse
import dataclasses
import functools
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import systems, workload
from benchmarks.provenance import load, save
from benchmarks.runs import Run, settings_of
from benchmarks.solvers_report import best, draw, table
from jaxep import cli as train
from jaxep.core import estimators, solvers
from jaxep.core.sweep import Energy
from jaxep.nets import heads as signals
from jaxep.training import data as data_lib
from jaxep.training import loop as training
from jaxep.training import parallel, tasks
from jaxep.training import steps as updates
from jaxep.training.settings import Settings

BETA = 0.1
SHALLOW = {
    "conv": "32 M 64 M",
    "hidden": (64,),
    "signal_layers": (0, 1),
    "learning_rates": (0.01,) * 4,
}
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


class Problem(NamedTuple):
    """A model with weights and one batch."""

    model: Energy
    params: Any
    batch: tuple[jax.Array, signals.Targets]


class Trained(NamedTuple):
    """A run of some epochs and what it ended with."""

    settings: Settings
    data: data_lib.Dataset
    task: tasks.Task
    state: updates.TrainState


def trained(epochs: int, config: str, changes: dict[str, Any]) -> Trained:
    """The first epochs of a config with some keys changed."""
    settings = settings_of(Run(config, changes))
    data = training.load_data(settings)
    each = len(data.train.labels) // settings.batch_size
    task = tasks.ep_task(settings, data, each * settings.epochs)
    key = jax.random.key(0)
    state, split = parallel.replicated((updates.init_state(task, key), data.train), task.mesh)
    for epoch in range(epochs):
        keys, stop = jax.random.fold_in(key, epoch), (epoch + 1) * each
        size, kappa = settings.batch_size, jnp.float32(settings.kappa)
        state = updates.train_chunk(task, size, state, split, stop, keys, kappa, 0)
    return Trained(settings, data, task, jax.device_get(state))


def digits(epochs: int, config: str, changes: dict[str, Any]) -> Problem:
    """A net of digits with local errors after `epochs` of its training, and 40 test images."""
    state = trained(epochs, config, changes).state
    mine = systems.system(Run(config, changes))
    return Problem(mine.model, state.params, mine.batch(40))


def vgg7(batch: int) -> Problem:
    """VGG-7 with random weights, as in benchmarks.step_time."""
    p = workload.problem("vgg7", batch)
    return Problem(p.model, p.params, (p.x, signals.Targets(p.labels)))


PROBLEMS: dict[str, Callable[[], Problem]] = {
    "4 layers, random": lambda: digits(0, "digits_le", SHALLOW),
    "4 layers, trained": lambda: digits(4, "digits_le", SHALLOW),
    "12 layers, random": lambda: digits(0, "digits_deep_le", {}),
    "12 layers, trained": lambda: digits(4, "digits_deep_le", {}),
    "VGG-7, random": lambda: vgg7(4),
}


def exact(p: Problem, order: str) -> Any:
    """The implicit gradient at the equilibrium near which `order` ends, polished in float64."""
    rough = solvers.Tolerance(2000, order, tol=1e-6)
    near, _ = jax.jit(functools.partial(estimators.free_phase, p.model, rough))(
        p.params, p.batch[0], jax.random.key(0)
    )
    with jax.enable_x64(True):
        params, batch, states = jax.tree.map(_wide, (p.params, p.batch, near.states))
        model = dataclasses.replace(p.model, init_states=lambda key, x: states)
        tight = solvers.Tolerance(5000, "alternating", 1.7, 1e-9)
        value_and_grad = estimators.Implicit(tight, tol=1e-8, steps=2000).value_and_grad(model)
        _, grads, _ = jax.jit(value_and_grad)(params, batch, jax.random.key(0))
        return jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), grads)


def _wide(leaf: Any) -> jax.Array:
    array = jnp.asarray(leaf)
    return array.astype(jnp.float64) if jnp.issubdtype(array.dtype, jnp.floating) else array


def gradient(p: Problem, method: str) -> Callable[..., Any]:
    """(free limit, nudge limit, most steps) -> the EP estimate.

    Limits are steps or tolerances, and traced: a method is compiled once.
    """
    kind, order, relaxation = METHODS[method]

    def solver(limit, most):
        if kind is None:  # without a tolerance it does just its steps
            return solvers.Tolerance(limit, order, relaxation, tol=-1.0)
        return dataclasses.replace(kind(most, order, relaxation), tol=limit)

    def estimate(params, batch, free, nudge, most):
        ep = estimators.EP(BETA, solver(free, most), solver(nudge, most))
        _, grads, aux = ep.value_and_grad(p.model)(params, batch, jax.random.key(0))
        return grads, (aux.free.steps.astype(float), aux.nudged.steps.astype(float))

    run = jax.jit(functools.partial(parallel.mean_over_devices, estimate))
    x, targets = p.batch
    features = targets._replace(kappa=jnp.broadcast_to(targets.kappa, (len(x),)))
    return lambda free, nudge, most: run(p.params, (x, features), free, nudge, most)


def limits(method: str) -> list[tuple[Any, Any]]:
    """The settings of one method, from coarse to fine."""
    if METHODS[method][0] is None:
        return [(steps, steps // 5) for steps in FIXED]
    return [(tol, ratio * tol) for tol in TOLERANCES for ratio in NUDGE_RATIOS]


def error(grads: Any, target: Any) -> float:
    """||g - g*|| / ||g*|| over all parameters."""
    pairs = zip(jax.tree.leaves(grads), jax.tree.leaves(target), strict=True)
    parts = [(jnp.sum((g - t) ** 2), jnp.sum(t**2)) for g, t in pairs]
    wrong, whole = (sum(part[i] for part in parts) for i in (0, 1))
    return float(jnp.sqrt(wrong / whole))


def measure(name: str, rounds: int) -> list[dict[str, Any]]:
    """A row for each method and limit: errors, seconds (median), steps."""
    p = PROBLEMS[name]()
    targets = {order: exact(p, order) for order in ("synchronous", "alternating")}
    rows = []
    for method, (_, order, _) in METHODS.items():
        run = gradient(p, method)
        settled = (SETTLED_STEPS,) * 2 if METHODS[method][0] is None else (1e-6, 1e-6)
        # Waited for, or the first of the times would count the rest of it.
        converged, _ = jax.block_until_ready(run(*settled, SETTLED_STEPS))
        for free, nudge in limits(method):
            times = []
            for _ in range(rounds):
                began = time.perf_counter()
                grads, steps = jax.block_until_ready(run(free, nudge, MOST_STEPS))
                times.append(time.perf_counter() - began)
            rows.append(
                {
                    "method": method,
                    "limits": [free, nudge],
                    "steps": [float(count) for count in steps],
                    "error": error(grads, converged),
                    "error_to_exact": error(grads, targets[order]),
                    "seconds": statistics.median(times),
                }
            )
    return rows


def main() -> None:
    """Measures the problems named (all by default), keeps the others' results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("problems", nargs="*", default=list(PROBLEMS), help=", ".join(PROBLEMS))
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    train.prepare_jax()
    result = load("solvers")
    for name in arguments.problems:
        result[name] = measure(name, arguments.rounds)
        save("solvers", {key: result[key] for key in PROBLEMS if key in result} | {"beta": BETA})
        print(f"\n{name}\n{best(result[name])}", flush=True)
    problems = {key: result[key] for key in PROBLEMS if key in result}
    print(f"\n{table(problems)}")
    draw(problems)


if __name__ == "__main__":
    main()
