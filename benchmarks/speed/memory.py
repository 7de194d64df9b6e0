"""How much memory does a training step take?

The rows of the paper's Table 2, EP with LE, with KD and without signals, and BPTT through T = 140
steps; and the digits net of the README. XLA's own analysis of the compiled step of train.py, and on
accelerators the device's peak. A row is measured in a process of its own.
"""

import functools
from typing import Any

import jax

from benchmarks.shared import show, systems, workload
from benchmarks.shared.results import Claim, Claims, Options, Result
from benchmarks.shared.runs import Run, settings_of
from jaxep.training import steps
from jaxep.training.tasks import ep_task

ARGUMENTS = {"--batch": 128}
BPTT = {"estimator": "bptt", "t_free": 140}
METHODS = ("LE", "KD", "STD", "BPTT")
# Of each size the configs by method, and their megabytes in the paper (GPU, batch 128).
SIZES = {
    "VGG-7": (("vgg7_le", "vgg7_kd", "vgg7_std", "vgg7_std"), (791, 855, 711, 8324)),
    "VGG-10 (11)": (("vgg11_le", "vgg10_kd", "vgg11_std", "vgg11_std"), (895, 983, 869, 13726)),
    "VGG-12 (13)": (("vgg13_le", "vgg12_kd", "vgg13_std", "vgg13_std"), (1351, 1431, 1285, 25954)),
    "digits": (("digits_le",), (None,)),
}
# (size, method): config, megabytes in the paper.
ROWS: dict[tuple[str, str], Any] = {
    (size, method): row
    for size, columns in SIZES.items()
    for method, *row in zip(METHODS, *columns, strict=False)
}
MB = 1e6
PEAK = "device_peak_mb"  # of rows on an accelerator


def measure_row(row: tuple[str, str], batch: int) -> dict[str, Any]:
    """Bytes of one compiled step: arguments, results that are not arguments, and temporaries."""
    workload.whole_batch_on_one_device()
    config, paper = ROWS[row]
    run = Run(config, {**(BPTT if row[1] == "BPTT" else {}), "batch_size": batch})
    mine = systems.system(run, data=workload.pixels(settings_of(run), batch))
    drawn = systems.drawn_teacher(mine)

    def init(key):
        task = ep_task(mine.settings, mine.data, 1)
        return steps.init_state(task, key), drawn.init(key)

    def step(state, teacher, images, labels, key):
        features = functools.partial(drawn.features, teacher)
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
        found[PEAK] = jax.local_devices()[0].memory_stats()["peak_bytes_in_use"] / MB
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
        cells += [f"{row[PEAK]:.0f}"] if PEAK in row else []
        rows.append([row["model"], row["method"], row["config"], *cells])
    header = ["model", "method", "config", "total, MB", "temporaries, MB", "paper's GPU, MB"]
    peak = ["device's peak, MB"] if any(PEAK in row for row in result["rows"]) else []
    return show.markdown([*header, "ratio", *peak], rows)


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
        label = "memory of a training step, MB"
        panels.append(show.Panel(title, parts, label, "", "y", legend="upper left"))
    return show.figure([panels], sharey=True)
