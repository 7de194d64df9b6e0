"""The work directory: one configuration, one process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jaxep.run.errors import CheckpointError
from jaxep.run.workdir import FORMAT, check_run, held, open_run, read_config

CONFIG = {"seed": 1, "beta": 0.5, "hidden": (512, 512), "conv": "64 M"}


def test_open_run_keeps_the_config(tmp_path):
    workdir = tmp_path / "runs" / "a"
    open_run(workdir, CONFIG)
    assert json.loads((workdir / "config.json").read_text()) == {**CONFIG, "hidden": [512, 512]}
    assert read_config(workdir) == {**CONFIG, "hidden": [512, 512]}
    assert sorted(path.name for path in workdir.iterdir()) == ["config.json", "format.json"]
    open_run(str(workdir), CONFIG)


def test_a_check_of_a_run_writes_nothing(tmp_path):
    check_run(tmp_path / "run", CONFIG)
    assert not list(tmp_path.iterdir())
    open_run(tmp_path, CONFIG)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    check_run(tmp_path, CONFIG)
    with pytest.raises(CheckpointError, match="beta"):
        check_run(tmp_path, {**CONFIG, "beta": 1.0})
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


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
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "format.json"]


def test_what_may_change_is_the_callers_to_say(tmp_path):
    may_change = {"every": None, "epochs": None, "seed": "the data have another order then"}
    open_run(tmp_path, {**CONFIG, "every": 1, "epochs": 4}, may_change)
    open_run(tmp_path, {**CONFIG, "every": 2, "epochs": 6}, may_change)
    assert read_config(tmp_path)["every"] == 2 and read_config(tmp_path)["epochs"] == 6
    with pytest.raises(CheckpointError) as error:
        changed = {**CONFIG, "every": 3, "epochs": 5, "seed": 2, "beta": 1.0}
        open_run(tmp_path, changed, may_change)
    assert str(error.value).endswith(
        "seed = 1 there, 2 here (the data have another order then); beta = 0.5 there, 1.0 here; "
        "epochs = 6 there, 5 here (a run may grow, not shrink)"
    )


def test_a_run_of_the_former_layout_is_refused_in_a_sentence(tmp_path):
    open_run(tmp_path, CONFIG)
    (tmp_path / "format.json").unlink()
    open_run(tmp_path, CONFIG)  # nothing was trained: there is nothing to be read
    (tmp_path / "format.json").unlink()
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(CheckpointError, match="made by an older jaxep.*train again") as error:
        open_run(tmp_path, CONFIG)
    assert str(tmp_path) in str(error.value) and not (tmp_path / "format.json").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (json.dumps({"format": FORMAT + 1, "jaxep": "9.1"}), "of jaxep 9.1 in format 3"),
        ("{", "is not readable"),
        ("[]", "is not readable"),
    ],
)
def test_a_run_of_a_newer_layout_is_refused_in_a_sentence(text, said, tmp_path):
    open_run(tmp_path, CONFIG)
    (tmp_path / "format.json").write_text(text)
    with pytest.raises(CheckpointError, match=said):
        open_run(tmp_path, CONFIG)


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
        raise OSError(28, "No space left on device", str(tmp_path / "metrics.csv"))
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize("filename", [None, "/dev/stdout", 1])
def test_what_cannot_be_written_elsewhere_is_not_laid_upon_it(filename, tmp_path):
    with pytest.raises(OSError, match="No space left on device"), held(tmp_path):
        raise OSError(28, "No space left on device", filename)


def test_a_place_that_is_no_directory_is_refused_in_a_sentence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for workdir in ("gs://bucket/run", "s3://bucket/run", Path("gs://bucket/run")):
        with (
            pytest.raises(CheckpointError, match="must be a directory of this machine"),
            held(workdir),
        ):
            pass
    assert not list(tmp_path.iterdir())


def test_this_library_can_be_imported_where_there_is_no_fcntl(tmp_path):
    """As on Windows, which filelock knows a lock of."""
    code = "import sys; sys.modules['fcntl'] = None; import jaxep.run.record, jaxep.training.loop"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "HOME": "/"})


def test_a_name_that_is_too_long_cannot_be_used(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be used: File name too long"):
        check_run(tmp_path / ("x" * 300), {})
