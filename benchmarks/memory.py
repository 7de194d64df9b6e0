"""How much memory does a training step take? python -m benchmarks.memory [--batch N]

The rows of the paper's Table 2: EP with LE, with KD and without signals, and BPTT through T = 140
steps. XLA's own analysis of the compiled step of train.py, and on accelerators the device's peak.
A row is measured in a process of its own. Results: results/memory.json and .png.
"""

import argparse
import functools
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks import show
from benchmarks.provenance import RESULTS, save
from benchmarks.runs import Run, settings_of
from jaxep import cli as train
from jaxep.nets import teachers
from jaxep.training import data as data_lib
from jaxep.training import steps as updates
from jaxep.training import teaching
from jaxep.training.settings import Settings, from_config, load_config_file
from jaxep.training.tasks import ep_task

BPTT = {"estimator": "bptt", "t_free": 140}
# (size, method): config, changes, megabytes in the paper (GPU, batch 128).
ROWS: dict[tuple[str, str], tuple[str, dict[str, Any], int]] = {
    ("VGG-7", "LE"): ("vgg7_le", {}, 791),
    ("VGG-7", "KD"): ("vgg7_kd", {}, 855),
    ("VGG-7", "STD"): ("vgg7_std", {}, 711),
    ("VGG-7", "BPTT"): ("vgg7_std", BPTT, 8324),
    ("VGG-10 (11)", "LE"): ("vgg11_le", {}, 895),
    ("VGG-10 (11)", "KD"): ("vgg10_kd", {}, 983),
    ("VGG-10 (11)", "STD"): ("vgg11_std", {}, 869),
    ("VGG-10 (11)", "BPTT"): ("vgg11_std", BPTT, 13726),
    ("VGG-12 (13)", "LE"): ("vgg13_le", {}, 1351),
    ("VGG-12 (13)", "KD"): ("vgg12_kd", {}, 1431),
    ("VGG-12 (13)", "STD"): ("vgg13_std", {}, 1285),
    ("VGG-12 (13)", "BPTT"): ("vgg13_std", BPTT, 25954),
}
METHODS = ("LE", "KD", "STD", "BPTT")
MB = 1e6


def dataset(settings: Settings, count: int) -> data_lib.Dataset:
    """Black images of the right shape: memory does not depend on what they show."""
    images, labels = np.zeros((count, 32, 32, 3), np.uint8), np.zeros(count, np.int32)
    split = data_lib.Split(images, labels)
    classes = data_lib.CLASSES[settings.dataset]
    mean, std = data_lib.moments(settings.dataset, settings.std_scale)
    return data_lib.Dataset(split, split, classes, mean, std)


def step_of(settings: Settings, data: data_lib.Dataset):
    """(init, step): the task's state, and one update that takes the teacher as an argument."""
    theirs = from_config(load_config_file(settings.teacher)) if settings.signal == "kd" else None
    model = teaching.build_teacher(theirs, data) if theirs else None

    def init(key):
        task = ep_task(settings, data, 1)
        variables = teachers.init(model, key, data.image_shape) if model else ()
        return updates.init_state(task, key), variables

    def step(state, variables, images, labels, key, kappa):
        def features(images):
            if model is None or theirs is None:
                return ()
            x = data_lib.normalise(images, *data_lib.moments(theirs.dataset, theirs.std_scale))
            blocks = teachers.predict(model, *variables, x)[1]
            layers = settings.signal_layers
            return tuple(blocks[teachers.block_of_layer(settings.conv, i)] for i in layers)

        task = ep_task(settings, data, 1, features)
        return updates.train_step(task, state, images, labels, key, kappa)

    return init, step


def measure(row: tuple[str, str], batch: int) -> dict[str, Any]:
    """Bytes of one compiled step: arguments, results that are not arguments, and temporaries."""
    os.environ["JAX_NUM_CPU_DEVICES"] = "1"  # all of the batch on one device
    train.prepare_jax()
    config, changes, paper = ROWS[row]
    settings = settings_of(Run(config, {**changes, "batch_size": batch}))
    data = dataset(settings, batch)
    init, step = step_of(settings, data)
    key = jax.random.key(0)
    arguments = (*jax.eval_shape(init, key), *data.train, key, jnp.float32(0.5))
    compiled = jax.jit(step, donate_argnums=0).lower(*arguments).compile()
    sizes = compiled.memory_analysis()
    assert sizes is not None
    results = sizes.output_size_in_bytes - sizes.alias_size_in_bytes
    total = sizes.argument_size_in_bytes + results + sizes.temp_size_in_bytes
    found = {
        "config": config,
        "model": row[0],
        "method": row[1],
        "paper_mb": paper,
        "arguments_mb": sizes.argument_size_in_bytes / MB,
        "temporaries_mb": sizes.temp_size_in_bytes / MB,
        "total_mb": total / MB,
    }
    if jax.default_backend() != "cpu":
        jax.block_until_ready(compiled(*init(key), *data.train, key, jnp.float32(0.5)))
        found["device_peak_mb"] = jax.local_devices()[0].memory_stats()["peak_bytes_in_use"] / MB
    return found


def table(rows: list[dict[str, Any]]) -> str:
    """Rows beside the paper's, as Markdown."""
    header = [
        "model",
        "method",
        "config",
        "total, MB",
        "temporaries, MB",
        "paper's GPU, MB",
        "ratio",
    ]
    names = ("model", "method", "config")
    return show.markdown(
        header,
        [
            [*(row[name] for name in names), f"{row['total_mb']:.0f}"]
            + [f"{row['temporaries_mb']:.0f}", row["paper_mb"]]
            + [f"{row['paper_mb'] / row['total_mb']:.1f}"]
            for row in rows
        ],
    )


def draw(rows: list[dict[str, Any]], batch: int) -> None:
    """Ours beside the paper's, a panel for each size: results/memory.png."""
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    models = list(dict.fromkeys(row["model"] for row in rows))
    axes = figure.subplots(1, len(models), sharey=True)
    places = np.arange(len(METHODS))
    for axis, model in zip(axes, models, strict=True):
        here = {row["method"]: row for row in rows if row["model"] == model}
        for shift, key, label in (
            (-0.2, "total_mb", "jaxep, XLA's analysis"),
            (0.2, "paper_mb", "paper, GPU"),
        ):
            heights = [here[method][key] for method in METHODS]
            bars = axis.bar(places + shift, heights, 0.4, label=label)
            axis.bar_label(bars, fmt="%.0f", fontsize="x-small")
        axis.set(title=f"{model}, batch {batch}", xticks=places, xticklabels=METHODS, yscale="log")
        axis.margins(y=0.15)
    axes[0].set_ylabel("memory of a training step, MB")
    axes[0].legend(loc="upper left", fontsize="small")
    figure.savefig(RESULTS / "memory.png", dpi=150)


def main() -> None:
    """Prints and saves the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=128)
    batch = parser.parse_args().batch
    alone = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=alone, max_tasks_per_child=1) as pool:
        rows = list(pool.map(functools.partial(measure, batch=batch), ROWS))
    save("memory", {"batch": batch, "rows": rows})
    print(table(rows))
    draw(rows, batch)


if __name__ == "__main__":
    main()
