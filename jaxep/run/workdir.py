"""The work directory of a run: made once, for one configuration, and refused to any other."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jaxep.run.errors import CheckpointError, reason
from jaxep.run.reporting import StrPath, write_atomically

# How a run is kept and guarded, and not what it computes: another value goes on.
MAY_CHANGE = ("keep_checkpoints", "checkpoint_every", "on_divergence")


@contextmanager
def held(workdir: StrPath) -> Iterator[None]:
    """Keeps `workdir`, made where missing, for this process alone.

    By a lock on the file "lock" in it, which the kernel frees however the process ends.

    Raises:
      CheckpointError: another process holds it, or it cannot be used; or, within, an OSError:
        something in it cannot be written.
    """
    workdir = Path(workdir)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock = os.open(workdir / "lock", os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise CheckpointError(f"workdir {workdir} cannot be used: {reason(error)}") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CheckpointError(f"workdir {workdir} is in use by another process") from error
        yield
    except OSError as error:
        raise CheckpointError(f"workdir {workdir} cannot be written: {reason(error)}") from error
    finally:
        os.close(lock)


def open_run(workdir: StrPath, config: Mapping[str, Any]) -> None:
    """Makes `workdir` and its config.json, or checks that the run in it has this same `config`.

    Args:
      workdir: directory of the run; it and its parents are made where missing.
      config: settings as JSON values (tuples count as lists).

    Raises:
      CheckpointError: the directory holds a run with another config (each key that differs, but
        for `MAY_CHANGE`, is listed with both values), an unreadable config.json, or checkpoints
        without a config.json, or it cannot be written. Nothing is created then.
    """
    workdir = Path(workdir)
    path = workdir / "config.json"
    text = json.dumps(dict(config), indent=2) + "\n"
    try:
        if path.exists():
            _refuse_other_config(path, json.loads(text))
        elif (workdir / "checkpoints").exists():
            raise CheckpointError(f"workdir {workdir} holds checkpoints but no config.json")
        workdir.mkdir(parents=True, exist_ok=True)
        # Written again over an equal one: so a directory that cannot be written is found now and
        # not after the first epoch.
        write_atomically(path, text)
    except OSError as error:
        raise CheckpointError(f"workdir {workdir} cannot be used: {reason(error)}") from error


def _refuse_other_config(path: Path, new: dict[str, Any]) -> None:
    try:
        old = dict(json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{path} is not a readable config: {reason(error)}") from error
    shown_old = {key: json.dumps(value) for key, value in old.items()}
    shown_new = {key: json.dumps(value) for key, value in new.items()}
    differing = [
        f"{key} = {shown_old.get(key, 'absent')} there, {shown_new.get(key, 'absent')} here"
        for key in {**new, **old}
        if shown_old.get(key) != shown_new.get(key) and key not in MAY_CHANGE
    ]
    if differing:
        raise CheckpointError(
            f"workdir {path.parent} holds a run with another config: {'; '.join(differing)}"
        )
