"""How long do a step and a training step take, beside other codes and beside the machine's limit?

    python -m benchmarks.step_time [NET ...] [--peer DIR] [--batch N] [--rounds N]

The same weights and inputs everywhere; states must agree to 1e-4 before any timing counts.
Engines take turns within each round, and medians are compared. Needs torch (pip install torch);
--peer takes a checkout of github.com/Laborieux-Axel/Equilibrium-Propagation.
"""

import argparse
import functools
import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks import peer as peer_code
from benchmarks import textbook, torch_reference
from benchmarks.provenance import load, save
from benchmarks.step_time_report import draw, table
from benchmarks.workload import MATMUL, NETS, Problem, matmul_seconds, problem, seconds, step_flops
from configs.base import get_config
from jaxep import cli as train
from jaxep.core import estimators, solvers
from jaxep.core.sweep import Energy, Sweep, free_value
from jaxep.nets import heads as signals
from jaxep.training import tasks
from jaxep.training.parallel import mean_over_devices, samples_over_devices
from jaxep.training.settings import from_config

T_FREE, T_NUDGE, BETA = 250, 50, 0.25
# The engine's ways to the equilibrium, all judged by `quality`. The first is tighter than the
# defaults of train.py: chosen by hand, with a residual under that of the others' 250 + 50 steps.
OURS = {
    "jaxep": estimators.EP(
        BETA,
        solvers.Tolerance(100, "alternating", 1.7, 1e-4),
        solvers.Tolerance(40, "alternating", 1.7, 2e-5),
    ),
    "jaxep, default phases": tasks.build_estimator(from_config(get_config())),
    "jaxep, paper's steps": estimators.EP(BETA, solvers.Fixed(T_FREE), solvers.Fixed(T_NUDGE)),
}
LIKE_JAXEP = tuple(OURS)[1:]  # their single step is the first one's
# Where rounding decides a near tie in a pool the other way, a sample takes another path for good;
# in few steps few samples meet one: in VGG-12, PyTorch too, 1 of 16 after 6 steps, none after 4.
CHECKED_STEPS = 4


class Engine(NamedTuple):
    """One code: `steps(n)` runs n synchronous steps, `learn()` the three phases of an update."""

    steps: Callable[[int], Any]
    learn: Callable[[], Any] | None = None


def synchronous(model: Energy, params, batch, steps):
    """`steps` synchronous steps; the count is traced, so one compilation serves all."""
    x, states = batch
    step = Sweep(model, free_value(model, *model.prepare(params, x)), "synchronous")
    return jax.lax.fori_loop(0, steps, lambda _, s: step(s), states)


def naive_engine(p: Problem) -> Engine:
    """jax.grad of the textbook Φ under jit; no training step, which takes minutes on a CPU."""
    model = Energy(functools.partial(textbook.phi, p.network), p.model.loss, p.model.init_states)
    run = jax.jit(functools.partial(synchronous, model))
    start = p.network.init_states(jax.random.key(0), len(p.labels), "zeros")
    return Engine(lambda steps: jax.block_until_ready(run(p.params, (p.x, start), steps)))


def jaxep_engine(p: Problem, estimator: estimators.EP) -> Engine:
    """The library as train.py runs it: the batch over all devices, which are a CPU's cores."""
    steps_of = functools.partial(synchronous, p.model)
    run = jax.jit(functools.partial(samples_over_devices, steps_of))
    start = p.network.init_states(jax.random.key(0), len(p.labels), "zeros")

    def learn(params, batch):
        x, labels = batch
        targets = signals.Targets(labels)
        return estimator.value_and_grad(p.model)(params, (x, targets), jax.random.key(0))[1]

    update = jax.jit(functools.partial(mean_over_devices, learn))
    return Engine(
        lambda steps: jax.block_until_ready(run(p.params, (p.x, start), steps)),
        lambda: jax.block_until_ready(update(p.params, (p.x, p.labels))),
    )


def torch_engine(p: Problem) -> Engine:
    """Plain PyTorch."""
    chain = torch_reference.from_jax(p.network, p.params)
    x, labels = torch_reference.image(p.x), torch_reference.tensor(p.labels).long()
    start = torch_reference.zeros(p.network, len(labels))
    return Engine(
        lambda steps: torch_reference.settle(chain, x, start, labels, 0.0, steps),
        lambda: torch_reference.gradients(chain, x, start, labels, BETA, T_FREE, T_NUDGE),
    )


def peer_engine(p: Problem, module: Any) -> Engine:
    """The public code."""
    chain = torch_reference.from_jax(p.network, p.params)
    model = peer_code.build(module, p.network, chain)
    x, labels = torch_reference.image(p.x), torch_reference.tensor(p.labels).long()
    start = torch_reference.zeros(p.network, len(labels))
    return Engine(
        lambda steps: peer_code.settle(model, x, start, labels, 0.0, steps),
        lambda: peer_code.gradients(model, x, start, labels, BETA, T_FREE, T_NUDGE),
    )


def engines(p: Problem, module: Any) -> dict[str, Engine]:
    """All that are compared, by name."""
    found = {name: jaxep_engine(p, estimator) for name, estimator in OURS.items()}
    found |= {"naive JAX": naive_engine(p), "PyTorch": torch_engine(p)}
    return found | ({"peer": peer_engine(p, module)} if module else {})


def check(p: Problem, all_engines: dict[str, Engine]) -> dict[str, dict[str, float]]:
    """How far each engine's states are from the textbook's after some steps.

    Returns:
        By engine: the largest difference over samples that stay within 1e-4, and how many leave.

    Raises:
        SystemExit: over a tenth of the samples leave: then no time would mean anything.
    """
    reference = all_engines["naive JAX"].steps(CHECKED_STEPS)
    found = {}
    for name, engine in all_engines.items():
        pairs = zip(engine.steps(CHECKED_STEPS), reference, strict=True)
        gaps = np.max([_sample_gaps(state, expected) for state, expected in pairs], axis=0)
        left = gaps > 1e-4
        if left.sum() > 0.1 * len(gaps):
            raise SystemExit(f"{name}: {left.sum()} samples differ from the textbook: not timed")
        found[name] = {"gap": float(gaps[~left].max()), "samples_left": int(left.sum())}
    return found


def _sample_gaps(state: Any, expected: jax.Array) -> np.ndarray:
    """Largest difference within each sample, [batch]; a tensor's channels come first."""
    if isinstance(state, torch.Tensor):
        state = state.detach().numpy()
        state = state.transpose(0, 2, 3, 1) if state.ndim == 4 else state
    return np.abs(np.asarray(state) - np.asarray(expected)).reshape(len(state), -1).max(1)


def quality(p: Problem) -> dict[str, dict[str, float]]:
    """Residual of the free phase and cosine to the exact gradient, by each of our ways."""
    tight = solvers.Tolerance(3000, "alternating", 1.7, 1e-6)
    exact = jax.jit(estimators.Implicit(tight, tol=1e-5).value_and_grad(p.model))
    batch = p.x, signals.Targets(p.labels)
    _, target, _ = exact(p.params, batch, jax.random.key(0))
    found = {}
    for name, estimator in OURS.items():
        estimate = jax.jit(estimator.value_and_grad(p.model))
        _, grads, aux = estimate(p.params, batch, jax.random.key(0))
        assert aux.nudged is not None
        found[name] = {
            "free_steps": int(aux.free.steps),
            "nudge_steps": int(aux.nudged.steps),
            "cosine": cosine(grads, target),
            # Of one more plain synchronous step, which is one measure for both orders.
            "residual": float(plain_residual(p, aux.free.states)),
        }
    return found


def plain_residual(p: Problem, states) -> jax.Array:
    """||F(ξ) - ξ|| / ||ξ|| of the synchronous transition F."""
    moved = synchronous(p.model, p.params, (p.x, states), 1)
    return solvers.relative_residual(moved, states)


def cosine(a: Any, b: Any) -> float:
    """Over all parameters together."""
    u, v = (jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(t)]) for t in (a, b))
    return float(u @ v / jnp.linalg.norm(u) / jnp.linalg.norm(v))


def measure(net: str, batch: int, rounds: int, module: Any, count: int = 20) -> dict[str, Any]:
    """Medians over interleaved rounds."""
    p = problem(net, batch)
    all_engines = engines(p, module)
    gaps = check(p, all_engines)
    matmul = matmul_seconds()
    steps: dict[str, list[float]] = {name: [] for name in all_engines if name not in LIKE_JAXEP}
    learns: dict[str, list[float]] = {name: [] for name, e in all_engines.items() if e.learn}
    first = {name: seconds(engine.learn) for name, engine in all_engines.items() if engine.learn}
    matmuls = []
    for _ in range(rounds):
        matmuls.append(matmul())
        for name, engine in all_engines.items():
            if name in steps:
                steps[name].append(seconds(functools.partial(engine.steps, count)) / count)
            if engine.learn:
                learns[name].append(seconds(engine.learn))
    rate = 2 * MATMUL**3 / statistics.median(matmuls)
    flops = step_flops(p.network, batch)
    return {
        "batch": batch,
        "rounds": rounds,
        "states": gaps,
        "step_ms": {k: 1e3 * statistics.median(v) for k, v in steps.items()},
        "training_step_ms": {k: 1e3 * statistics.median(v) for k, v in learns.items()},
        # The first call compiles, the others do not.
        "compile_s": first["jaxep"] - statistics.median(learns["jaxep"]),
        "step_gflop": flops / 1e9,
        "matmul_gflops": rate / 1e9,
        "share_of_limit": flops / rate / statistics.median(steps["jaxep"]),
        "quality": quality(p),
    }


def main() -> None:
    """Measures the nets named, keeps the others' results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("nets", nargs="*", default=["vgg7"], help=", ".join(NETS))
    parser.add_argument("--peer", default="", help="checkout of Equilibrium-Propagation")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    train.prepare_jax()
    jax.config.update("jax_enable_compilation_cache", False)
    module = peer_code.load(arguments.peer) if arguments.peer else None
    result = load("step_time")
    for name in arguments.nets:
        result[name] = measure(name, arguments.batch, arguments.rounds, module)
        save("step_time", {key: result[key] for key in result if key in NETS})
    print(table(result))
    draw(result)


if __name__ == "__main__":
    main()
