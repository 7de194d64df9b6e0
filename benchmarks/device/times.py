"""How long do a step and a training step take on the device, beside PyTorch and the peer on it?

The nets and phases of `step_time`, at the paper's batch, each code and precision in a process of
its own. The states of every code must agree with the textbook's, as far as its precision allows,
before its times count. Without torch (pip install torch) its rows are left out.
"""

import functools
import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks.device.precisions import PRECISIONS
from benchmarks.device.rows import ENVIRONMENT, ON_CPU, Clock, Row, fill, measured
from benchmarks.shared import show, workload
from benchmarks.shared.results import Options, Result
from benchmarks.shared.workload import Problem, seconds
from benchmarks.speed.step_time import (
    CHECKED_STEPS,
    T_FREE,
    T_NUDGE,
    Engine,
    jaxep_engine,
    naive_engine,
    ours,
    sample_gaps,
    torch_engines,
)

# The largest difference of a state at which a sample is near, and the share of samples that may
# take another path: see `step_time`.
NEAR = {"float32": 1e-4, "TF32": 1e-2, "bfloat16": 1e-1}
MAY_LEAVE = 0.1
BACKPROP = "EP over backprop"
PAPER = "jaxep, paper's steps"


class Size(NamedTuple):
    """Nets, images of a batch, rounds of the clock, steps of a round, rows of a square product.

    The last: nets of `backprop_ratio`."""

    nets: tuple[str, ...]
    batch: int
    rounds: int
    steps: int
    product: int
    against_backprop: tuple[str, ...]


SIZES = {
    "paper": Size(("vgg7", "vgg5", "vgg12"), 128, 5, 100, 8192, ("VGG-7",)),
    "tiny": Size(("tiny",), 4, 1, 2, 64, ()),
}


def check(reference: Mapping[str, Any], states: Mapping[str, Any], near: float) -> Result:
    """How far states are from the textbook's.

    Returns:
        The largest difference over samples that stay near, and how many do not.

    Raises:
        RuntimeError: too many do not: then no time would mean anything.
    """

    gaps = np.max([sample_gaps(states[name], reference[name]) for name in reference], axis=0)
    left = gaps > near
    if left.sum() > MAY_LEAVE * len(gaps):
        raise RuntimeError(f"{left.sum()} of {len(gaps)} samples are not the textbook's: not timed")
    return {"gap": float(gaps[~left].max()), "samples_left": int(left.sum())}


def textbook_states(p: Problem) -> dict[str, Any]:
    """The states after some steps by the textbook, in float32."""
    with jax.default_matmul_precision("highest"):
        return naive_engine(p).steps(CHECKED_STEPS)


def clocked(
    p: Problem, size: Size, steps: Callable[[int], Any], learning: Mapping[str, Callable[[], Any]]
) -> Result:
    """Seconds of a step and of each training step, and images per second of the latter."""
    clocks = {"step": functools.partial(seconds, steps, size.steps)}
    clocks |= {name: functools.partial(seconds, learn) for name, learn in learning.items()}
    first = {name: clock() for name, clock in clocks.items()}
    times = workload.medians(clocks, size.rounds)
    learn = {name: times[name] for name in learning}
    return {
        "batch": len(p.x),
        "step_ms": 1e3 * times["step"] / size.steps,
        "training_step_ms": {name: 1e3 * spent for name, spent in learn.items()},
        "images_per_second": {name: len(p.x) / spent for name, spent in learn.items()},
        # The first call compiles, the others do not.
        "first_call_s": first,
    }


def of_jaxep(net: str, size: Size, precision: str) -> Result:
    """The library's row of a net; for a fresh process."""
    workload.whole_batch_on_one_device()
    p = workload.problem(net, size.batch)
    reference, flops = textbook_states(p), workload.step_flops(p.network, size.batch)
    with PRECISIONS[precision].of(p) as rounded:
        engines = {name: jaxep_engine(rounded, way) for name, way in ours().items()}
        steps = engines["jaxep"].steps
        states = check(reference, steps(CHECKED_STEPS), NEAR[precision])
        learning = {name: engine.learn for name, engine in engines.items() if engine.learn}
        row = clocked(rounded, size, steps, learning)
        product = workload.matmul_seconds(size.product, PRECISIONS[precision].states)
        product()
        rate = workload.matmul_flops(size.product) / product()
    # Both nudged phases; the drive of the first layer and the contrast are not counted.
    paper = (T_FREE + 2 * T_NUDGE) * flops / rate
    return {
        **row,
        "states": states,
        "step_gflop": flops / 1e9,
        "matmul_gflops": rate / 1e9,
        "share_of_limit": 1e3 * flops / rate / row["step_ms"],
        "share_of_limit_paper": 1e3 * paper / row["training_step_ms"][PAPER],
    }


def of_backprop(net: str, size: Size) -> Result:
    """Whole updates of EP over those of backpropagation; for a fresh process."""
    from benchmarks.speed import backprop_ratio

    workload.whole_batch_on_one_device()
    return backprop_ratio.measure_net(net, size.batch, size.rounds)


def of_torch(net: str, size: Size, precision: str, code: str, peer: str, platform: str) -> Result:
    """The row of PyTorch or of the peer; for a fresh process in which JAX has the CPU.

    Raises:
        RuntimeError: JAX has a device that torch does not see.
    """
    workload.whole_batch_on_one_device()
    import torch

    if platform != "cpu" and not torch.cuda.is_available():
        raise RuntimeError(f"torch sees no CUDA device, where JAX has a {platform}")
    p = workload.problem(net, size.batch)
    reference = textbook_states(p)
    torch.set_default_device("cpu" if platform == "cpu" else "cuda")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "TF32"
    engine = _waited_for(torch_engines(p, peer)[code], torch)
    told = check(reference, engine.steps(CHECKED_STEPS), NEAR[precision])
    assert engine.learn
    return {**clocked(p, size, engine.steps, {code: engine.learn}), "states": told}


def _waited_for(engine: Engine, torch: Any) -> Engine:
    """An engine whose calls return when the device has done them."""

    def waiting(call: Callable[..., Any]) -> Callable[..., Any]:
        def done(*given: Any) -> Any:
            found = call(*given)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            return found

        return done

    return Engine(waiting(engine.steps), waiting(engine.learn) if engine.learn else None)


def codes(peer: str) -> tuple[list[str], list[str]]:
    """The codes of torch that are here, and a line for each that is not."""
    if importlib.util.find_spec("torch") is None:
        return [], ["torch is not installed: without PyTorch and the peer"]
    if not peer:
        return ["PyTorch"], ["no --peer: without the public code"]
    if not Path(peer, "model_utils.py").is_file():
        return ["PyTorch"], [f"--peer {peer}: holds no model_utils.py: without the public code"]
    return ["PyTorch", "peer"], []


def measure(options: Options, clock: Clock, share: float, peer: str, platform: str) -> None:
    """Net by net: the library in each precision, then what it is compared with."""
    size, rows = SIZES[options.scale], {}
    found, absent = codes(peer)
    for line in absent:
        clock.tell(f"{options.name}: {line}")
    for net in size.nets:
        for precision in PRECISIONS:
            rows[f"{net}, jaxep, {precision}"] = Row(of_jaxep, (net, size, precision), ENVIRONMENT)
        for code in found:
            for precision in ("float32", "TF32"):
                given = (net, size, precision, code, peer, platform)
                rows[f"{net}, {code}, {precision}"] = Row(of_torch, given, ON_CPU)
    for net in size.against_backprop:
        rows[f"{net}, {BACKPROP}"] = Row(of_backprop, (net, size), ENVIRONMENT)
    fill(options, clock, share, rows)


def table(result: Result) -> str:
    """A line for each way of each row, and below them the ratios to backpropagation."""
    lines, ratios = [], {}
    for name, row in measured(result).items():
        if name.endswith(BACKPROP):
            ratios[name.removesuffix(f", {BACKPROP}")] = row
            continue
        for way, spent in row["training_step_ms"].items():
            limit = f"{row['share_of_limit']:.3f}" if "share_of_limit" in row else ""
            rate = f"{row['images_per_second'][way]:.0f}"
            told = [f"{row['step_ms']:.2f}", limit, f"{spent:.1f}", rate]
            lines.append([f"{name}, batch {row['batch']}", way, *told])
    header = ["net, code, precision", "phases", "step, ms", "of the matmul rate"]
    timed = show.markdown([*header, "training step, ms", "images / s"], lines)
    return f"{timed}\n\n{ratio_table(ratios)}" if ratios else timed


def ratio_table(ratios: Result) -> str:
    """As that of `backprop_ratio`."""
    from benchmarks.speed import backprop_ratio

    return backprop_ratio.table(ratios)
