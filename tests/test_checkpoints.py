"""Checkpoints: what is restored is what was saved, or it is said that it is not."""

import os
import shutil
import subprocess
import sys
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from absl import logging as absl_logging

from jaxep.checkpoints import Checkpoints, read_state
from jaxep.errors import CheckpointError


@flax.struct.dataclass
class TrainState:
    params: Any
    opt_state: Any
    extra: Any
    step: Any


def make_state(seed, width=40):
    """A state with every kind of leaf and container a run has, all of it different by `seed`."""
    keys = jax.random.split(jax.random.key(seed), 3)
    params = {
        "layers": (
            {"kernel": jax.random.normal(keys[0], (3, 3, 8, width)), "bias": jnp.zeros(width)},
            {"kernel": jax.random.normal(keys[1], (width, 5), jnp.bfloat16)},
        ),
        "odd": jnp.array([jnp.nan, -0.0, jnp.inf, 1e-45, seed], jnp.float32),
    }
    labels = {"layers": ("fast", "slow"), "odd": "slow"}
    rates = {"fast": optax.cosine_decay_schedule(0.1, 10), "slow": 0.01}
    optimizer = optax.chain(
        optax.add_decayed_weights(3e-4),
        optax.multi_transform({k: optax.sgd(r, 0.9) for k, r in rates.items()}, labels),
    )
    updates, opt_state = optimizer.update(params, optimizer.init(params), params)
    extra = {"mean": jax.random.uniform(keys[2], (width,)), "none": None, "empty": (), "n": seed}
    return TrainState(params, opt_state, extra, jnp.asarray(seed, jnp.int32))


def assert_same(restored, saved):
    assert jax.tree.structure(restored) == jax.tree.structure(saved)
    for one, other in zip(jax.tree.leaves(restored), jax.tree.leaves(saved), strict=True):
        assert type(one) is type(other)
        one, other = np.asarray(one), np.asarray(other)
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert one.tobytes() == other.tobytes()


def save_run(workdir, accuracies=(0.1, 0.2), keep=2):
    with Checkpoints(workdir, keep=keep) as checkpoints:
        for step, accuracy in enumerate(accuracies, start=1):
            checkpoints.save(step, make_state(step), {"test_acc": accuracy})
    return workdir / "checkpoints"


def steps_on_disk(workdir):
    return sorted(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())


def largest_file(directory):
    return max(
        (path for path in directory.rglob("*") if path.is_file()),
        key=lambda path: path.stat().st_size,
    )


def cut_in_half(path):
    os.truncate(path, path.stat().st_size // 2)


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


# What each file is for is orbax's affair; together these are all the files of a step.
DAMAGES = {
    "half": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "flipped": lambda data: (
        bytes([*data[: len(data) // 2], data[len(data) // 2] ^ 16]) + data[len(data) // 2 + 1 :]
    ),
}


@pytest.mark.parametrize("damage", [*DAMAGES, "missing"])
def test_a_damaged_file_never_gives_a_wrong_state(tmp_path, damage, capsys):
    last = save_run(tmp_path) / "2"
    states = {1: make_state(1), 2: make_state(2)}
    files = [path for path in sorted(last.rglob("*")) if path.is_file()]
    fell_back = []
    for path in files:
        data = path.read_bytes()
        path.unlink() if damage == "missing" else path.write_bytes(DAMAGES[damage](data))
        with Checkpoints(tmp_path) as checkpoints:
            state, metadata = checkpoints.restore(make_state(0))
        path.write_bytes(data)
        assert_same(state, states[metadata["step"]])
        assert metadata == {"test_acc": metadata["step"] / 10, "step": metadata["step"]}
        warnings = capsys.readouterr().err.splitlines()
        if metadata["step"] == 1:
            fell_back.append(path)
            assert len(warnings) == 1 and warnings[0].startswith(f"warning: checkpoint {last} ")
            assert warnings[0].endswith("falling back to 1")
        else:
            assert warnings == []
    # The record, the data of the arrays and their index cannot be done without.
    needed = {last / "record" / "metadata", last / "state" / "manifest.ocdbt", largest_file(last)}
    assert needed <= set(fell_back)


def test_training_goes_on_after_a_fallback(tmp_path, capsys):
    last = save_run(tmp_path, [0.1, 0.2, 0.3], keep=3) / "3"
    (last / "record" / "metadata").write_text("{")
    with Checkpoints(tmp_path, keep=3) as checkpoints:
        _, metadata = checkpoints.restore(make_state(0))
        assert metadata["step"] == 2
        assert steps_on_disk(tmp_path) == [1, 2, 3]
        checkpoints.save(3, make_state(33), {"test_acc": 0.4})
    capsys.readouterr()
    with Checkpoints(tmp_path, keep=3) as checkpoints:
        assert_same(checkpoints.restore(make_state(0))[0], make_state(33))
    assert steps_on_disk(tmp_path) == [1, 2, 3] and capsys.readouterr().err == ""


def test_no_readable_checkpoint_is_an_error(tmp_path):
    directory = save_run(tmp_path)
    for step in (1, 2):
        cut_in_half(largest_file(directory / str(step)))
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_step() == 2
        with pytest.raises(CheckpointError) as error:
            checkpoints.restore(make_state(0))
        # Nor can a run that ignores the error write over what may be mended by hand.
        with pytest.raises(CheckpointError):
            checkpoints.save(1, make_state(1), {})
    message = str(error.value)
    assert str(directory) in message and "step 1" in message and "step 2" in message
    assert "\n" not in message
    assert steps_on_disk(tmp_path) == [1, 2]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda s: s.replace(params={**s.params, "odd": jnp.zeros(4)}),
            "params.odd is float32[5] there, float32[4] here",
        ),
        (
            lambda s: s.replace(params={**s.params, "odd": jnp.zeros(5, jnp.int32)}),
            "params.odd is float32[5] there, int32[5] here",
        ),
        (
            lambda s: s.replace(params={**s.params, "new": jnp.zeros(5)}),
            "params.new is absent there, float32[5] here",
        ),
        (lambda s: s.replace(extra={}), "extra.mean is float32[40] there, absent here"),
    ],
)
def test_the_state_of_another_network_is_refused(tmp_path, change, said):
    directory = save_run(tmp_path)
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(CheckpointError) as error:
        checkpoints.restore(change(make_state(0)))
    assert said in str(error.value) and str(directory / "2") in str(error.value)


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
from jaxep.checkpoints import Checkpoints
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


def test_the_user_sees_one_line_of_a_damage_and_nothing_of_orbax(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        for step in (1, 2):
            state = {"x": jax.random.normal(jax.random.key(step), (9999,)), "y": jnp.arange(3)}
            checkpoints.save(step, state, {})
    cut_in_half(largest_file(tmp_path / "checkpoints/2"))
    code = f"""
import jax.numpy as jnp
from jaxep.checkpoints import Checkpoints
with Checkpoints({str(tmp_path)!r}) as checkpoints:
    state, metadata = checkpoints.restore({{"x": jnp.zeros(9999), "y": jnp.arange(3)}})
    checkpoints.save(2, state, {{"test_acc": 0.5}})
    checkpoints.save(3, state, {{"test_acc": 0.5}})
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"warning: checkpoint {tmp_path / 'checkpoints/2'} is damaged (x: ")
    assert line.endswith("falling back to 1") and steps_on_disk(tmp_path) == [2, 3]


def test_a_disk_without_room_is_found_before_the_save(tmp_path, monkeypatch):
    save_run(tmp_path)
    space = os.statvfs(tmp_path)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.restore(make_state(0))
        full = os.statvfs_result((*space[:4], 1, *space[5:]))
        monkeypatch.setattr(os, "statvfs", lambda path: full)
        with pytest.raises(CheckpointError, match="cannot be written: No space left on device"):
            checkpoints.save(3, make_state(3), {})
    assert steps_on_disk(tmp_path) == [1, 2]
