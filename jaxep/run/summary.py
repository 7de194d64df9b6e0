"""The end of a run: its summary, then its pictures, and what is said of it later."""

from __future__ import annotations

import json
import warnings
from typing import Any

from jaxep.run import console
from jaxep.run.about import about
from jaxep.run.errors import CheckpointError, reason
from jaxep.run.files import StrPath, local_path
from jaxep.run.reporting import write_summary
from jaxep.run.tables import read_layers, read_metrics
from jaxep.run.workdir import read_config

PICTURES = ("curves.png", "layers.png")


def conclude(workdir: StrPath, *, parameters: int, **more: Any) -> dict[str, Any]:
    """Writes the summary of a run that has come to its end, and draws it; returns the summary.

    Args:
      workdir: directory of the run.
      parameters: number of trained parameters.
      more: further JSON values of the summary, under names of their own.
    """
    summary = write_summary(workdir, parameters=parameters, **more)
    draw(workdir)
    return summary


def draw(workdir: StrPath) -> None:
    """Draws curves.png and layers.png from the tables; a picture that fails is a warning."""
    workdir = local_path(workdir)
    try:
        with warnings.catch_warnings():
            # Of a library, about a picture that is drawn: nobody who trains can mend it.
            warnings.simplefilter("ignore")
            # Matplotlib takes a second to import, and a run that fails early needs none of it.
            from jaxep.run import plots

            run = about(_config(workdir))
            plots.curves(read_metrics(workdir / "metrics.csv"), workdir / "curves.png", run)
            plots.layers(read_layers(workdir / "layers.csv"), workdir / "layers.png", run)
    except Exception as error:  # fonts, settings, a library: none of it is worth a trained run
        what = f"{type(error).__name__}: {reason(error)}"
        console.warn(f"the pictures of {workdir} cannot be drawn ({what})")


def _config(workdir: StrPath) -> dict[str, Any]:
    """The run's settings; {} where they cannot be read: pictures need none."""
    try:
        return read_config(workdir)
    except CheckpointError:
        return {}


def finished(workdir: StrPath, epochs: int) -> dict[str, Any] | None:
    """The summary of the run in `workdir` where it has trained `epochs`, or None."""
    try:
        text = (local_path(workdir) / "summary.json").read_text(encoding="utf-8")
        summary = dict(json.loads(text))
        return summary if int(summary["epochs"]) >= epochs else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def tell_end(workdir: StrPath, summary: dict[str, Any]) -> None:
    """Says in a line that the run in `workdir` is at its end; draws it where a picture is missing.

    That is a run which was killed between its summary and its pictures, or could not draw them.
    """
    workdir = local_path(workdir)
    epochs = summary["epochs"]
    said = [f"{workdir} is finished: {epochs} epoch{'' if epochs == 1 else 's'}"]
    if summary.get("final_test_accuracy") is not None:
        said.append(f"test accuracy {summary['final_test_accuracy']:.3f}")
    if summary.get("best_test_accuracy") is not None:
        best = f"best {summary['best_test_accuracy']:.3f} in epoch {summary.get('best_epoch')}"
        said.append(best)
    console.say(", ".join(said))
    if not all((workdir / picture).exists() for picture in PICTURES):
        draw(workdir)
