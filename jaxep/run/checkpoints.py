"""What a run keeps in its work directory to go on: its training states.

A checkpoint is an orbax step directory with the leaves of the state by their path in it, and a JSON
record: the caller's metadata and every leaf's type, shape and CRC-32. Orbax keeps no checksum of
array data (a flipped bit came back as other numbers, without an error) and casts to the dtype it is
asked for; by the record a damaged state and the state of another network are told.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging as absl_logging

from jaxep.run import console
from jaxep.run.errors import CheckpointError, reason
from jaxep.run.files import StrPath, local_path
from jaxep.run.fingerprints import check_layout, fingerprints, like, named_leaves
from jaxep.run.retention import LatestAndBest, accuracy_of, best_of

PyTree = Any
# What a checkpoint takes on the disk beside its arrays: 60 kB for a digits net of 40 leaves.
SAVE_OVERHEAD = 2**17


class Checkpoints:
    """The checkpoints of one run, in `workdir`/checkpoints; saves in the background.

    A context manager: leaving it waits for the last save. The last `keep` checkpoints are kept,
    and the one with the highest metadata["test_acc"] (the earliest of equals). With `keep` >= 2 a
    damaged last checkpoint costs the steps since the one before it, and not the run.
    """

    def __init__(self, workdir: StrPath, *, keep: int = 2) -> None:
        self._directory = local_path(workdir).absolute() / "checkpoints"
        self._accuracy: dict[int, float] = {}
        policy = LatestAndBest(max(keep, 1), self._accuracy)
        with ExitStack() as cleanup:
            cleanup.enter_context(_quiet())
            with self._errors_named():
                self._directory.mkdir(parents=True, exist_ok=True)
                self._manager = _manager(self._directory, policy)
            self._cleanup = cleanup.pop_all()
        self._accuracy.update(_accuracies(self._manager))
        # Where training stands: -1 at its start, None until one of the checkpoints is restored.
        self._position = None if self._accuracy else -1

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def save(self, step: int, state: PyTree, metadata: Mapping[str, Any]) -> None:
        """Starts to save `state` under `step`; returns when `state` may be donated or changed.

        Args:
          step: number of the checkpoint, growing; the step training stands at is not saved twice.
          state: pytree of non-empty arrays and numbers (no typed random keys).
          metadata: JSON values; "test_acc" ranks the checkpoint.

        Raises:
          CheckpointError: this save or the one before it failed, or the directory holds checkpoints
            of which none was restored (they would be lost).
        """
        if self._position is None:
            raise CheckpointError(
                f"{self._directory} holds checkpoints up to step {self.latest_step()}, but none of "
                "them was restored"
            )
        if step == self._position:
            return
        if step < self._position:
            raise ValueError(f"checkpoint {step} cannot follow checkpoint {self._position}")
        leaves = named_leaves(state)
        record = {"metadata": dict(metadata), "leaves": fingerprints(leaves)}
        items = ocp.args.Composite(
            state=ocp.args.PyTreeSave(leaves),
            record=ocp.args.JsonSave({**record, "crc32": _record_crc(record)}),
        )
        self.wait()
        self._check_space(sum(getattr(leaf, "nbytes", 8) for leaf in leaves.values()))
        with self._errors_named():
            # Steps after the restored one are damaged, or of a future now rewritten; they stay
            # until there is something to put in their place.
            for stale in [s for s in self._manager.all_steps() if s > self._position]:
                self._manager.delete(stale)
                self._accuracy.pop(stale, None)
            self._accuracy[step] = accuracy_of(metadata)
            self._manager.save(step, args=items)
        self._position = step

    def latest_step(self) -> int | None:
        """The last step saved, or None in a new directory."""
        return self._manager.latest_step()

    def best_step(self) -> int | None:
        """The step kept with the highest test accuracy (the earliest of equals), or None."""
        return best_of(self._manager.all_steps(), self._accuracy)

    def restore(self, template: PyTree, step: int | None = None) -> tuple[PyTree, dict[str, Any]]:
        """Reads a checkpoint: the last one, or `step`.

        Where the last is damaged the one before it is read, with a warning on stderr.

        Args:
          template: pytree of the saved structure; its leaves (arrays, `jax.ShapeDtypeStruct` or
            numbers) give types, shapes and, where they have one, sharding.

        Returns:
          The state, bit for bit as saved, and its metadata with "step" added.

        Raises:
          CheckpointError: no checkpoint can be read, or it is the state of another network.
        """
        self.wait()
        steps = self._manager.all_steps() if step is None else [step]
        state, metadata = _first_readable(self._manager, sorted(steps, reverse=True), template)
        self._position = metadata["step"]
        return state, metadata

    def wait(self) -> None:
        """Waits until the last save is on disk; raises CheckpointError where it failed."""
        with self._errors_named():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits as `wait` does, and frees the threads."""
        with self._cleanup, self._errors_named():
            self._manager.close()

    def _check_space(self, size: int) -> None:
        """Refuses a save of `size` bytes that the disk has no room for, before it has begun.

        Once it has, orbax's many threads each have something to say of a failed write.
        """
        with self._errors_named():
            if shutil.disk_usage(self._directory).free < size + SAVE_OVERHEAD:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, RuntimeError) as error:
            text = f"{self._directory} cannot be written: {reason(error)}"
            raise CheckpointError(text) from error


def read_state(
    workdir: StrPath, template: PyTree, *, best: bool = False
) -> tuple[PyTree, dict[str, Any]]:
    """Reads a state out of another run's `workdir`, a teacher's, and writes nothing there.

    Args:
      template: as for `Checkpoints.restore`, or a part of it: {"params": ..., "extra": ...} reads
        these two fields of a saved TrainState.
      best: the checkpoint with the highest test accuracy instead of the last one.

    Returns:
      The state in the structure of `template`, and the metadata with "step" added.

    Raises:
      CheckpointError: there is no checkpoint, none can be read, or it is of another network or of
        an older version of this library.
    """
    directory = local_path(workdir).absolute() / "checkpoints"
    if not directory.is_dir():
        raise CheckpointError(f"{directory} does not exist: this run has no checkpoint yet")
    with _quiet(), _manager(directory, None) as manager:
        steps = sorted(manager.all_steps(), reverse=True)
        first = best_of(steps, _accuracies(manager)) if best else None
        steps.sort(key=lambda step: step != first)
        return _first_readable(manager, steps, template, partial=True)


def _first_readable(
    manager: ocp.CheckpointManager, steps: Sequence[int], template: PyTree, *, partial: bool = False
) -> tuple[PyTree, dict[str, Any]]:
    damages = []
    for step, following in zip(steps, [*steps, None][1:], strict=True):
        try:
            record = _record(manager, step)
            check_layout(manager.directory / str(step), record["leaves"], template, partial)
            state = _read_arrays(manager, step, record["leaves"], template)
            return state, {**record["metadata"], "step": step}
        except _Damaged as damage:
            damages.append(f"step {step}: {damage}")
            if following is not None:
                console.warn(
                    f"checkpoint {manager.directory / str(step)} is damaged ({damage}), falling "
                    f"back to {following}"
                )
    raise CheckpointError(
        f"{manager.directory} holds no readable checkpoint ({'; '.join(damages) or 'it is empty'})"
    )


class _Damaged(Exception):
    """The files of a checkpoint are not what was written; says what is wrong with them."""


def _record(manager: ocp.CheckpointManager, step: int) -> dict[str, Any]:
    try:
        items = ocp.args.Composite(record=ocp.args.JsonRestore())
        record = dict(manager.restore(step, args=items).record)
        if record.pop("crc32") != _record_crc(record):
            raise ValueError("not what was saved")
        return record
    except Exception as error:  # whatever a damaged file makes orbax raise
        raise _Damaged(f"its record: {reason(error)}") from error


def _record_crc(record: Mapping[str, Any]) -> int:
    as_read = json.loads(json.dumps(record))
    return zlib.crc32(json.dumps(as_read, sort_keys=True).encode())


def _read_arrays(
    manager: ocp.CheckpointManager, step: int, leaves: Mapping[str, str], template: PyTree
) -> PyTree:
    """Reads the leaves of `template` and checks each; as NumPy arrays, so that a checkpoint does
    not depend on the devices it was saved from."""
    as_numpy = ocp.RestoreArgs(restore_type=np.ndarray)
    restored = []
    for name, leaf in named_leaves(template).items():
        # One by one: orbax reads all leaves at once, and where one is damaged it leaves the others
        # in a closed event loop, from where each prints a traceback that cannot be caught.
        item = ocp.args.PyTreeRestore({name: leaf}, {name: as_numpy}, partial_restore=True)
        try:
            array = manager.restore(step, args=ocp.args.Composite(state=item)).state[name]
        except Exception as error:  # whatever a damaged file makes tensorstore or orbax raise
            # tensorstore says e.g. "DATA_LOSS: Error opening ..." and much after that.
            raise _Damaged(f"{name}: {reason(error).partition(':')[0]}") from error
        if fingerprints({name: array})[name] != leaves[name]:
            raise _Damaged(f"{name} is not what was saved")
        restored.append(like(leaf, array))
    return jax.tree.unflatten(jax.tree.structure(template), restored)


def _manager(directory: Path, policy: LatestAndBest | None) -> ocp.CheckpointManager:
    """A manager that reads no step when it is made, so that a damaged one cannot stop it."""
    process = jax.process_index()
    options = ocp.CheckpointManagerOptions(
        create=False,
        # Of many processes only one has a manager of this directory, and waits for no other.
        multiprocessing_options=ocp.options.MultiprocessingOptions(
            primary_host=process,
            active_processes={process} if jax.process_count() > 1 else None,
            barrier_sync_key_prefix="jaxep" if jax.process_count() > 1 else None,
        ),
        cleanup_tmp_directories=policy is not None,
        # Made asynchronously, a directory that cannot be made is waited for: for five minutes.
        async_options=ocp.AsyncOptions(create_directories_asynchronously=False),
        lightweight_initialize=True,
        preservation_policy=policy,
    )
    return ocp.CheckpointManager(directory, options=options)


def _accuracies(manager: ocp.CheckpointManager) -> dict[int, float]:
    accuracies = dict.fromkeys(manager.all_steps(), -np.inf)
    for step in accuracies:
        with suppress(_Damaged):
            accuracies[step] = accuracy_of(_record(manager, step)["metadata"])
    return accuracies


@contextmanager
def _quiet() -> Iterator[None]:
    """Drops orbax's log lines, unless the user raised absl's verbosity.

    Orbax warns of routine things and logs a traceback for each error that it also raises. A filter
    and not another log level: other users of absl keep theirs.
    """

    def wanted(record: logging.LogRecord) -> bool:
        verbose = absl_logging.get_verbosity() > absl_logging.WARNING
        return verbose or f"{os.sep}orbax{os.sep}" not in record.pathname

    logger = absl_logging.get_absl_logger()
    logger.addFilter(wanted)
    try:
        yield
    finally:
        logger.removeFilter(wanted)
