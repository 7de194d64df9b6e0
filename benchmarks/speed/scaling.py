"""How does an update scale with devices?

Measured on virtual CPU devices, each count in a process of its own: strong scaling (one batch, cut
finer) and weak scaling (as many images for each device), and the bytes that an update all-reduces,
counted in the compiled program and in the gradient tree. Virtual devices share the machine's cores:
beyond their number the measurement shows what cutting a batch costs, and no speed.

On paper: what 8 to 1024 GPUs would do with the paper's VGG-7, from the counted bytes and FLOPs and
the assumptions in `ASSUMED`.
"""

import os
import re
import statistics
import time
from typing import Any

import jax
import numpy as np

from benchmarks.shared import show, systems, workload
from benchmarks.shared.results import Claim, Claims, Options, Result
from benchmarks.shared.runs import Run, settings_of
from jaxep.training import parallel, steps
from jaxep.training.tasks import ep_task

ARGUMENTS = {"--updates": 5}
DEVICES = (1, 2, 4, 8)
STRONG, WEAK = 64, 8  # images of the whole batch, images for each device
GPUS = (8, 16, 32, 64, 128, 256, 512, 1024)
# Not measured here: round numbers for a cluster with one 200 Gbit/s port for each GPU.
ASSUMED = {
    "sustained FLOP/s of a GPU": 5e13,
    "bytes/s of a link": 25e9,
    "seconds of latency of a hop": 1e-5,
    "images for each GPU, weak": 128,
    "images of the batch, strong": 1024,
}
BYTES = {"f32": 4, "bf16": 2, "f16": 2, "f64": 8, "s32": 4, "u32": 4, "pred": 1}
# Weak scaling holds where as many devices as cores take at most this many times as long as one.
NEAR = 1.1


def reduced_bytes(program: str) -> int:
    """Bytes that all all-reduces of a compiled program take, from its text."""
    total = 0
    for result in re.findall(r"= (\S.*?) all-reduce(?:-start)?\(", program):
        for kind, shape in re.findall(r"([a-z]+\d*)\[([\d,]*)\]", result):
            total += BYTES[kind] * int(np.prod([int(n) for n in shape.split(",") if n] or [1]))
    return total


def updates(devices: int, batch: int, count: int) -> dict[str, Any]:
    """Seconds of an update of digits_le on virtual devices, and what it all-reduces.

    For a fresh process.
    """
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", devices)
    mine = systems.system(Run("digits_le", {"batch_size": batch}))
    task = ep_task(mine.settings, mine.data, 1)
    state = steps.init_state(task, jax.random.key(0))
    gradient = sum(leaf.nbytes for leaf in jax.tree.leaves(state.params))
    everywhere = (state, mine.data.train, jax.random.key(1))
    state, split, key = parallel.replicated(everywhere, task.mesh)
    compiled = steps.train_chunk.lower(task, batch, state, split, 1, key, 0.0).compile()
    seconds = []
    for stop in range(1, 2 + count):
        began = time.perf_counter()
        state = jax.block_until_ready(compiled(state, split, stop, key, 0.0))
        seconds.append(time.perf_counter() - began)
    return {
        "devices": jax.device_count(),
        "batch": batch,
        "seconds": statistics.median(seconds[1:]),  # the first time is slow
        "all_reduced_bytes": reduced_bytes(compiled.as_text() or ""),
        "gradient_and_metrics_bytes": gradient + 4 * len(task.metrics),
    }


def on_paper() -> dict[str, Any]:
    """VGG-7-LE of the paper on many GPUs: seconds of an update, compute and all-reduce apart."""
    run = Run("vgg7_le")
    model, settings = systems.model(run), settings_of(run)
    params = jax.eval_shape(model.init_params, jax.random.key(0))
    gradient = sum(4 * leaf.size for leaf in jax.tree.leaves(params))
    sweeps = settings.t_free + 2 * settings.t_nudge
    # Without the drive of the first layer, which is computed once per batch.
    flops = sweeps * workload.step_flops(model.network, 1)
    rate, link, hop, weak, strong = ASSUMED.values()
    rows = []
    for count in GPUS:
        # A ring: each GPU sends and receives 2 (n - 1) / n of the bytes, in 2 (n - 1) hops.
        reduce = 2 * (count - 1) / count * gradient / link + 2 * (count - 1) * hop
        row = {"gpus": count, "all_reduce_seconds": reduce}
        for kind, images in (("weak", weak), ("strong", strong / count)):
            compute = images * flops / rate
            row[f"{kind}_compute_seconds"] = compute
            row[f"{kind}_efficiency"] = compute / (compute + reduce)
        rows.append(row)
    return {"gradient_bytes": gradient, "sweeps": sweeps, "flops_per_image": flops, "rows": rows}


def measure(options: Options) -> Result:
    """Both kinds of scaling, and the model."""
    count = options.own.updates
    return {
        "cores": len(os.sched_getaffinity(0)),
        "strong": [workload.alone(updates, n, STRONG, count) for n in DEVICES],
        "weak": [workload.alone(updates, n, WEAK * n, count) for n in DEVICES],
        "assumed": ASSUMED,
        "model": on_paper(),
    }


def table(result: Result) -> str:
    """Both parts."""
    measured = []
    for row in (*result["strong"], *result["weak"]):
        sizes = [row["all_reduced_bytes"], row["gradient_and_metrics_bytes"]]
        measured.append([row["devices"], row["batch"], f"{1000 * row['seconds']:.1f}", *sizes])
    modelled = []
    for row in result["model"]["rows"]:
        shares = [f"{row[f'{kind}_efficiency']:.1%}" for kind in ("weak", "strong")]
        modelled.append([row["gpus"], f"{1000 * row['all_reduce_seconds']:.2f}", *shares])
    header = ["virtual devices", "batch", "ms / update", "bytes all-reduced"]
    header += ["in the gradient tree"]
    on_gpus = ["GPUs, on paper", "all-reduce, ms", "efficiency, weak", "strong"]
    return f"{show.markdown(header, measured)}\n\n{show.markdown(on_gpus, modelled)}"


def claims(result: Result) -> Claims:
    """What is sent, and what a device more costs."""
    cut = [row for row in (*result["strong"], *result["weak"]) if row["devices"] > 1]
    pairs = [(row["all_reduced_bytes"], row["gradient_and_metrics_bytes"]) for row in cut]
    here = f"{show.between((a / b for a, b in pairs), '.3f')} of {pairs[0][1]} bytes"
    statement = "An update all-reduces gradients and metrics once, and nothing else"
    yield Claim(statement, "aim: equal bytes", here, all(a == b for a, b in pairs))
    seconds = {row["devices"]: row["seconds"] for row in result["weak"]}
    most = max(n for n in seconds if n <= max(result["cores"], 1))
    here = f"{seconds[most] / seconds[1]:.2f} times on {most} devices"
    statement = "As many devices as cores, each with as many images, take as long as one"
    yield Claim(statement, f"aim: {NEAR} times", here, seconds[most] <= NEAR * seconds[1])


def draw(result: Result):
    """Measured seconds on the left, the model's efficiency on the right."""
    measured: list[show.Part] = []
    modelled, rows = list(measured), result["model"]["rows"]
    gpus = [row["gpus"] for row in rows]
    for kind, marker, whose in (("strong", "o-", "in all"), ("weak", "s-", "each")):
        own = result[kind]
        times, devices = [1000 * r["seconds"] for r in own], [r["devices"] for r in own]
        measured.append(show.line(f"{own[0]['batch']} images {whose}", times, devices, marker))
        shares = show.percents(row[f"{kind}_efficiency"] for row in rows)
        key = next(key for key in result["assumed"] if key.endswith(kind))
        label = f"{result['assumed'][key]:.0f} images {whose}"
        modelled.append(show.line(label, shares, gpus, marker))
    measured.append(show.upright(result["cores"], f"{result['cores']} cores"))
    title, label = "measured: virtual CPU devices", "ms / update"
    left = show.Panel(title, measured, label, "devices", "x", (0, None), devices, "best")
    title, label = "on paper: VGG-7-LE, GPUs", "efficiency, %"
    right = show.Panel(title, modelled, label, "GPUs", "x", (0, 103), gpus, "best")
    return show.figure([[left, right]], size=(5, 3.8))
