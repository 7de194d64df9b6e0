"""Checkpoints that are damaged, or another network's: what is restored is never wrong."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxep.run.checkpoints import Checkpoints, read_state
from jaxep.run.errors import CheckpointError
from tests.saved import assert_same, cut_in_half, largest_file, make_state, save_run, steps_on_disk

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


def test_numbers_of_another_precision_are_no_other_network(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"accuracy": jnp.zeros(3), "step": jnp.zeros((), jnp.int32)}, {})
    template = {"accuracy": np.zeros(3), "step": np.zeros((), np.int64)}
    with pytest.raises(CheckpointError) as error:
        read_state(tmp_path, template)
    assert str(error.value) == (
        f"{tmp_path / 'checkpoints/1'} was saved with JAX_ENABLE_X64 off: accuracy is float32[3] "
        "there, float64[3] here"
    )
    with pytest.raises(CheckpointError, match="another network: step is int32"):
        read_state(tmp_path, {**template, "step": np.zeros((), np.float64)})


def test_weights_alone_are_told_from_another_network(tmp_path):
    params = {"conv1": np.ones(3, np.float32)}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(4, {"params": params}, {})
    whole = {"params": params, "opt_state": {"trace": params}, "step": np.zeros((), np.int32)}
    with pytest.raises(CheckpointError) as error:
        read_state(tmp_path, whole)
    assert str(error.value) == (
        f"{tmp_path / 'checkpoints/4'} holds a part of the state, as `Run.export` writes it, and "
        "no opt_state, step: training cannot go on from there"
    )
    other = {**whole, "params": {"conv1": np.ones(4, np.float32)}}
    with pytest.raises(CheckpointError, match="is the state of another network"):
        read_state(tmp_path, other)


def test_a_network_of_the_former_layout_is_told_as_such_and_a_teacher_is_read(tmp_path):
    kernel = jnp.arange(4.0)
    old = {"params": {"layers": ({"kernel": kernel},), "readout": {"kernel": kernel}}}
    new = {"params": {"edges": {"conv1": {"kernel": kernel}}, "heads": {}, "layers": {}}}
    teacher = {"params": {"Conv_0": {"kernel": kernel}}, "extra": {"BatchNorm_0": kernel}}
    for name, state in (("old", old), ("teacher", teacher)):
        with Checkpoints(tmp_path / name) as checkpoints:
            checkpoints.save(1, state, {"test_acc": 0.5})
    with pytest.raises(CheckpointError, match="made by an older jaxep.*train again"):
        read_state(tmp_path / "old", new)
    assert_same(read_state(tmp_path / "teacher", teacher, best=True)[0], teacher)


def test_the_user_sees_one_line_of_a_damage_and_nothing_of_orbax(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        for step in (1, 2):
            state = {"x": jax.random.normal(jax.random.key(step), (9999,)), "y": jnp.arange(3)}
            checkpoints.save(step, state, {})
    cut_in_half(largest_file(tmp_path / "checkpoints/2"))
    code = f"""
import jax.numpy as jnp
from jaxep.run.checkpoints import Checkpoints
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
