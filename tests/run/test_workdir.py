"""The work directory: one configuration, one process."""

import json
import os
import subprocess
import sys

import pytest

from jaxep.run.errors import CheckpointError
from jaxep.run.workdir import MAY_CHANGE, held, open_run

CONFIG = {"seed": 1, "beta": 0.5, "hidden": (512, 512), "conv": "64 M"}


def test_open_run_keeps_the_config(tmp_path):
    workdir = tmp_path / "runs" / "a"
    open_run(workdir, CONFIG)
    assert json.loads((workdir / "config.json").read_text()) == {**CONFIG, "hidden": [512, 512]}
    assert [path.name for path in workdir.iterdir()] == ["config.json"]
    open_run(str(workdir), CONFIG)


def test_open_run_names_every_key_that_differs(tmp_path):
    open_run(tmp_path, CONFIG)
    before = (tmp_path / "config.json").read_bytes()
    changed = {"seed": 1, "beta": 0.25, "hidden": (512,), "kappa": 0.1}
    with pytest.raises(CheckpointError) as error:
        open_run(tmp_path, changed)
    message = str(error.value)
    for said in (
        str(tmp_path),
        "beta = 0.5 there, 0.25 here",
        "hidden = [512, 512] there, [512] here",
        "kappa = absent there, 0.1 here",
        'conv = "64 M" there, absent here',
    ):
        assert said in message
    assert "seed" not in message and "\n" not in message
    assert (tmp_path / "config.json").read_bytes() == before


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "null", "3"])
def test_open_run_refuses_an_unreadable_config(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json") as error:
        open_run(tmp_path, CONFIG)
    assert "\n" not in str(error.value)
    assert (tmp_path / "config.json").read_text() == text


def test_open_run_refuses_checkpoints_of_nobody(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        open_run(tmp_path, CONFIG)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoints"]


def test_open_run_refuses_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    for workdir in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(CheckpointError, match="cannot be used") as error:
            open_run(workdir, CONFIG)
        assert str(workdir) in str(error.value) and "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_open_run_finds_a_read_only_directory_before_the_run(tmp_path, monkeypatch):
    # Not by permissions: the superuser, as in a container, may write everywhere.
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    open_run(tmp_path, CONFIG)
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(CheckpointError, match="Permission denied"):
        open_run(tmp_path, CONFIG)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_how_a_run_is_kept_may_change(tmp_path):
    open_run(tmp_path, {**CONFIG, **dict.fromkeys(MAY_CHANGE, 1)})
    open_run(tmp_path, {**CONFIG, **dict.fromkeys(MAY_CHANGE, 2)})
    assert json.loads((tmp_path / "config.json").read_text())["checkpoint_every"] == 2


def test_only_one_holds_a_workdir(tmp_path):
    """Also within a process, and again once the first lets go."""
    with (
        held(tmp_path / "run"),
        pytest.raises(CheckpointError, match="is in use by another process"),
        held(tmp_path / "run"),
    ):
        pass
    with held(tmp_path / "run"):
        assert [path.name for path in (tmp_path / "run").iterdir()] == ["lock"]


def test_a_killed_process_holds_nothing(tmp_path):
    code = f"""
import os
from jaxep.run.workdir import held
with held({str(tmp_path)!r}):
    os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    with held(tmp_path):
        pass


def test_what_cannot_be_written_within_is_named(tmp_path):
    with (
        pytest.raises(CheckpointError, match="cannot be written") as error,
        held(tmp_path),
    ):
        raise OSError(28, "No space left on device")
    assert str(tmp_path) in str(error.value)
