"""How much memory does a training step take?

The rows of the paper's Table 2, EP with LE, with KD and without signals, and BPTT through T = 140
steps; and the digits net of the README. XLA's own analysis of the compiled step of train.py, and on
accelerators the device's peak. A row is measured in a process of its own.
"""

from typing import Any

import jax
import numpy as np

from benchmarks.shared import show, systems, workload
from benchmarks.shared.results import Claim, Claims, Options, Result
from benchmarks.shared.runs import Run, settings_of
from jaxep.training import data as data_lib
from jaxep.training import steps
from jaxep.training.tasks import ep_task

ARGUMENTS = {"--batch": 128}
BPTT = {"estimator": "bptt", "t_free": 140}
METHODS = ("LE", "KD", "STD", "BPTT")
# (size, method): config, changes, megabytes in the paper (GPU, batch 128).
ROWS: dict[tuple[str, str], tuple[str, dict[str, Any], int | None]] = {
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
    ("digits", "LE"): ("digits_le", {}, None),
}
MB = 1e6


def black(run: Run, count: int) -> data_lib.Dataset:
    """Black images of the right shape: memory does not depend on what they show."""
    spec = data_lib.spec_of(settings_of(run).dataset)
    assert spec.image_shape is not None
    images, labels = np.zeros((count, *spec.image_shape), np.uint8), np.zeros(count, np.int32)
    own: Any = {"padding": spec.padding, "flip": spec.flip, "num_classes": spec.classes}
    return data_lib.from_arrays(images, labels, images, labels, **own)


def measure_row(row: tuple[str, str], batch: int) -> dict[str, Any]:
    """Bytes of one compiled step: arguments, results that are not arguments, and temporaries."""
    workload.whole_batch_on_one_device()
    config, changes, paper = ROWS[row]
    run = Run(config, {**changes, "batch_size": batch})
    mine = systems.system(run, data=black(run, batch))
    drawn = systems.drawn_teacher(mine)

    def init(key):
        task = ep_task(mine.settings, mine.data, 1)
        return steps.init_state(task, key), drawn.init(key) if drawn else ()

    def step(state, teacher, images, labels, key):
        features = (lambda images: drawn.features(teacher, images)) if drawn else systems.silent
        task = ep_task(mine.settings, mine.data, 1, features)
        return steps.train_step(task, state, images, labels, key)

    key = jax.random.key(0)
    arguments = (*jax.eval_shape(init, key), *mine.data.train, key)
    compiled = jax.jit(step, donate_argnums=0).lower(*arguments).compile()
    sizes: Any = compiled.memory_analysis()
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
        jax.block_until_ready(compiled(*init(key), *mine.data.train, key))
        found["device_peak_mb"] = jax.local_devices()[0].memory_stats()["peak_bytes_in_use"] / MB
    return found


def measure(options: Options) -> Result:
    """All rows."""
    batch = options.own.batch
    return {"batch": batch, "rows": [workload.alone(measure_row, row, batch) for row in ROWS]}


def table(result: Result) -> str:
    """Rows beside the paper's."""
    rows = []
    for row in result["rows"]:
        cells = [f"{row[key]:.0f}" for key in ("total_mb", "temporaries_mb")]
        paper = row["paper_mb"]
        cells += [paper, f"{paper / row['total_mb']:.1f}"] if paper else ["", ""]
        rows.append([row["model"], row["method"], row["config"], *cells])
    header = ["model", "method", "config", "total, MB", "temporaries, MB", "paper's GPU, MB"]
    return show.markdown([*header, "ratio"], rows)


def by_model(result: Result) -> dict[str, dict[str, dict[str, Any]]]:
    """The paper's rows by model and method."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for row in (row for row in result["rows"] if row["paper_mb"]):
        found.setdefault(row["model"], {})[row["method"]] = row
    return found


def claims(result: Result) -> Claims:
    """EP takes a small share of what BPTT takes, and all take less than the paper's."""
    for model, rows in by_model(result).items():
        keys = ("paper_mb", "total_mb")
        paper, here = (rows["BPTT"][key] / rows["LE"][key] for key in keys)
        statement = f"{model}: BPTT takes many times the memory of EP with local errors"
        yield Claim(statement, f"{paper:.1f} times", f"{here:.1f} times", here >= paper)
    less = [row["paper_mb"] / row["total_mb"] for row in result["rows"] if row["paper_mb"]]
    here = f"{show.between(less, '.1f')} times less, XLA's analysis beside a GPU's measurement"
    yield Claim("A training step takes less than in the paper", "aim: less", here, min(less) > 1)


def draw(result: Result):
    """Ours beside the paper's, a panel for each size."""
    panels = []
    for model, rows in by_model(result).items():
        labels = {"total_mb": "jaxep, XLA's analysis", "paper_mb": "paper, GPU"}
        groups = {label: [rows[m][key] for m in METHODS] for key, label in labels.items()}
        title, parts = f"{model}, batch {result['batch']}", [show.bars(METHODS, groups, "%.0f")]
        own: dict[str, Any] = {"log": "y", "legend": "upper left"}
        panels.append(show.Panel(title, parts, "memory of a training step, MB", "", **own))
    return show.figure([panels], sharey=True)
