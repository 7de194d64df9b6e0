"""The work directory of a run: made once, for one configuration, and refused to any other."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock

from jaxep._version import __version__
from jaxep.run.errors import CheckpointError, reason
from jaxep.run.files import StrPath, local_path, write_atomically
from jaxep.run.fingerprints import OLDER

# How the files of a run are laid out: 1 named the leaves of a network by positions, and has no
# format.json.
FORMAT = 2
MAY_ONLY_GROW = ("epochs",)
# The keys that another value may be given for a run that goes on: None, or why it may not.
MayChange = Mapping[str, str | None]


@contextmanager
def held(workdir: StrPath) -> Iterator[None]:
    """Keeps `workdir`, made where missing, for this process alone.

    By a lock on the file "lock" in it, which the kernel frees however the process ends.

    Raises:
      CheckpointError: another process holds it, or it cannot be used; or, within, a file in it
        cannot be read or written.
    """
    workdir = local_path(workdir)
    lock = filelock.FileLock(workdir / "lock", timeout=0)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except filelock.Timeout as error:
        raise CheckpointError(f"workdir {workdir} is in use by another process") from error
    except (OSError, NotImplementedError) as error:  # the second: a file system without locks
        raise CheckpointError(f"workdir {workdir} cannot be used: {reason(error)}") from error
    try:
        yield
    except OSError as error:
        if not _is_within(workdir, error.filename):
            raise
        raise CheckpointError(f"workdir {workdir} cannot be written: {reason(error)}") from error
    finally:
        lock.release()


def _is_within(workdir: Path, filename: Any) -> bool:
    """Whether an OSError is of a file in `workdir`, and not of stdout or of some other place."""
    named = isinstance(filename, (str, os.PathLike))
    return named and Path(filename).absolute().is_relative_to(workdir.absolute())


def check_run(
    workdir: StrPath, config: Mapping[str, Any], may_change: MayChange | None = None
) -> None:
    """Refuses `workdir` where it holds a run with another config than `config`; writes nothing.

    Args:
      workdir: directory of the run; it may be missing.
      config: settings as JSON values (tuples count as lists).
      may_change: keys that may have another value there, each with None, or with a sentence that
        says why it may not.

    Raises:
      CheckpointError: the directory holds a run with another config (each key that differs is
        listed with both values), an unreadable config.json, checkpoints without a config.json, or
        a run of another version of this library.
    """
    workdir = local_path(workdir)
    try:
        has_checkpoints = (workdir / "checkpoints").exists()
        has_config = (workdir / "config.json").exists()
    except OSError as error:  # a name that is too long, say
        raise CheckpointError(f"workdir {workdir} cannot be used: {reason(error)}") from error
    if not has_config:
        if has_checkpoints:
            raise CheckpointError(f"workdir {workdir} holds checkpoints but no config.json")
        return
    _check_format(workdir, has_checkpoints)
    here = json.loads(json.dumps(dict(config)))
    _refuse_other_config(workdir, read_config(workdir), here, may_change or {})


def open_run(
    workdir: StrPath, config: Mapping[str, Any], may_change: MayChange | None = None
) -> None:
    """Makes `workdir` and its config.json, or checks that the run in it has this same `config`.

    Raises:
      CheckpointError: as `check_run`, or it cannot be written. Nothing is created then.
    """
    workdir = local_path(workdir)
    try:
        check_run(workdir, config, may_change)
        workdir.mkdir(parents=True, exist_ok=True)
        # Written again over equal ones: so a directory that cannot be written is found now and not
        # after the first epoch.
        version = {"format": FORMAT, "jaxep": __version__}
        write_atomically(workdir / "format.json", json.dumps(version) + "\n")
        write_atomically(workdir / "config.json", json.dumps(dict(config), indent=2) + "\n")
    except OSError as error:
        raise CheckpointError(f"workdir {workdir} cannot be used: {reason(error)}") from error


def read_config(workdir: StrPath) -> dict[str, Any]:
    """The settings in a run's config.json, as JSON values.

    Raises:
      CheckpointError: there is none, or it cannot be read.
    """
    path = local_path(workdir) / "config.json"
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path} is not a readable config: {reason(error)}") from error


def _check_format(workdir: Path, has_checkpoints: bool) -> None:
    path = workdir / "format.json"
    if not path.exists():
        if has_checkpoints:
            raise CheckpointError(f"workdir {workdir} holds a run {OLDER}")
        return
    try:
        there = dict(json.loads(path.read_text(encoding="utf-8")))
        number = int(there["format"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path} is not readable: {reason(error)}") from error
    if number != FORMAT:
        raise CheckpointError(
            f"workdir {workdir} holds a run of jaxep {there.get('jaxep')} in format {number}; this "
            f"is jaxep {__version__}, which knows format {FORMAT}"
        )


def _refuse_other_config(
    workdir: Path, old: Mapping[str, Any], new: Mapping[str, Any], may_change: MayChange
) -> None:
    differing = []
    for key in {**new, **old}:
        there, here = (json.dumps(c[key]) if key in c else "absent" for c in (old, new))
        why = may_change.get(key, "")
        if key in MAY_ONLY_GROW and key in new and old.get(key, 0) > new[key]:
            why = "a run may grow, not shrink"
        if there != here and why is not None:
            differing.append(f"{key} = {there} there, {here} here{f' ({why})' if why else ''}")
    if differing:
        raise CheckpointError(
            f"workdir {workdir} holds a run with another config: {'; '.join(differing)}"
        )
