"""Do the first runs learn, and do the signals matter? python -m benchmarks.core [NAME ...]

Runs train.py, the command that a user types, for each row of `RUNS`, and keeps what its summary and
its metrics say: results/core.json, core.png and the table of the README.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.provenance import RESULTS, load, save
from jaxep.run.reporting import read_metrics

ROOT = Path(__file__).parent.parent
# cifar10_small_frozen: the net of cifar10_small_le in which only the readout learns.
FROZEN = {"signal": "none", "signal_layers": "()", "kappa": 0.0}
FROZEN["learning_rates"] = "(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.02)"
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "digits_le": ("digits_le", {}),
    "digits_std": ("digits_std", {}),
    "digits_kd": ("digits_kd", {}),
    "digits_deep_le": ("digits_deep_le", {}),
    "digits_deep_std": ("digits_deep_std", {}),
    "cifar10_small_le": ("cifar10_small_le", {}),
    "cifar10_small_frozen": ("cifar10_small_le", FROZEN),
}
TITLES = {
    "digits_le": "digits, 8 layers, local errors",
    "digits_std": "digits, 8 layers, no signals",
    "digits_kd": "digits, 6 layers, distilled from a teacher",
    "digits_deep_le": "digits, 12 layers, local errors",
    "digits_deep_std": "digits, 12 layers, no signals",
    "cifar10_small_le": "CIFAR-10 (3000 images), quarter-width VGG-7, local errors",
    "cifar10_small_frozen": "the same net, only its readout trained",
}


def measure(name: str) -> dict[str, Any]:
    """Trains one row from scratch by the command line: accuracy, seconds, curve, command."""
    config, changes = RUNS[name]
    with tempfile.TemporaryDirectory() as folder:
        command = ["train.py", "--config", f"configs/{config}.py"]
        command += [f"--config.{key}={value}" for key, value in changes.items()]
        extra = ["--workdir", f"{folder}/run"]
        # Without a compilation cache, so that the seconds are those of a first run.
        environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": f"{folder}/cache"}
        if config == "digits_kd":
            extra.append(f"--config.teacher_workdir={folder}/teacher")
        began = time.perf_counter()
        subprocess.run([sys.executable, *command, *extra], cwd=ROOT, env=environment, check=True)
        seconds = time.perf_counter() - began
        summary = json.loads(Path(folder, "run", "summary.json").read_text())
        metrics = read_metrics(f"{folder}/run/metrics.csv")
    return {
        "command": " ".join(["python", *command]),
        "final_test_accuracy": summary["final_test_accuracy"],
        "best_test_accuracy": summary["best_test_accuracy"],
        "seconds": round(seconds, 1),
        "epochs": summary["epochs"],
        "parameters": summary["parameters"],
        "train_loss": metrics["train_loss"],
        "test_acc": metrics["test_acc"],
    }


def draw(runs: dict[str, Any]) -> None:
    """Test accuracy per epoch of the digits nets, 8 layers beside 12: results/core.png."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 2, sharey=True)
    panels = (("8 weighted layers", "digits"), ("12 weighted layers", "digits_deep"))
    for axis, (title, prefix) in zip(axes, panels, strict=True):
        for kind, label, style in (("le", "local errors", "-"), ("std", "no signals", "--")):
            curve = runs.get(f"{prefix}_{kind}", {}).get("test_acc", [])
            axis.plot(range(1, len(curve) + 1), [100 * v for v in curve], style, label=label)
        axis.axhline(10, color="0.6", linewidth=1, linestyle=":", label="chance")
        axis.set(title=title, xlabel="epoch", ylim=(0, 101))
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("test accuracy, %")
    axes[1].legend(loc="center right")
    figure.savefig(RESULTS / "core.png", dpi=150)


def table(runs: dict[str, Any]) -> str:
    """The rows as Markdown."""
    lines = ["| run | test accuracy, % | seconds | config |", "| --- | --- | --- | --- |"]
    for name in RUNS:
        if name in runs:
            run, config = runs[name], RUNS[name][0]
            accuracy = f"{100 * run['final_test_accuracy']:.1f}"
            changed = " (overrides in the json)" if RUNS[name][1] else ""
            lines.append(
                f"| {TITLES[name]} | {accuracy} | {run['seconds']:.0f} | "
                f"`configs/{config}.py`{changed} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Measures the rows named on the command line, or all, and keeps the others' results."""
    runs = load("core").get("runs", {})
    for name in sys.argv[1:] or list(RUNS):
        runs[name] = measure(name)
        save("core", {"runs": runs})
    draw(runs)
    print(table(runs))


if __name__ == "__main__":
    main()
