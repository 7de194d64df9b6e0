"""What do the recipes for the whole of CIFAR-10 and -100 reach on a CPU, beside backpropagation?

Runs train.py for each row named (all by default): 50,000 training images, 10,000 test images, one
seed. The time is that of training and evaluation, on a machine with other work: two runs' are only
roughly comparable, `backprop_ratio` times the steps side by side.
"""

import shutil
from typing import Any

from benchmarks.shared import nets, runs, show
from benchmarks.shared.results import Claim, Claims, Options, Result
from benchmarks.shared.runs import Run
from jaxep import load_run

BACKPROP = {"estimator": "backprop"}
LONG = {"epochs": 30}
ONE_PHASE = {"ep_variant": "random_sign"}
# VGG-7's couplings as a feedforward net of relu layers, trained by backpropagation.
FEEDFORWARD = (
    nets.SILENT
    | BACKPROP
    | {
        "system": "predictive_coding",
        "t_free": 0,
        "conv_activation": "relu",
        "dense_activation": "relu",
        "learning_rates": 0.03,
    }
)
QUARTER = ", quarter width"
LE, KD, STD = f"VGG-7-LE{QUARTER}", f"VGG-7-KD{QUARTER}", f"VGG-7 without signals{QUARTER}"
FROZEN = f"VGG-7{QUARTER}, only its readout trained"
PLAIN = f"VGG-7's couplings{QUARTER}, by backprop"
BEST = "predictive coding, one phase, 30 epochs"
HUNDRED, HUNDRED_BACKPROP = "CIFAR-100, predictive coding, one phase", "CIFAR-100, backprop"
RESIDUAL = "residual net of 4 blocks"
RESIDUAL_LE, RESIDUAL_STD = f"{RESIDUAL}, local errors", f"{RESIDUAL}, without signals"
RESIDUAL_SLOW = f"{RESIDUAL_STD}, rates 0.003"
RUNS = {
    "predictive coding": Run("cifar10_pc"),
    "backprop": Run("cifar10_pc", BACKPROP),
    "backprop, 30 epochs": Run("cifar10_pc", BACKPROP | LONG),
    BEST: Run("cifar10_pc", ONE_PHASE | LONG),
    LE: Run("cifar10_le"),
    KD: Run("cifar10_kd"),
    STD: Run("cifar10_le", nets.SILENT),
    FROZEN: Run("cifar10_le", nets.FROZEN),
    PLAIN: Run("cifar10_le", FEEDFORWARD),
    RESIDUAL_LE: Run("cifar10_resnet_le"),
    RESIDUAL_STD: Run("cifar10_resnet_le", nets.SILENT),
    RESIDUAL_SLOW: Run("cifar10_resnet_le", nets.SILENT | {"learning_rates": 0.003}),
    HUNDRED: Run("cifar100_pc"),
    HUNDRED_BACKPROP: Run("cifar100_pc", BACKPROP),
}
ARGUMENTS = {"rows": tuple(RUNS)}
IMAGES = 50_000
# Rows whose weights are kept beside the results, small enough for a repository.
KEPT = {BEST: "cifar10_pc", LE: "cifar10_le"}
# Test accuracy that is aimed at, a fraction.
AIMS = {BEST: 0.88, LE: 0.75}
# Rows of the same net, rates and epochs, the second by backprop.
EQUALS = (
    ("predictive coding", "backprop"),
    (BEST, "backprop, 30 epochs"),
    (HUNDRED, HUNDRED_BACKPROP),
)
PANELS = {
    "Predictive coding, half width": (*EQUALS[0], *EQUALS[1]),
    "VGG-7, quarter width": (LE, KD, STD, FROZEN, PLAIN),
    RESIDUAL.capitalize(): (RESIDUAL_LE, RESIDUAL_STD, RESIDUAL_SLOW),
    "CIFAR-100, predictive coding": EQUALS[2],
}
# Where "best" covers a curve: the lower left corner, a fraction of the axes.
LEGENDS = {"VGG-7, quarter width": (0.35, 0.1)}
# Whose time a row is compared with: the same couplings and batch by backprop.
TWINS = dict(EQUALS) | dict.fromkeys((LE, KD, STD, FROZEN), PLAIN)
TWINS |= {twin: twin for twin in TWINS.values()}
# Pairs in which the first should be the better one.
ABOVE = (
    (LE, STD),
    (LE, FROZEN),
    (KD, LE),
    (RESIDUAL_LE, RESIDUAL_STD),
    (RESIDUAL_LE, RESIDUAL_SLOW),
)


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
        twin = result["runs"].get(TWINS.get(name))
        ratio = f"{images_per_second(twin) / images_per_second(row):.1f}" if twin else "–"
        lines.append([name, *accuracy, str(row["epochs"]), hours, speed, ratio, sweeps, config])
    header = ["run", "training accuracy, %", "test accuracy, %", "epochs", "hours", "images/s"]
    header += ["time / backprop's, roughly"]
    return show.markdown([*header, "sweeps, free + nudged", "config"], lines)


def claims(result: Result) -> Claims:
    """Each recipe beside its aim, and beside the rows that it should pass or equal."""
    reached = {name: row["test_accuracy"] for name, row in result["runs"].items()}
    for name, aim in AIMS.items():
        if name in reached:
            here = f"{100 * reached[name]:.1f} %"
            statement = f"{name} learns all of CIFAR-10"
            yield Claim(statement, f"aim: {100 * aim:.0f} %", here, reached[name] >= aim)
    for pair in ABOVE:
        if reached.keys() >= set(pair):
            own, other = (reached[name] for name in pair)
            here = f"{100 * own:.1f} and {100 * other:.1f} %"
            yield Claim(f"{pair[0]}: above {pair[1]}", "aim: it is", here, own > other)
    for pair in EQUALS:
        if reached.keys() >= set(pair):
            own, twin = (reached[name] for name in pair)
            statement = f"{pair[0]}: as good as backprop in the same net, epochs and rates"
            here = f"{100 * own:.1f} and {100 * twin:.1f} %"
            yield Claim(statement, "aim: within 1 point", here, abs(own - twin) <= 0.01)


def draw(result: Result):
    """Test accuracy per epoch: a panel for each net."""
    panels = []
    for title, names in PANELS.items():
        known, legend = show.known(names, result["runs"]), LEGENDS.get(title, "best")
        parts = [show.line(_short(name), show.percents(row["test_acc"])) for name, row in known]
        panels.append(show.Panel(title, parts, "test accuracy, %", legend=legend))
    return show.figure([panels[:2], panels[2:]])


def _short(name: str) -> str:
    """A row's name without what the title of its panel tells."""
    return name.replace(QUARTER, "").replace(f"{RESIDUAL}, ", "").replace("CIFAR-100, ", "")
