"""Distillation in a deep net: what β, the rates and a learned map do to 11 layers on digits.

Each way over three seeds. Of the first seed the cosine of EP's gradient to the exact one is told
along training, over all weights; the median of the single weights' is in the JSON.
"""

import statistics
from pathlib import Path
from typing import Any

from benchmarks.paper.systems import IMAGES, SEEDS, exactly, gradient, settings_of
from benchmarks.shared import nets, runs, show, systems
from benchmarks.shared.results import Claim, Claims, Options, Result
from benchmarks.shared.runs import Run
from jaxep.training.loop import make_task
from jaxep.training.workdata import load_data

EPOCHS, EVERY = 50, 5
_KD, _LE = Run("digits_deep_kd"), nets.DIGITS_11["LE"]
# Relaxation and β of the digits nets with local errors, and their rates.
_LARGE_BETA: dict[str, Any] = {"beta": 2.0, "relaxation": 1.0}
_RATES = {"learning_rates": _LE.changes["learning_rates"]}
ROWS = {
    "KD": _KD,
    "KDW, τ 1": _KD.but(signal="kdw", tau=1.0),
    "KD, β 2": _KD.but(**_LARGE_BETA),
    "KD, rates of LE": _KD.but(**_RATES),
    "KD, β 2, rates of LE": _KD.but(**_LARGE_BETA, **_RATES),
    "LE": _LE.but(epochs=EPOCHS),
}
# Those that are to reach the aim.
CURED = ("KD", "KDW, τ 1")
ARGUMENTS = {"rows": tuple(ROWS)}
AIM = 0.9
# A fall below the best epoch before by so much is called a collapse.
COLLAPSE = 0.25


def along(run: Run, folder: Path) -> dict[str, list[float]]:
    """Cosine of EP's gradient to the exact one after some epochs, on the first test images."""
    settings = settings_of(run, folder)
    data = load_data(settings)
    batch = data.test.images[:IMAGES], data.test.labels[:IMAGES]
    tasks = [make_task(own, data) for own in (settings, exactly(settings))]
    told: dict[str, list[float]] = {"epoch": [], "all": [], "median": []}
    for epoch, params in systems.weights(run, folder, [*range(0, EPOCHS + 1, EVERY)]).items():
        pair = [gradient(task, (params, ()), batch)["edges"] for task in tasks]
        each = [systems.cosine(pair[0][name], pair[1][name]) for name in pair[0]]
        told["epoch"].append(epoch)
        told["all"].append(systems.cosine(*pair))
        told["median"].append(statistics.median(each))
    return told


def measure(options: Options) -> Result:
    """The rows that are named, one after the other; the others' results stay."""
    result: Result = {"rows": options.kept("rows").get("rows", {})}
    for name in options.own.rows:
        run = ROWS[name].but(keep_checkpoints=EPOCHS)
        each = [runs.train_run(run.but(seed=seed), options.runs) for seed in SEEDS]
        result["rows"][name] = {"runs": each}
        if runs.settings_of(run).signal != "kdw":
            result["rows"][name]["cosine"] = along(run.but(seed=SEEDS[0]), options.runs)
        options.keep(result)
    return result


def fall(row: dict[str, Any]) -> float:
    """How far the test accuracy of an epoch is below that of an earlier one, the largest."""
    best, largest = 0.0, 0.0
    for accuracy in row["test_acc"]:
        best = max(best, accuracy)
        largest = max(largest, best - accuracy)
    return largest


def table(result: Result) -> str:
    """Accuracies, falls and cosines of each way."""
    rows = []
    for name, row in show.known(ROWS, result["rows"]):
        told = row.get("cosine", {}).get("all", [])
        falls = [100 * fall(one) for one in row["runs"]]
        rows.append(
            [
                name,
                *runs.percents(row["runs"]),
                " ".join(f"{one:.0f}" for one in falls),
                " ".join(f"{value:.2f}" for value in told) or "–",
            ]
        )
    header = ["way", "training accuracy, %", "test accuracy, %", "largest fall, points"]
    return show.markdown([*header, f"cosine every {EVERY} epochs"], rows)


def claims(result: Result) -> Claims:
    """Those that are to reach the aim do, and do not collapse."""
    for name, row in show.known(CURED, result["rows"]):
        reached = runs.accuracies(row["runs"])
        statement, aim = f"{name}: 11 layers learn digits, each seed", f"aim: {100 * AIM:.0f} %"
        yield Claim(statement, aim, f"{show.percent(reached)} %", min(reached) >= AIM)
        falls = [fall(one) for one in row["runs"]]
        aim = f"no fall of {100 * COLLAPSE:.0f} points"
        here = f"{100 * max(falls):.0f} points at most"
        yield Claim(f"{name}: no collapse", aim, here, max(falls) < COLLAPSE)


def draw(result: Result):
    """Test accuracy of each seed per epoch, and cosines along training."""
    named = show.known(ROWS, result["rows"])
    accuracy, cosine = [], []
    for index, (name, row) in enumerate(named):
        style: dict[str, Any] = {"color": f"C{index}"}
        for seed, one in enumerate(row["runs"]):
            label = None if seed else name
            accuracy.append(show.line(label, show.percents(one["test_acc"]), lw=1, **style))
        if "cosine" in row:
            told = row["cosine"]
            cosine.append(show.line(name, told["all"], told["epoch"], **style))
    panels = [
        show.Panel("three seeds", accuracy, "test accuracy, %", legend="best"),
        show.Panel("EP's gradient to the exact one", cosine, "cosine", legend="best"),
    ]
    return show.figure([panels])
