"""Do the first runs learn, and do the signals matter?

Runs train.py, the command that a user types, for each row named (all by default), and keeps what
its summary and its metrics say; the other rows' results stay.
"""

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.shared import nets, runs, show
from benchmarks.shared.results import Claim, Claims, Options, Result
from benchmarks.shared.runs import Run

CIFAR = "CIFAR-10 (3000 images), quarter-width VGG-7, local errors"
RUNS = {
    "digits_le": ("digits, 8 layers, local errors", Run("digits_le")),
    "digits_std": ("digits, 8 layers, no signals", Run("digits_std")),
    "digits_kd": ("digits, 6 layers, distilled from a teacher", Run("digits_kd")),
    "digits_deep_le": ("digits, 12 layers, local errors", Run("digits_deep_le")),
    "digits_deep_std": ("digits, 12 layers, no signals", Run("digits_deep_std")),
    "digits_resnet_le": (
        "digits, residual net of 3 blocks, local errors",
        Run("digits_resnet_le"),
    ),
    "digits_resnet_std": (
        "digits, residual net of 3 blocks, no signals",
        Run("digits_resnet_std"),
    ),
    "cifar10_small_le": (CIFAR, Run("cifar10_small_le")),
    "cifar10_small_frozen": (
        "the same net, only its readout trained",
        Run("cifar10_small_le", nets.FROZEN),
    ),
    "cifar10_small_resnet_std": (
        "CIFAR-10 (3000 images), residual net of 4 blocks, no signals",
        Run("cifar10_small_resnet_std"),
    ),
    "cifar10_small_resnet_le": ("the same, local errors", Run("cifar10_small_resnet_le")),
    "cifar10_small_resnet_kd": ("the same, distilled", Run("cifar10_small_resnet_kd")),
}
ARGUMENTS = {"rows": tuple(RUNS)}
# What learns beside what does not: statement, and the two rows.
PAIRS = (
    ("Eight layers learn with local errors and not without", "digits_le", "digits_std"),
    ("Twelve layers learn with local errors and not without", "digits_deep_le", "digits_deep_std"),
    (
        "A residual net learns with local errors and not without",
        "digits_resnet_le",
        "digits_resnet_std",
    ),
    ("Its layers matter, not its readout alone", "cifar10_small_le", "cifar10_small_frozen"),
)
# Fractions: more is learning, less is not.
LEARNS, FAILS = 0.4, 0.2


def train(run: Run) -> dict[str, Any]:
    """Trains one row from scratch by the command line: accuracy, seconds, curve, command."""
    with tempfile.TemporaryDirectory() as folder:
        # With a compilation cache of its own, so that the seconds are those of a first run.
        row = runs.train_run(run, Path(folder), JAX_COMPILATION_CACHE_DIR=f"{folder}/cache")
    told = ("command", "best_test_accuracy", "epochs", "parameters", "train_loss", "test_acc")
    found = {"final_test_accuracy": row["test_accuracy"], "seconds": row["command_seconds"]}
    return {**found, **{key: row[key] for key in told}}


def measure(options: Options) -> Result:
    """Trains the rows that are named."""
    result = {"runs": options.kept("runs").get("runs", {})}
    for name in options.own.rows:
        result["runs"][name] = train(RUNS[name][1])
        options.keep(result)
    return result


def table(result: Result) -> str:
    """Accuracy and seconds of each row."""
    rows = []
    for name, row in show.known(RUNS, result["runs"]):
        title, run = RUNS[name]
        config = f"`configs/{run.config}.py`{' (overrides in the json)' if run.changes else ''}"
        accuracy = f"{100 * row['final_test_accuracy']:.1f}"
        rows.append([title, accuracy, f"{row['seconds']:.0f}", config])
    return show.markdown(["run", "test accuracy, %", "seconds", "config"], rows)


def claims(result: Result) -> Claims:
    """Each row that learns beside the one that does not."""
    reached = {name: row["final_test_accuracy"] for name, row in result["runs"].items()}
    for statement, one, other in PAIRS:
        if one in reached and other in reached:
            yield Claim(
                f"{RUNS[one][0]}: {statement[0].lower()}{statement[1:]}",
                f"aim: over {100 * LEARNS:.0f} % against under {100 * FAILS:.0f} %",
                f"{100 * reached[one]:.1f} % against {100 * reached[other]:.1f} %",
                reached[one] > LEARNS and reached[other] < FAILS,
            )


def draw(result: Result):
    """Test accuracy per epoch of the digits nets, 8 layers beside 12."""
    panels = []
    for title, prefix in (("8 weighted layers", "digits"), ("12 weighted layers", "digits_deep")):
        parts = []
        for kind, label, style in (("le", "local errors", "-"), ("std", "no signals", "--")):
            row = result["runs"].get(f"{prefix}_{kind}", {"test_acc": []})
            parts.append(show.line(label, show.percents(row["test_acc"]), style=style))
        parts.append(show.level(10, "chance", lw=1))
        panels.append(show.Panel(title, parts, "test accuracy, %", ylim=(0, 101), legend="best"))
    return show.figure([panels], sharey=True)
