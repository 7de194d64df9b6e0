"""How does an update scale with devices? python -m benchmarks.scaling [--updates N]

Measured on virtual CPU devices, each count in a process of its own: strong scaling (one batch, cut
finer) and weak scaling (as many images for each device), and the bytes that an update all-reduces,
counted in the compiled program and in the gradient tree. Virtual devices share the machine's cores:
beyond their number the measurement shows what cutting a batch costs, and no speed.

On paper: what 8 to 1024 GPUs would do with the paper's VGG-7, from the counted bytes and FLOPs and
the assumptions in `ASSUMED`. Writes results/scaling.json and scaling.png.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.provenance import RESULTS, save
from benchmarks.workload import step_flops
from jaxep.nets import heads as signals
from jaxep.training import parallel
from jaxep.training.data import CLASSES, Dataset, Split, moments
from jaxep.training.loop import load_data, make_task
from jaxep.training.settings import IMAGE_SHAPES, from_config, load_config_file
from jaxep.training.steps import init_state, train_chunk
from jaxep.training.tasks import build_network, build_signal

ROOT = Path(__file__).parent.parent
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


def reduced_bytes(program: str) -> int:
    """Bytes that all all-reduces of a compiled program take, from its text."""
    total = 0
    for result in re.findall(r"= (\S.*?) all-reduce(?:-start)?\(", program):
        for kind, shape in re.findall(r"([a-z]+\d*)\[([\d,]*)\]", result):
            total += BYTES[kind] * int(np.prod([int(n) for n in shape.split(",") if n] or [1]))
    return total


def worker(batch: int, updates: int) -> dict[str, Any]:
    """Seconds of an update of digits_le on this process's devices, and what it all-reduces."""
    config = load_config_file("configs/digits_le.py")
    config.batch_size = batch
    settings = from_config(config)
    data = load_data(settings)
    task = make_task(settings, data)
    state = init_state(task, jax.random.key(0))
    gradient = sum(leaf.nbytes for leaf in jax.tree.leaves(state.params))
    state, split, key = parallel.replicated((state, data.train, jax.random.key(1)), task.mesh)
    lowered = train_chunk.lower(task, batch, state, split, 1, key, np.float32(1), 0.0)
    compiled = lowered.compile()

    def chunk(state, stop):
        return compiled(state, split, stop, key, np.float32(1), 0.0)

    reduced = reduced_bytes(compiled.as_text() or "")
    state = chunk(state, 1)
    seconds = []
    for number in range(updates):
        began = time.perf_counter()
        state = jax.block_until_ready(chunk(state, number + 2))
        seconds.append(time.perf_counter() - began)
    metrics = 4 * len(task.metrics)
    return {
        "devices": jax.device_count(),
        "batch": batch,
        "seconds": float(np.median(seconds)),
        "all_reduced_bytes": reduced,
        "gradient_and_metrics_bytes": gradient + metrics,
    }


def measure(devices: int, batch: int, updates: int) -> dict[str, Any]:
    """`worker` in a process with as many virtual devices."""
    command = [sys.executable, "-m", "benchmarks.scaling", "--batch", str(batch)]
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": str(devices), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [*command, "--updates", str(updates)],
        cwd=ROOT,
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def model() -> dict[str, Any]:
    """VGG-7-LE of the paper on many GPUs: seconds of an update, compute and all-reduce apart."""
    settings = from_config(load_config_file("configs/vgg7_le.py"))
    image = IMAGE_SHAPES[settings.dataset]
    part = Split(np.zeros((1, *image), np.uint8), np.zeros(1, np.int32))
    data = Dataset(part, part, CLASSES[settings.dataset], *moments(settings.dataset, 1.0))
    network = build_network(settings, data)
    signal = build_signal(settings, network, data.num_classes)
    params = jax.eval_shape(
        lambda key: signals.init_params(network, signal, key), jax.random.key(0)
    )
    gradient = sum(4 * leaf.size for leaf in jax.tree.leaves(params))
    sweeps = settings.t_free + 2 * settings.t_nudge
    # Without the drive of the first layer, which is computed once per batch.
    flops = sweeps * step_flops(network, 1)
    rate, link, hop, weak, strong = ASSUMED.values()
    rows = []
    for count in GPUS:
        # A ring: each GPU sends and receives 2 (n - 1) / n of the bytes, in 2 (n - 1) hops.
        reduce = 2 * (count - 1) / count * gradient / link + 2 * (count - 1) * hop
        compute = [weak * flops / rate, strong / count * flops / rate]
        rows.append(
            {
                "gpus": count,
                "all_reduce_seconds": reduce,
                "weak_compute_seconds": compute[0],
                "weak_efficiency": compute[0] / (compute[0] + reduce),
                "strong_compute_seconds": compute[1],
                "strong_efficiency": compute[1] / (compute[1] + reduce),
            }
        )
    return {"gradient_bytes": gradient, "sweeps": sweeps, "flops_per_image": flops, "rows": rows}


def draw(result: dict[str, Any]) -> None:
    """Measured seconds on the left, the model's efficiency on the right: results/scaling.png."""
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    measured, paper = figure.subplots(1, 2)
    labels = {"strong": f"{STRONG} images in all", "weak": f"{WEAK} images each"}
    for kind, marker in (("strong", "o"), ("weak", "s")):
        rows = result[kind]
        seconds = [1000 * row["seconds"] for row in rows]
        measured.plot([r["devices"] for r in rows], seconds, marker=marker, label=labels[kind])
    measured.axvline(result["cores"], color="0.6", linestyle=":", label=f"{result['cores']} cores")
    measured.set(title="measured: virtual CPU devices", xlabel="devices", ylabel="ms / update")
    measured.set_xscale("log", base=2)
    measured.set_xticks(DEVICES, [str(n) for n in DEVICES])
    measured.set_ylim(bottom=0)
    titles = {
        "weak": f"{ASSUMED['images for each GPU, weak']:.0f} images each",
        "strong": f"{ASSUMED['images of the batch, strong']:.0f} images in all",
    }
    for kind, marker in (("weak", "s"), ("strong", "o")):
        rows = result["model"]["rows"]
        efficiency = [100 * row[f"{kind}_efficiency"] for row in rows]
        paper.plot([r["gpus"] for r in rows], efficiency, marker=marker, label=titles[kind])
    paper.set(
        title="on paper: VGG-7-LE, GPUs", xlabel="GPUs", ylabel="efficiency, %", ylim=(0, 103)
    )
    paper.set_xscale("log", base=2)
    paper.set_xticks(GPUS, [str(n) for n in GPUS])
    for axis in (measured, paper):
        axis.grid(alpha=0.3)
        axis.legend()
    figure.savefig(RESULTS / "scaling.png", dpi=150)


def table(result: dict[str, Any]) -> str:
    """Both parts as Markdown."""
    lines = ["| virtual devices | batch | ms / update | bytes all-reduced | in the gradient tree |"]
    lines.append("| --- | --- | --- | --- | --- |")
    for row in (*result["strong"], *result["weak"]):
        lines.append(
            f"| {row['devices']} | {row['batch']} | {1000 * row['seconds']:.1f} | "
            f"{row['all_reduced_bytes']} | {row['gradient_and_metrics_bytes']} |"
        )
    lines += ["", "| GPUs, on paper | all-reduce, ms | efficiency, weak | strong |"]
    lines.append("| --- | --- | --- | --- |")
    for row in result["model"]["rows"]:
        lines.append(
            f"| {row['gpus']} | {1000 * row['all_reduce_seconds']:.2f} | "
            f"{row['weak_efficiency']:.1%} | {row['strong_efficiency']:.1%} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measures, models, draws and prints; with --batch: one measurement on this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=5, help="updates timed for each count")
    parser.add_argument("--batch", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.batch:
        print(json.dumps(worker(arguments.batch, arguments.updates)))
        return
    result: dict[str, Any] = {
        "cores": len(os.sched_getaffinity(0)),
        "strong": [measure(count, STRONG, arguments.updates) for count in DEVICES],
        "weak": [measure(count, WEAK * count, arguments.updates) for count in DEVICES],
        "assumed": ASSUMED,
        "model": model(),
    }
    save("scaling", result)
    draw(result)
    print(table(result))


if __name__ == "__main__":
    main()
