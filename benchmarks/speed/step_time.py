"""How long do a step and a training step take, beside other codes and beside the machine's limit?

The same weights and inputs everywhere; states must agree to 1e-4 before any timing counts. Engines
take turns within each round, and medians are compared. Without torch (pip install torch) its
engines are left out; --peer takes a checkout of
github.com/Laborieux-Axel/Equilibrium-Propagation.
"""

import functools
import importlib.util
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks.baselines import textbook
from benchmarks.shared import show, systems, workload
from benchmarks.shared.results import Claim, Claims, Options, Result
from benchmarks.shared.runs import Run, settings_of
from benchmarks.shared.workload import Problem, seconds, sweeps
from jaxep import EP, Energy, Fixed, Implicit, Tolerance
from jaxep.core.solvers import relative_residual
from jaxep.training.dynamics import build_estimator
from jaxep.training.parallel import mean_over_devices, samples_over_devices

# Chains, as the engines that are compared know no graphs.
NETS = ("vgg5", "vgg7", "vgg12", "digits_le")
# The peer: a checkout of Equilibrium-Propagation.
ARGUMENTS = {"nets": NETS, "--peer": "", "--batch": 32, "--rounds": 5}
T_FREE, T_NUDGE, BETA = 250, 50, 0.25
# Where rounding decides a near tie in a pool the other way, a sample takes another path for good;
# in few steps few samples meet one: in VGG-12, PyTorch too, 1 of 16 after 6 steps, none after 4.
CHECKED_STEPS = 4


def ours() -> dict[str, EP]:
    """The engine's ways to the equilibrium, all judged by `quality`.

    The first is tighter than the defaults of train.py: chosen by hand, with a residual under that
    of the others' 250 + 50 steps. Their single step is the same.
    """
    free, nudge = (
        Tolerance(steps, "alternating", 1.7, tol) for steps, tol in ((100, 1e-4), (40, 2e-5))
    )
    return {
        "jaxep": EP(BETA, free, nudge),
        "jaxep, default phases": build_estimator(settings_of(Run("base"))),
        "jaxep, paper's steps": EP(BETA, Fixed(T_FREE), Fixed(T_NUDGE)),
    }


class Engine(NamedTuple):
    """One code: `steps(n)` runs n synchronous steps, `learn()` the three phases of an update."""

    steps: Callable[[int], Any]
    learn: Callable[[], Any] | None = None


def from_zero(p: Problem) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The images, and the states from which all engines start."""
    return p.x, p.network.init_states(None, len(p.x), "zeros", p.x.dtype)


def naive_engine(p: Problem) -> Engine:
    """jax.grad of the textbook Φ under jit; no training step, which takes minutes on a CPU."""
    phi = functools.partial(textbook.phi, p.network)
    energy = Energy(phi, p.energy.loss, p.energy.init_states, p.network.activations)
    run = jax.jit(functools.partial(sweeps, energy, "synchronous"))
    return Engine(functools.partial(run, p.params, from_zero(p)))


def jaxep_engine(p: Problem, estimator: EP) -> Engine:
    """The library as train.py runs it: the batch over all devices, which are a CPU's cores."""
    steps_of = functools.partial(sweeps, p.energy, "synchronous")
    run = jax.jit(functools.partial(samples_over_devices, steps_of))

    def learn(params, batch):
        return estimator.value_and_grad(p.energy)(params, batch, jax.random.key(0))[1]

    update = jax.jit(functools.partial(mean_over_devices, learn))
    return Engine(
        functools.partial(run, p.params, from_zero(p)),
        functools.partial(update, p.params, p.batch),
    )


def torch_engines(p: Problem, peer: str) -> dict[str, Engine]:
    """Plain PyTorch, and the public code of a checkout."""
    from benchmarks.baselines import peer as peer_code
    from benchmarks.baselines import torch_reference

    chain = torch_reference.from_jax(p.network, p.params, p.x, p.targets.labels)
    start = torch_reference.zeros(p.network, len(p.x))

    def engine(code: Any, model: Any) -> Engine:
        def steps(count: int) -> dict[str, Any]:
            states = code.settle(model, start, 0.0, count)
            return dict(zip(p.network.layer_names, states, strict=True))

        return Engine(steps, functools.partial(code.gradients, model, start, BETA, T_FREE, T_NUDGE))

    found = {"PyTorch": engine(torch_reference, chain)}
    if peer:
        theirs = peer_code.build(peer_code.load(peer), p.network, chain)
        found["peer"] = engine(peer_code, theirs)
    return found


def engines(p: Problem, peer: str) -> dict[str, Engine]:
    """All that are compared, by name."""
    found = {name: jaxep_engine(p, estimator) for name, estimator in ours().items()}
    found["naive JAX"] = naive_engine(p)
    return found | torch_engines(p, peer) if has_torch() else found


def has_torch() -> bool:
    """Whether torch can be imported; where it cannot, says what is left out."""
    found = importlib.util.find_spec("torch") is not None
    if not found:
        print("torch is not installed: without PyTorch and the peer", flush=True)
    return found


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
        states = engine.steps(CHECKED_STEPS)
        gaps = np.max([sample_gaps(states[n], reference[n]) for n in reference], axis=0)
        left = gaps > 1e-4
        if left.sum() > 0.1 * len(gaps):
            raise SystemExit(f"{name}: {left.sum()} samples differ from the textbook: not timed")
        found[name] = {"gap": float(gaps[~left].max()), "samples_left": int(left.sum())}
    return found


def sample_gaps(state: Any, expected: Any) -> np.ndarray:
    """Largest difference within each sample, [batch]; a torch tensor's channels come first."""
    if hasattr(state, "detach"):
        state = state.detach().cpu().numpy()
        state = state.transpose(0, 2, 3, 1) if state.ndim == 4 else state
    difference = np.asarray(state, np.float64) - np.asarray(expected, np.float64)
    return np.abs(difference).reshape(len(difference), -1).max(1)


def quality(p: Problem) -> dict[str, dict[str, float]]:
    """Residual of the free phase and cosine to the exact gradient, by each of our ways."""
    tight = Tolerance(3000, "alternating", 1.7, 1e-6)
    exact = jax.jit(Implicit(tight, tol=1e-5).value_and_grad(p.energy))
    _, target, _ = exact(p.params, p.batch, jax.random.key(0))
    found = {}
    for name, estimator in ours().items():
        estimate = jax.jit(estimator.value_and_grad(p.energy))
        _, grads, aux = estimate(p.params, p.batch, jax.random.key(0))
        # Of one more plain synchronous step, which is one measure for both orders.
        moved = sweeps(p.energy, "synchronous", p.params, (p.x, aux.free.states), 1)
        found[name] = {
            "free_steps": int(aux.free.steps),
            "nudge_steps": int(aux.nudged.steps),
            "cosine": systems.cosine(grads, target),
            "residual": float(relative_residual(moved, aux.free.states)),
        }
    return found


def measure_net(net: str, batch: int, rounds: int, peer: str, count: int = 20) -> dict[str, Any]:
    """Medians over interleaved rounds."""
    p = workload.problem(net, batch)
    all_engines = engines(p, peer)
    gaps, clocks = check(p, all_engines), {("", "matmul"): workload.matmul_seconds()}
    for name, engine in all_engines.items():
        if not name.startswith("jaxep,"):
            clocks["step", name] = functools.partial(seconds, engine.steps, count)
        if engine.learn:
            clocks["learn", name] = functools.partial(seconds, engine.learn)
    first = {key: clock() for key, clock in clocks.items() if key[0] == "learn"}
    times = workload.medians(clocks, rounds)
    rate = workload.matmul_flops() / times["", "matmul"]
    flops = workload.step_flops(p.network, batch)
    return {
        "batch": batch,
        "rounds": rounds,
        "states": gaps,
        "step_ms": {n: 1e3 * s / count for (kind, n), s in times.items() if kind == "step"},
        "training_step_ms": {n: 1e3 * s for (kind, n), s in times.items() if kind == "learn"},
        # The first call compiles, the others do not.
        "compile_s": first["learn", "jaxep"] - times["learn", "jaxep"],
        "step_gflop": flops / 1e9,
        "compiled_gflop": workload.sweep_gflop(p),
        "matmul_gflops": rate / 1e9,
        "share_of_limit": count * flops / rate / times["step", "jaxep"],
        "quality": quality(p),
    }


def measure(options: Options) -> Result:
    """The nets that are named, the others' results kept."""
    jax.config.update("jax_enable_compilation_cache", False)
    own = options.own
    of = functools.partial(measure_net, batch=own.batch, rounds=own.rounds, peer=own.peer)
    return options.each(own.nets, NETS, of)


def table(result: Result) -> str:
    """Milliseconds and ratios to jaxep; quality and compilation."""
    lines, ways = [], []
    for net, row in show.known(NETS, result):
        step, learn, place = row["step_ms"], row["training_step_ms"], f"{net}, {row['batch']}"
        for engine in [*learn, *(name for name in step if name not in learn)]:
            lines.append([place, engine, *_cells(step, engine, 1), *_cells(learn, engine, 0)])
        share = row["share_of_limit"]
        limit = f"limit: {row['step_gflop']:.2f} GFLOP at {row['matmul_gflops']:.0f} GFLOP/s"
        lines.append([place, limit, f"{step['jaxep'] * share:.1f}", f"{share:.2f}", "", ""])
        for order, counted in row.get("compiled_gflop", {}).items():
            lines.append([place, f"compiled: {counted:.2f} GFLOP, {order}", *[""] * 4])
        for name, q in row["quality"].items():
            told = [f"{q['free_steps']} + {q['nudge_steps']}", f"{q['residual']:.0e}"]
            compiled = f"{row['compile_s']:.0f}" if name == "jaxep" else ""
            ways.append([place, name, *told, f"{q['cosine']:.4f}", compiled])
    header = ["net, batch", "engine", "step, ms", "÷ jaxep", "training step, ms", "÷ jaxep"]
    quality = ["net, batch", "phases", "sweeps", "residual", "cosine to the exact gradient"]
    below = show.markdown([*quality, "compilation, s"], ways)
    return f"{show.markdown(header, lines)}\n\n{below}"


def _cells(times: dict[str, float], engine: str, digits: int) -> tuple[str, str]:
    """Milliseconds and ratio to jaxep, or two empty cells."""
    if engine not in times:
        return "", ""
    return f"{times[engine]:.{digits}f}", f"{times[engine] / times['jaxep']:.2f}"


def claims(result: Result) -> Claims:
    """Faster than each other code."""
    for net, row in show.known(NETS, result):
        kinds = {"one step": row["step_ms"], "a training step": row["training_step_ms"]}
        for other in (name for name in row["step_ms"] if name != "jaxep"):
            found = {k: t[other] / t["jaxep"] for k, t in kinds.items() if other in t}
            here = ", ".join(f"{ratio:.2f} times in {kind}" for kind, ratio in found.items())
            yield Claim(f"{net}: faster than {other}", "aim: faster", here, min(found.values()) > 1)


def draw(result: Result):
    """Bars of both times, a panel for each net."""
    rows = []
    for net, row in show.known(NETS, result):
        learn = {name: value / 1e3 for name, value in row["training_step_ms"].items()}
        limit = row["step_ms"]["jaxep"] * row["share_of_limit"]
        told = show.upright(limit, "limit: direct FLOP / matmul rate", color="C3", ls="--")
        steps = [show.bars_along(row["step_ms"], "%.0f"), told]
        title, both = f"{net}, batch {row['batch']}", [show.bars_along(learn, "%.1f")]
        one = show.Panel(title, steps, "", "one synchronous step, ms")
        rows.append([one, show.Panel(title, both, "", "one training step (three phases), s")])
    return show.figure(rows, legend=1, size=(4.5, 2.6))
