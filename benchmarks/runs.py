"""The training runs behind a benchmark: each is train.py with a config and the keys it changes.

A run is known by its settings: benchmarks that ask for the same one share it, one that is finished
is not trained again, and one that was cut off goes on from its last checkpoint.
"""

import argparse
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

from benchmarks import provenance
from jaxep import cli as train
from jaxep.run.reporting import read_layers, read_metrics
from jaxep.training.settings import Settings, from_config, load_config_file, to_dict

ROOT = Path(__file__).parent.parent
SCALES = ("small", "paper", "tiny")
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


class Options(NamedTuple):
    """The command line of a benchmark.

    Attributes:
        name: of the benchmark.
        scale: tiny (of the tests: says nothing), small (two CPU cores) or paper (a GPU).
        results: where NAME.json and NAME.png go.
        folder: where the runs' work directories lie.
        began: when the command started, of `time.perf_counter`.
    """

    name: str
    scale: str
    results: Path
    folder: Path
    began: float

    @property
    def stem(self) -> str:
        """Name of the result's files: NAME, or NAME_SCALE where the scale is not `small`."""
        return self.name if self.scale == "small" else f"{self.name}_{self.scale}"

    @property
    def picture(self) -> Path:
        """Path of the PNG."""
        return self.results / f"{self.stem}.png"


def options(name: str, text: str | None, arguments: Sequence[str] | None) -> Options:
    """Reads the command line of benchmark `name`, and readies JAX as train.py does."""
    parser = argparse.ArgumentParser(f"python -m benchmarks.{name}", description=text)
    parser.add_argument("--scale", choices=SCALES, default="small")
    parser.add_argument("--results", type=Path, default=provenance.RESULTS, help="folder of JSON")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs/benchmarks", help="of workdirs")
    read = parser.parse_args(arguments)
    train.prepare_jax()
    return Options(name, read.scale, read.results, read.runs.absolute(), time.perf_counter())


def keep(options: Options, result: Mapping[str, Any]) -> dict[str, Any]:
    """Writes the result with scale, command and seconds, and returns what was written."""
    whole = {
        "command": f"python -m benchmarks.{options.name} --scale {options.scale}",
        "scale": options.scale,
        "seconds": round(time.perf_counter() - options.began, 3),
        **result,
    }
    provenance.save(options.stem, whole, options.results)
    return provenance.load(options.stem, options.results)


def settings_of(run: Run) -> Settings:
    """The checked settings of a run.

    Raises:
        SettingsError: a changed key or its value is not allowed.
    """
    config = load_config_file(f"configs/{run.config}.py")
    return from_config({**config.to_dict(), **run.changes})


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


def train_run(run: Run, folder: Path) -> dict[str, Any]:
    """Trains a run to its end by train.py, unless that is done, and returns its row.

    Raises:
        SystemExit: train.py failed; the command is in the message.
    """
    workdir, settings = place(run, folder), settings_of(run)
    command = ["train.py", "--config", f"configs/{run.config}.py"]
    command += [f"--config.{key}={value}" for key, value in run.changes.items()]
    if not (workdir / "summary.json").exists():
        extra = [f"--workdir={workdir}"]
        if settings.teacher:
            extra += [f"--config.teacher_workdir={teacher_place(run, folder)}"]
            extra += ["--config.train_teacher=True"]
        print(f"+ python {shlex.join(command)}", flush=True)
        done = subprocess.run([sys.executable, *command, *extra], cwd=ROOT, env=os.environ)
        if done.returncode:
            raise SystemExit(f"exit status {done.returncode}: {shlex.join([*command, *extra])}")
    return {"command": shlex.join(["python", *command]), **_row(run, settings, workdir)}


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
        rows[label] = train_run(run, options.folder)
        keep(options, {"runs": rows, "finished": len(rows) == len(named)})
    return rows


def layers_of(run: Run, folder: Path) -> list[dict[str, Any]]:
    """Rows of layers.csv of a finished run: activity, gradient, displacement by epoch and layer."""
    return read_layers(place(run, folder) / "layers.csv")


def with_seeds(named: Mapping[str, Run], seeds: Sequence[int]) -> dict[str, Run]:
    """Each run once for each seed, under the names "NAME, seed N"."""
    return {
        f"{name}, seed {seed}": run.but(seed=seed) for name, run in named.items() for seed in seeds
    }


def by_name(rows: Mapping[str, dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The rows of `with_seeds` runs, collected under their names without the seed."""
    found: dict[str, list[dict[str, Any]]] = {}
    for label, row in rows.items():
        found.setdefault(label.split(", seed ")[0], []).append(row)
    return found


def shrink(run: Run) -> Run:
    """A run of seconds with the same network: for tests, says nothing."""
    small = {"train_size": 60, "test_size": 30, "epochs": 3, "batch_size": 20}
    return run.but(**small, t_free=2, t_nudge=1)
