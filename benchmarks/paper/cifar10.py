"""What do the recipes for the whole of CIFAR-10 reach on a CPU, beside backpropagation?

Runs train.py for each row named (all by default): 50,000 training images, 10,000 test images, one
seed. The time is that of training and evaluation, on a machine with other work.
"""

import shutil
from typing import Any

from benchmarks.shared import runs, show
from benchmarks.shared.results import Claim, Claims, Options, Result
from benchmarks.shared.runs import Run
from jaxep import load_run

BACKPROP = {"estimator": "backprop"}
LONG = {"epochs": 30}
ONE_PHASE = {"ep_variant": "random_sign"}
BEST = "predictive coding, one phase, 30 epochs"
RUNS = {
    "predictive coding": Run("cifar10_pc"),
    "backprop": Run("cifar10_pc", BACKPROP),
    "backprop, 30 epochs": Run("cifar10_pc", BACKPROP | LONG),
    BEST: Run("cifar10_pc", ONE_PHASE | LONG),
    "VGG-7-LE, quarter width": Run("cifar10_le"),
}
ARGUMENTS = {"rows": tuple(RUNS)}
IMAGES = 50_000
# Rows whose weights are kept beside the results, small enough for a repository.
KEPT = {BEST: "cifar10_pc", "VGG-7-LE, quarter width": "cifar10_le"}
# Test accuracy that is aimed at, a fraction.
AIMS = {BEST: 0.88, "VGG-7-LE, quarter width": 0.75}
# Rows of the same net, rates and epochs.
TWINS = (("predictive coding", "backprop"), (BEST, "backprop, 30 epochs"))


def measure(options: Options) -> Result:
    """Trains the rows that are named, unless that is done; the others' results stay."""
    result = {"runs": options.kept("runs").get("runs", {})}
    for name in options.own.rows:
        row = runs.train_run(RUNS[name], options.runs)
        # Of a run that was finished before, the command took no time.
        del row["command_seconds"]
        result["runs"][name] = row
        options.keep(result)
        if name in KEPT:
            folder = options.results / "weights" / KEPT[name]
            shutil.rmtree(folder, ignore_errors=True)
            load_run(runs.place(RUNS[name], options.runs)).export(folder)
    return result


def images_per_second(row: dict[str, Any]) -> float:
    """Training images over the seconds of training, evaluation and compilation."""
    return IMAGES * row["epochs"] / row["training_seconds"]


def table(result: Result) -> str:
    """Accuracy, time and sweeps of each row."""
    lines = []
    for name, row in show.known(RUNS, result["runs"]):
        run = RUNS[name]
        config = f"`configs/{run.config}.py`{' (overrides in the json)' if run.changes else ''}"
        sweeps = f"{row['free_steps'][-1] or 0:.0f} + {row['nudge_steps'][-1] or 0:.0f}"
        accuracy = [f"{100 * row[f'{part}_accuracy']:.1f}" for part in ("train", "test")]
        hours = f"{row['training_seconds'] / 3600:.2f}"
        speed = f"{images_per_second(row):.0f}"
        lines.append([name, *accuracy, str(row["epochs"]), hours, speed, sweeps, config])
    header = ["run", "training accuracy, %", "test accuracy, %", "epochs", "hours", "images/s"]
    return show.markdown([*header, "sweeps, free + nudged", "config"], lines)


def claims(result: Result) -> Claims:
    """Each recipe beside its aim, and predictive coding beside its twin."""
    reached = {name: row["test_accuracy"] for name, row in result["runs"].items()}
    for name, aim in AIMS.items():
        if name in reached:
            here = f"{100 * reached[name]:.1f} %"
            statement = f"{name} learns all of CIFAR-10"
            yield Claim(statement, f"aim: {100 * aim:.0f} %", here, reached[name] >= aim)
    for pair in TWINS:
        if reached.keys() >= set(pair):
            own, twin = (reached[name] for name in pair)
            statement = f"{pair[0]}: as good as backprop in the same net, epochs and rates"
            here = f"{100 * own:.1f} and {100 * twin:.1f} %"
            yield Claim(statement, "aim: within 1 point", here, abs(own - twin) <= 0.01)


def draw(result: Result):
    """Test accuracy per epoch."""
    parts = [
        show.line(name, show.percents(row["test_acc"]))
        for name, row in show.known(RUNS, result["runs"])
    ]
    title = "CIFAR-10, 50,000 training images"
    return show.figure([[show.Panel(title, parts, "test accuracy, %", legend="best")]])
