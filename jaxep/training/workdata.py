"""What makes a run the same run: its data, as its work directory knows them, and its settings.

data.json has the shapes, classes, moments and counts of the data and a CRC-32 (`data.facts`):
enough to know them again, and to use the network without them.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxep.run.errors import CheckpointError, DataError, reason
from jaxep.run.files import write_atomically
from jaxep.run.provenance import provenance
from jaxep.run.workdir import MayChange
from jaxep.training import data as data_lib
from jaxep.training.settings import Settings, to_dict

FILE = "data.json"
# How a run is kept and guarded, where its files lie, and not what it computes: another value goes
# on.
MAY_CHANGE = (
    *("keep_checkpoints", "checkpoint_every", "on_divergence"),
    *("data_dir", "train_teacher"),
)
# Where a process finds its files: they may lie elsewhere for another process of the same run.
PLACES = ("data_dir", "teacher_workdir")
SCHEDULES_THAT_END = {"lr_schedule": ("cosine",), "kappa_schedule": ("linear", "cosine")}


def may_change(settings: Settings) -> MayChange:
    """The keys that may have another value in a run that goes on, with why one may not.

    The number of epochs may grow where neither the learning rates nor κ look at it.
    """
    why = None
    for key, kinds in SCHEDULES_THAT_END.items():
        heard = key == "lr_schedule" or settings.signal != "none"
        if heard and getattr(settings, key) in kinds:
            why = f"{key} = {getattr(settings, key)} ends with the last epoch"
    return {**dict.fromkeys(MAY_CHANGE), "epochs": why}


def check_facts(workdir: Path, facts: Mapping[str, Any]) -> None:
    """Refuses `workdir` where it holds a run that began on other data.

    Raises:
        CheckpointError: it is so; the first fact that differs is named.
    """
    if not (workdir / FILE).exists():
        return
    there = read_facts(workdir)
    for name, value in facts.items():
        if there.get(name) != value:
            raise CheckpointError(
                f"workdir {workdir} holds a run on other data: {name} = "
                f"{json.dumps(there.get(name))} there, {json.dumps(value)} here"
            )


def keep_facts(workdir: Path, facts: Mapping[str, Any]) -> None:
    """Writes the facts of a new run."""
    if not (workdir / FILE).exists():
        write_atomically(workdir / FILE, json.dumps(dict(facts), indent=2) + "\n")


def read_facts(workdir: Path) -> dict[str, Any]:
    """The facts of the data of the run in `workdir`.

    Raises:
        CheckpointError: there are none, or they cannot be read.
    """
    path = workdir / FILE
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(facts, dict) or not {"image_shape", "mean", "std"} <= set(facts):
            raise ValueError("not the facts of a data set")
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {reason(error)}") from error
    return facts


def shared(settings: Settings, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What must be the same in all processes of a run, by names that stand in an error."""
    keys = {f"config.{k}": v for k, v in to_dict(settings).items() if k not in PLACES}
    data = {f"{name} of the data": value for name, value in facts.items()}
    versions = {f"version of {k}": v for k, v in provenance()["versions"].items()}
    return keys | data | versions


def load_data(settings: Settings, given: data_lib.Dataset | None = None) -> data_lib.Dataset:
    """The data of the settings, or what they select of those that are given, on the device.

    Raises:
        DataError: missing or bad data, or fewer images than one batch.
    """
    sizes = {"train_size": settings.train_size, "test_size": settings.test_size}
    if given is None:
        place, scale = settings.data_dir, settings.std_scale
        data = data_lib.load(
            settings.dataset, data_dir=place, split=settings.split, std_scale=scale, **sizes
        )
    elif isinstance(given, data_lib.Dataset):
        data = data_lib.select(given, split=settings.split, **sizes)
    else:
        raise DataError(f"data: must be what from_arrays gives, not a {type(given).__name__}")
    if len(data.train.labels) < settings.batch_size:
        raise DataError(
            f"config.batch_size = {settings.batch_size}: at most {len(data.train.labels)}, "
            f"the number of training images"
        )
    return data._replace(
        train=jax.tree.map(jnp.asarray, data.train), test=jax.tree.map(jnp.asarray, data.test)
    )
