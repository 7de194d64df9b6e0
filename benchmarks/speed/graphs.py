"""What does a sweep over the layers of a graph cost, in a chain and in a residual net?

FLOPs of one alternating sweep, in which each colour of layers moves once, over those of one
synchronous step, by XLA's analysis of the compiled loop without what is prepared once; the time of
both; and compilation and memory of a training step. A net is measured in a process of its own, with
the whole batch on one device.
"""

import functools
import statistics
import time
from collections.abc import Iterator
from typing import Any

import jax

from benchmarks.shared import show, workload
from benchmarks.shared.results import Claim, Claims, Options, Result
from jaxep import EP, Fixed
from jaxep.core.sweep import ORDERS

NETS = ("digits_le", "vgg7", "resnet13/4", "resnet13")
ARGUMENTS = {"nets": NETS, "--batch": 32, "--rounds": 5}
# FLOPs of a sweep over those of a step.
ALLOWED = 1.05
# Sweeps of the training step whose compilation and memory are measured.
T_FREE, T_NUDGE, BETA = 20, 10, 0.25
FEW, MANY = 5, 25


def sweep_ms(p: workload.Problem, rounds: int) -> dict[str, float]:
    """Milliseconds of one sweep in a running loop by order: medians over interleaved rounds."""
    states = p.energy.init_states(jax.random.key(0), p.params, p.x)
    runs = {o: jax.jit(functools.partial(workload.sweeps, p.energy, o)) for o in ORDERS}

    def each(order: str) -> float:
        of = functools.partial(workload.seconds, runs[order], p.params, (p.x, states))
        return (of(MANY) - of(FEW)) / (MANY - FEW)

    clocks = {order: functools.partial(each, order) for order in ORDERS}
    workload.medians(clocks, 1)  # compiles
    return {order: 1e3 * spent for order, spent in workload.medians(clocks, rounds).items()}


def measure_net(name: str, batch: int, rounds: int) -> dict[str, Any]:
    """All numbers of one net; for a fresh process."""
    workload.whole_batch_on_one_device()
    p = workload.problem(name, batch)
    estimator = EP(BETA, Fixed(T_FREE, "alternating"), Fixed(T_NUDGE, "alternating"))
    learn = jax.jit(estimator.value_and_grad(p.energy))
    given = (p.params, p.batch, jax.random.key(0))
    lowered, began = learn.lower(*given), time.perf_counter()
    compiled = lowered.compile()
    compile_s = time.perf_counter() - began
    train = functools.partial(workload.seconds, compiled, *given)
    train()
    sizes: Any = compiled.memory_analysis()
    return {
        "batch": batch,
        "layers": len(p.network.layers),
        "weights": len(p.model.weight_names),
        "colours": len(set(p.network.blocks.values())),
        "sweep_gflop": workload.sweep_gflop(p),
        "sweep_ms": sweep_ms(p, rounds),
        "compile_s": compile_s,
        "training_step_ms": 1e3 * statistics.median(train() for _ in range(rounds)),
        "temporary_mb": sizes.temp_size_in_bytes / 1e6,
    }


def measure(options: Options) -> Result:
    """The nets that are named, the others' results kept."""
    own = options.own
    of = functools.partial(workload.alone, measure_net, batch=own.batch, rounds=own.rounds)
    return options.each(own.nets, NETS, of)


def _rows(result: Result) -> Iterator[tuple[str, dict[str, Any], dict[str, float]]]:
    """(net, its numbers, ratios of an alternating sweep to a synchronous step)."""
    for name, row in show.known(NETS, result):
        ratios = {
            k: row[k]["alternating"] / row[k]["synchronous"] for k in ("sweep_gflop", "sweep_ms")
        }
        yield name, row, ratios


def table(result: Result) -> str:
    """FLOPs and milliseconds of sweeps, compilation and memory of a training step."""
    rows = []
    for name, row, ratios in _rows(result):
        cells = [f"{name}, {row['batch']}", f"{row['layers']}, {row['weights']}, {row['colours']}"]
        for key, form in (("sweep_gflop", ".3f"), ("sweep_ms", ".2f")):
            cells += [f"{row[key][order]:{form}}" for order in ORDERS] + [f"{ratios[key]:.3f}"]
        cells += [f"{row['training_step_ms']:.0f}", f"{row['compile_s']:.1f}"]
        rows.append([*cells, f"{row['temporary_mb']:.0f}"])
    header = ["net, batch", "layers, weights, colours", "step, GFLOP", "sweep, GFLOP", "ratio"]
    header += ["step, ms", "sweep, ms", "ratio", f"training step ({T_FREE} + {T_NUDGE} sweeps), ms"]
    return show.markdown([*header, "compilation, s", "temporaries, MB"], rows)


def claims(result: Result) -> Claims:
    """A sweep costs what a step costs, in a graph too."""
    for name, row, ratios in _rows(result):
        statement = f"{name}: a sweep of {row['colours']} colours costs one synchronous step"
        flops, time = ratios["sweep_gflop"], ratios["sweep_ms"]
        here = f"{flops:.3f} times its FLOPs, {time:.2f} times its time"
        yield Claim(statement, f"aim: {ALLOWED} times its FLOPs", here, flops <= ALLOWED)


def draw(result: Result):
    """Both sweeps side by side, in FLOPs and in time."""
    rows, panels = list(_rows(result)), []
    names = [f"{name}, {row['batch']}" for name, row, _ in rows]
    for key, label in (("sweep_gflop", "GFLOP"), ("sweep_ms", "ms")):
        groups = {f"{o} sweep": [row[key][o] for _, row, _ in rows] for o in ORDERS}
        parts = [show.bars(names, groups, "%.3g")]
        panels.append(show.Panel("", parts, f"one sweep, {label}", "", "y", legend="upper left"))
    return show.figure([panels])
