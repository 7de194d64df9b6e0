"""The training runs behind a benchmark: each is train.py with a config and the keys it changes.

A run is known by its settings: benchmarks that ask for the same one share it, one that is finished
is not trained again, and one that was cut off goes on from its last checkpoint.
"""

import hashlib
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.shared import show
from benchmarks.shared.results import ROOT, Options
from jaxep import configs
from jaxep.run.tables import read_layers, read_metrics
from jaxep.training.settings import Settings, from_config, to_dict

# Keys that say where things lie and not what is computed.
PLACES = ("data_dir", "teacher_workdir")
CURVES = ("train_loss", "train_acc", "test_loss", "test_acc", "kappa", "free_steps", "nudge_steps")


class Run(NamedTuple):
    """One training run: a file of configs/ and the keys it changes."""

    config: str
    changes: dict[str, Any] = {}

    def but(self, **changes: Any) -> "Run":
        """The same run with more keys changed."""
        return Run(self.config, {**self.changes, **changes})


def load_config(name: str) -> dict[str, Any]:
    """The keys of a file of configs/."""
    return configs.load(name).to_dict()


def settings_of(run: Run) -> Settings:
    """The checked settings of a run.

    Raises:
        SettingsError: a changed key or its value is not allowed.
    """
    return from_config({**load_config(run.config), **run.changes})


def place(run: Run, folder: Path) -> Path:
    """Work directory of a run: its config's name, a digest of its and its teacher's settings."""
    values = {k: v for k, v in to_dict(settings_of(run)).items() if k not in PLACES}
    if values["teacher"]:
        values["teacher"] = teacher_place(run, folder).name
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    return folder / f"{run.config}-{digest[:10]}"


def teacher_place(run: Run, folder: Path) -> Path:
    """The work directory of the teacher of a KD or KDW run."""
    return place(Run(Path(settings_of(run).teacher).stem), folder)


def train_run(run: Run, folder: Path, **environment: str) -> dict[str, Any]:
    """Trains a run to its end by train.py, unless that is done, and returns its row.

    Args:
        run: what to train.
        folder: of the work directories.
        environment: variables for train.py, beside those of this process.

    Raises:
        SystemExit: train.py failed; the command is in the message.
    """
    workdir, settings = place(run, folder), settings_of(run)
    command = ["train.py", "--config", f"configs/{run.config}.py"]
    command += [f"--config.{key}={value}" for key, value in run.changes.items()]
    environment, began = {**os.environ, **environment}, time.perf_counter()
    if not (workdir / "summary.json").exists():
        extra = [f"--workdir={workdir}"]
        if settings.teacher:
            extra += [f"--config.teacher_workdir={teacher_place(run, folder)}"]
            extra += ["--config.train_teacher=True"]
        print(f"+ python {shlex.join(command)}", flush=True)
        done = subprocess.run([sys.executable, *command, *extra], cwd=ROOT, env=environment)
        if done.returncode:
            raise SystemExit(f"exit status {done.returncode}: {shlex.join([*command, *extra])}")
    seconds = round(time.perf_counter() - began, 1)
    told = {"command": shlex.join(["python", *command]), "command_seconds": seconds}
    return {**told, **_row(run, settings, workdir)}


def _row(run: Run, settings: Settings, workdir: Path) -> dict[str, Any]:
    """What a result keeps of a finished run."""
    summary = json.loads((workdir / "summary.json").read_text())
    metrics = read_metrics(workdir / "metrics.csv")
    row = {
        "config": run.config,
        "changes": run.changes,
        "seed": settings.seed,
        "train_accuracy": metrics["train_acc"][-1],
        "test_accuracy": summary["final_test_accuracy"],
        "best_test_accuracy": summary["best_test_accuracy"],
        "epochs": summary["epochs"],
        "training_seconds": round(summary["seconds"], 1),
        "parameters": summary["parameters"],
        "run_device": summary["device"],
        "run_commit": summary["git_commit"],
        **{name: metrics[name] for name in CURVES},
    }
    if settings.teacher:
        teacher = teacher_place(run, workdir.parent) / "summary.json"
        row["teacher_test_accuracy"] = json.loads(teacher.read_text())["best_test_accuracy"]
    return row


def train_all(options: Options, named: Mapping[str, Run]) -> dict[str, dict[str, Any]]:
    """Trains runs one after the other; the result is written after each, so none is lost."""
    rows: dict[str, dict[str, Any]] = {}
    for label, run in named.items():
        rows[label] = train_run(run, options.runs)
        options.keep({"runs": rows}, finished=False)
    return rows


def layers_of(run: Run, folder: Path) -> list[dict[str, Any]]:
    """Rows of layers.csv of a finished run: activity, gradient, displacement by epoch and layer."""
    return read_layers(place(run, folder) / "layers.csv")


def with_seeds(named: Mapping[str, Run], seeds: Sequence[int]) -> dict[str, Run]:
    """Each run once for each seed, under the names "NAME, seed N"."""
    return {
        f"{name}, seed {seed}": run.but(seed=seed) for name, run in named.items() for seed in seeds
    }


def by_last_part(rows: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Rows named "FIRST, LAST, seed N" by FIRST, which may have commas, and by LAST."""
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for label, row in rows.items():
        first, last = label.split(", seed ")[0].rsplit(", ", 1)
        found.setdefault(first, {}).setdefault(last, []).append(row)
    return found


def percents(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Training and test accuracy over the seeds of one run, as texts in percent."""
    return [show.percent(accuracies(rows, part)) for part in ("train", "test")]


def accuracies(rows: Sequence[dict[str, Any]], part: str = "test") -> list[float]:
    """Of the seeds of one run, fractions; `part`: train or test."""
    return [row[f"{part}_accuracy"] for row in rows]


def shrink(run: Run) -> Run:
    """A run of seconds with the same network: for tests, says nothing."""
    small = {"train_size": 60, "test_size": 30, "epochs": 3, "batch_size": 20}
    return run.but(**small, t_free=2, t_nudge=1)


def of_scale(scale: str, named: Mapping[str, Run]) -> dict[str, Run]:
    """The runs as they are; at tiny scale shrunk."""
    return {name: shrink(run) if scale == "tiny" else run for name, run in named.items()}
