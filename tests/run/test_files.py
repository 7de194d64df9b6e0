"""Files of a work directory: where it is, and how they are replaced."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jaxep.run.errors import CheckpointError
from jaxep.run.files import local_path, write_atomically


def test_write_atomically_replaces_text_and_bytes(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, "κ")
    assert path.read_text(encoding="utf-8") == "κ"
    write_atomically(path, b"\x00")
    assert path.read_bytes() == b"\x00" and [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_write_that_fails_names_its_file(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space") as error:
        write_atomically(tmp_path / "file", "text")
    assert error.value.filename == str(tmp_path / "file") and not list(tmp_path.iterdir())


def test_home_is_read(monkeypatch):
    monkeypatch.setenv("HOME", "/a/home")
    assert local_path("~/runs") == Path("/a/home/runs")
    assert local_path(Path("~") / "runs") == Path("/a/home/runs")
    assert local_path("runs/a~b:c") == Path("runs/a~b:c")
    with pytest.raises(CheckpointError, match="~ has no home directory"):
        local_path("~nobody-of-this-name/runs")


@pytest.mark.parametrize("workdir", ["gs://bucket/x", "s3://x", "https://x/y", Path("gs://b/x")])
def test_a_url_is_refused(workdir):
    with pytest.raises(CheckpointError, match="must be a directory of this machine, not a URL"):
        local_path(workdir)


def test_a_name_that_the_locale_cannot_read_is_told_as_such(tmp_path):
    """A sound checkpoint there was "damaged"."""
    code = f"""
import jax.numpy as jnp, os
from jaxep.run.checkpoints import Checkpoints, read_state
from jaxep.run.errors import CheckpointError
place = os.fsdecode({os.fsencode(tmp_path / "β")!r})
for use in (Checkpoints, lambda place: read_state(place, {{"x": jnp.zeros(2)}})):
    try:
        use(place)
        print("read")
    except CheckpointError as error:
        print(error)
"""
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **ascii_only},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) == 2 and all("no text in this locale (ascii)" in line for line in lines)
    assert all("PYTHONUTF8=1" in line for line in lines)
