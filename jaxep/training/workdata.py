"""What a work directory keeps of a run beside its record: its data's facts, and its end.

data.json has the shapes, classes, moments and counts of the data and a CRC-32 (`data.facts`):
enough to know them again, and to use the network without them.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxep.run.errors import CheckpointError, reason
from jaxep.run.reporting import read_layers, read_metrics, write_atomically, write_summary

if TYPE_CHECKING:
    from jaxep.training.settings import Settings

FILE = "data.json"
PICTURES = ("curves.png", "layers.png")
# How a run is kept and guarded, and not what it computes: another value goes on.
MAY_CHANGE = ("keep_checkpoints", "checkpoint_every", "on_divergence")
WORDS = {
    "image_shape": "images of another shape",
    "num_classes": "another number of classes",
    "train_images": "another number of training images",
    "test_images": "another number of test images",
    "crc32": "other images or labels",
}


def keep_facts(workdir: str | Path, facts: dict[str, Any]) -> None:
    """Writes the facts of a new run, or compares those of a resumed one with what it began on.

    Raises:
        CheckpointError: the run in `workdir` began on other data.
    """
    path = Path(workdir) / FILE
    if not path.exists():
        write_atomically(path, json.dumps(facts, indent=2) + "\n")
        return
    there = read_facts(workdir)
    for name, value in facts.items():
        if there.get(name) != value:
            words = WORDS.get(name, f"another {name}")
            raise CheckpointError(
                f"workdir {workdir} holds a run on other data, {words}: {name} = "
                f"{json.dumps(there.get(name))} there, {json.dumps(value)} here"
            )


def read_facts(workdir: str | Path) -> dict[str, Any]:
    """The facts of the data of the run in `workdir`.

    Raises:
        CheckpointError: there are none, or they cannot be read.
    """
    path = Path(workdir) / FILE
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(facts, dict) or not {"image_shape", "mean", "std"} <= set(facts):
            raise ValueError("not the facts of a data set")
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} cannot be read, the run is of another version or damaged: {reason(error)}"
        ) from error
    return facts


def may_change(settings: "Settings") -> tuple[str, ...]:
    """The keys that may have another value when a run goes on.

    The number of epochs is one of them where neither the learning rates nor κ look at it.
    """
    return MAY_CHANGE if schedules_that_end(settings) else (*MAY_CHANGE, "epochs")


def schedules_that_end(settings: "Settings") -> list[str]:
    """The keys whose schedules reach their end with the last epoch."""
    ending = ["lr_schedule"] if settings.lr_schedule == "cosine" else []
    if settings.signal != "none" and settings.kappa_schedule in ("linear", "cosine"):
        ending.append("kappa_schedule")
    return ending


def check_epochs(workdir: Path, config: Mapping[str, Any], ending: Sequence[str]) -> None:
    """Says why a run cannot go on to another number of epochs, where nothing else differs.

    Args:
        workdir: of the run.
        config: the settings now, as JSON values.
        ending: of `schedules_that_end`.

    Raises:
        CheckpointError: fewer epochs than before, or others under a schedule that ends with them.
    """
    kept = _read_json(workdir / "config.json")
    if not kept or _differing(kept, config) != {"epochs"}:
        return
    change = f"workdir {workdir} holds a run of {kept['epochs']} epochs: config.epochs = "
    change = f"{change}{config['epochs']}"
    if ending:
        keys = " and ".join(f"{key} = {config[key]}" for key in ending)
        raise CheckpointError(f"{change} is another run, for {keys} ends with the last epoch")
    if config["epochs"] < kept["epochs"]:
        raise CheckpointError(f"{change} must be at least that")


def finished(
    workdir: Path, config: Mapping[str, Any], facts: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The summary of a run of this configuration and data that is at its end; None of another."""
    summary = _read_json(workdir / "summary.json")
    same = not _differing(_read_json(workdir / "config.json"), config)
    same = same and _read_json(workdir / FILE) == facts
    return summary if same and summary.get("epochs") == config["epochs"] else None


def _differing(kept: Mapping[str, Any], config: Mapping[str, Any]) -> set[str]:
    """The keys that make another run and have another value."""
    keys = {*kept, *config} - set(MAY_CHANGE)
    return {key for key in keys if key not in kept or kept[key] != config.get(key)}


def tell_end(workdir: Path, summary: dict[str, Any]) -> None:
    """Says in one line that a run is at its end; draws its pictures where they are missing."""
    best = summary.get("best_test_accuracy")
    print(
        f"{workdir} is finished: {summary['epochs']} epochs, best test accuracy "
        f"{'unknown' if best is None else format(best, '.4f')}"
    )
    if not all((workdir / name).exists() for name in PICTURES):
        draw(workdir)


def conclude(workdir: Path, parameters: int) -> dict[str, Any]:
    """Writes the summary of a run and draws it; `parameters`: how many it has trained."""
    summary = write_summary(workdir, parameters=parameters)
    draw(workdir)
    return summary


def draw(workdir: Path) -> None:
    """The pictures of a run; one that cannot be drawn is a warning: the run is done."""
    try:
        # Matplotlib takes a second to import, and a run that fails early needs none of it.
        from jaxep.run import plots

        plots.curves(read_metrics(workdir / "metrics.csv"), workdir / PICTURES[0])
        plots.layers(read_layers(workdir / "layers.csv"), workdir / PICTURES[1])
    except Exception as error:  # whatever a user's fonts and settings make matplotlib raise
        print(f"warning: the pictures were not drawn: {reason(error)}", file=sys.stderr)


def _read_json(path: Path) -> dict[str, Any]:
    """The object in a file; {} where there is none to be read."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
