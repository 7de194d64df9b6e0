"""The rest of the minutes: training at the paper's width by train.py, cut off and gone on with.

At the end of the minutes train.py gets a SIGTERM, on which it saves; the next call goes on from
there. A run that is at its end makes place for the next one.
"""

import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.device.rows import Clock, kept, measured
from benchmarks.shared import show
from benchmarks.shared.results import ROOT, Options, Result
from jaxep.commands.options import parse
from jaxep.run.tables import read_metrics
from jaxep.run.workdir import check_run
from jaxep.training import workdata
from jaxep.training.settings import Settings, from_config, to_dict
from jaxep.training.sources import spec_of

CONFIGS = ("vgg7_le", "vgg6_pc")
# Of the tests: says nothing.
TINY: dict[str, Any] = {
    "conv": "4 M 4 M",
    "hidden": (),
    "learning_rates": 0.01,
    "train_size": 40,
    "test_size": 20,
    "batch_size": 10,
    "epochs": 2,
}
SHRINK: dict[str, dict[str, dict[str, Any]]] = {
    "paper": {config: {} for config in CONFIGS},
    "tiny": {
        "vgg7_le": {**TINY, "signal_layers": (0,), "t_free": 4, "t_nudge": 2},
        "vgg6_pc": TINY,
    },
}
# Seconds before the end at which train.py is told to save, as a share of all and at most; and for
# which it is waited after that.
SAVING_SHARE, SAVING_SECONDS, PATIENCE = 0.1, 30.0, 120.0
# Exit statuses of a run that is at its end, that has saved, and that was stopped before it began.
FINE = (0, 128 + signal.SIGTERM, -signal.SIGTERM)


def words(config: str, scale: str, given: Sequence[str]) -> list[str]:
    """The words of train.py for a config; those that are given come last, so that they count."""
    small = [f"--config.{key}={value}" for key, value in SHRINK[scale][config].items()]
    return ["--config", f"configs/{config}.py", *small, *given]


def place(options: Options, config: str) -> Path:
    """The work directory of a config."""
    return options.results / (config if options.scale == "paper" else f"{config}_{options.scale}")


def settings_of(config: str, scale: str, given: Sequence[str]) -> Settings:
    """The checked settings of a config.

    Raises:
        SettingsError: a word is no key, or its value is not allowed.
    """
    return from_config(parse(words(config, scale, given)).config)


def check_words(scale: str, given: Sequence[str]) -> None:
    """Refuses words that are no settings, and data that are not there.

    Raises:
        UserError: there is one.
    """
    every = [settings_of(config, scale, given) for config in CONFIGS]
    for dataset, folder in {(each.dataset, each.data_dir) for each in every}:
        spec_of(dataset).load(folder)


def check(options: Options, given: Sequence[str]) -> None:
    """Refuses work directories of other runs, before the minutes go to the other parts.

    Raises:
        UserError: there is one.
    """
    for config in CONFIGS:
        settings = settings_of(config, options.scale, given)
        check_run(place(options, config), to_dict(settings), workdata.may_change(settings))


def train(options: Options, clock: Clock, config: str, given: Sequence[str]) -> str:
    """Trains until the minutes are over; returns the line of an error, or nothing."""
    workdir = place(options, config)
    command = [sys.executable, str(ROOT / "train.py"), *words(config, options.scale, given)]
    process = subprocess.Popen(
        [*command, "--workdir", str(workdir.absolute())],
        stderr=subprocess.PIPE,
        text=True,
    )
    reserve = min(SAVING_SECONDS, SAVING_SHARE * clock.seconds)
    status, errors = ended(process, max(1.0, clock.left - reserve))
    if status in FINE:
        return ""
    last = (errors.strip().splitlines() or [""])[-1]
    return last.removeprefix("error: ") or f"exit status {status}"


def ended(process: subprocess.Popen, seconds: float) -> tuple[int, str]:
    """Exit status and stderr of a process; after so many seconds it is told to save and end.

    So it is where this process is stopped.
    """
    try:
        errors = process.communicate(timeout=seconds)[1]
    except BaseException as stopped:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
        process.kill()
        errors = process.communicate()[1]
        if not isinstance(stopped, subprocess.TimeoutExpired):
            raise
    return process.returncode, errors


def row_of(workdir: Path, settings: Settings) -> Result:
    """What a run has reached, by its metrics.csv and its summary."""
    metrics = read_metrics(workdir / "metrics.csv") if (workdir / "metrics.csv").exists() else {}
    known = [accuracy for accuracy in metrics.get("test_acc", []) if accuracy is not None]
    summary = workdir / "summary.json"
    return {
        "epochs": settings.epochs,
        "epochs_done": len(metrics.get("epoch", [])),
        "best_test_accuracy": max(known, default=None),
        "finished": summary.exists(),
        "summary": json.loads(summary.read_text()) if summary.exists() else None,
        "metrics": metrics,
    }


def measure(options: Options, clock: Clock, share: float, given: Sequence[str]) -> None:
    """The runs in their order, each as far as the minutes allow."""
    rows: dict[str, Any] = kept(options)
    for config in CONFIGS:
        if rows.get(config, {}).get("finished"):
            continue
        if clock.left_of(share) <= 0:
            clock.tell(f"{options.name}: no time for {config}: call again")
            return
        clock.tell(f"{options.name}: {config} in {place(options, config)}")
        error = train(options, clock, config, given)
        settings = settings_of(config, options.scale, given)
        rows[config] = row_of(place(options, config), settings)
        rows[config]["words"] = shlex.join(words(config, options.scale, given))
        if error:
            rows[config]["error"] = error
            clock.tell(f"{options.name}: {config}: {error}")
        finished = all(rows.get(name, {}).get("finished") for name in CONFIGS)
        options.keep({"rows": rows}, finished)
        if not (error or rows[config]["finished"]):
            return  # the minutes are over


def table(result: Result) -> str:
    """How far each run is."""
    lines = []
    for name, row in measured(result).items():
        epochs, last = f"{row['epochs_done']} of {row['epochs']}", row["metrics"]
        seconds = f"{last['seconds'][-1]:.0f}" if row["epochs_done"] else ""
        accuracy = row["best_test_accuracy"]
        best = "" if accuracy is None else show.percent([accuracy])
        lines.append([name, epochs, seconds, best])
    return show.markdown(["config", "epochs", "seconds of the last", "best test, %"], lines)
