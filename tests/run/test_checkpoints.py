"""Checkpoints: what is restored is what was saved, or it is said that it is not."""

import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from absl import logging as absl_logging

from jaxep.run.checkpoints import Checkpoints, read_state
from jaxep.run.errors import CheckpointError
from tests.saved import assert_same, make_state, save_run, steps_on_disk


def test_round_trip_is_bit_for_bit(tmp_path):
    metadata = {"test_acc": 0.5, "epoch": 3, "history": [1.5, None], "name": "κ"}
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_step() is None and checkpoints.best_step() is None
        checkpoints.save(3, make_state(3), metadata)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_step() == 3
        state, found = checkpoints.restore(make_state(0))
    assert_same(state, make_state(3))
    assert found == {**metadata, "step": 3}


def test_template_of_shapes_alone(tmp_path):
    state = make_state(3).replace(extra={})
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, state, {})
    with Checkpoints(tmp_path) as checkpoints:
        restored, _ = checkpoints.restore(jax.eval_shape(lambda: state))
    assert_same(restored, state)


def test_save_is_done_with_the_state_when_it_returns(tmp_path):
    """The next step may donate the state's buffers while the save is still being written."""
    step = jax.jit(lambda tree: jax.tree.map(lambda x: x * 2, tree), donate_argnums=0)
    params = {"w": jnp.arange(500_000, dtype=jnp.float32)}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, params, {})
        for _ in range(5):
            params = step(params)
        state, _ = checkpoints.restore(params)
    assert_same(state, {"w": jnp.arange(500_000, dtype=jnp.float32)})


@pytest.mark.parametrize(
    ("accuracies", "keep", "kept", "best"),
    [
        ([0.5, 0.9, 0.6, 0.7, 0.8], 2, [2, 4, 5], 2),
        ([0.5, 0.9, 0.6, 0.9], 1, [2, 4], 2),
        ([0.1, 0.2, 0.3], 1, [3], 3),
        ([None, float("nan"), 0.3, float("nan")], 1, [3, 4], 3),
        ([None, None, None], 2, [2, 3], None),
    ],
)
def test_the_last_and_the_best_are_kept(tmp_path, accuracies, keep, kept, best):
    with Checkpoints(tmp_path, keep=keep) as checkpoints:
        for step, accuracy in enumerate(accuracies, start=1):
            checkpoints.save(step, {"x": jnp.full(3, step)}, {"test_acc": accuracy})
        assert checkpoints.best_step() == best
    assert steps_on_disk(tmp_path) == kept


def test_the_best_is_known_after_a_resumption(tmp_path):
    save_run(tmp_path, [0.9, 0.5, 0.6])
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.restore(make_state(0))
        checkpoints.save(4, make_state(4), {"test_acc": 0.7})
        checkpoints.wait()
        assert steps_on_disk(tmp_path) == [1, 4]
        state, metadata = checkpoints.restore(make_state(0), step=1)
    assert_same(state, make_state(1))
    assert metadata == {"test_acc": 0.9, "step": 1}


def test_a_directory_with_checkpoints_is_not_overwritten_unread(tmp_path):
    save_run(tmp_path)
    with (
        Checkpoints(tmp_path) as checkpoints,
        pytest.raises(CheckpointError, match="up to step 2"),
    ):
        checkpoints.save(1, make_state(1), {})
    assert steps_on_disk(tmp_path) == [1, 2]


def test_steps_grow(tmp_path):
    save_run(tmp_path)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.restore(make_state(0))
        checkpoints.save(2, make_state(9), {})
        with pytest.raises(ValueError, match="cannot follow"):
            checkpoints.save(1, make_state(1), {})
        assert_same(checkpoints.restore(make_state(0))[0], make_state(2))


def test_a_reader_takes_a_part_and_writes_nothing(tmp_path):
    save_run(tmp_path, [0.9, 0.5], keep=2)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    template = {"params": make_state(0).params, "extra": make_state(0).extra}
    last, metadata = read_state(tmp_path, template)
    assert_same(last, {"params": make_state(2).params, "extra": make_state(2).extra})
    assert metadata["step"] == 2
    best, metadata = read_state(tmp_path, template, best=True)
    assert_same(best, {"params": make_state(1).params, "extra": make_state(1).extra})
    assert metadata == {"test_acc": 0.9, "step": 1}
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_reader_of_nothing(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        read_state(tmp_path / "run", {})
    assert not (tmp_path / "run").exists()
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    with pytest.raises(CheckpointError, match="empty"):
        read_state(tmp_path / "run", {})


def test_a_directory_that_cannot_be_written(tmp_path):
    filters = len(absl_logging.get_absl_logger().filters)
    (tmp_path / "checkpoints").write_text("a file")
    with pytest.raises(CheckpointError, match="checkpoints"):
        Checkpoints(tmp_path).save(1, make_state(1), {})
    (tmp_path / "checkpoints").unlink()
    checkpoints = Checkpoints(tmp_path)
    shutil.rmtree(tmp_path / "checkpoints")
    (tmp_path / "checkpoints").write_text("a file")
    with pytest.raises(CheckpointError) as error:
        checkpoints.save(1, make_state(1), {})
        checkpoints.wait()
    assert "cannot be written" in str(error.value) and "\n" not in str(error.value)
    checkpoints.close()
    assert len(absl_logging.get_absl_logger().filters) == filters


def test_a_run_killed_while_it_saves_goes_on(tmp_path):
    code = f"""
import os
import jax.numpy as jnp
from jaxep.run.checkpoints import Checkpoints
checkpoints = Checkpoints({str(tmp_path)!r})
checkpoints.save(1, {{"x": jnp.full(1_000_000, 1.0)}}, {{}})
checkpoints.wait()
checkpoints.save(2, {{"x": jnp.full(1_000_000, 2.0)}}, {{}})
os._exit(9)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (9, "")
    # As orbax leaves it where the kill comes a moment earlier.
    (tmp_path / "checkpoints" / "7.orbax-checkpoint-tmp" / "state").mkdir(parents=True)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_step() in (1, 2)
        state, metadata = checkpoints.restore({"x": jnp.zeros(1_000_000)})
        assert_same(state, {"x": jnp.full(1_000_000, float(metadata["step"]))})
        checkpoints.save(3, state, {})
    assert steps_on_disk(tmp_path)[-1] == 3
    assert not list((tmp_path / "checkpoints").glob("*tmp*"))


def test_a_disk_without_room_is_found_before_the_save(tmp_path, monkeypatch):
    save_run(tmp_path)
    space = shutil.disk_usage(tmp_path)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.restore(make_state(0))
        monkeypatch.setattr(shutil, "disk_usage", lambda path: space._replace(free=4096))
        with pytest.raises(CheckpointError, match="cannot be written: No space left on device"):
            checkpoints.save(3, make_state(3), {})
    assert steps_on_disk(tmp_path) == [1, 2]
