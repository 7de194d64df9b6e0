"""Where a number comes from."""

import importlib.util
import os
import shutil
import subprocess

import pytest

from jaxep.run import provenance as origin


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_commit_is_of_the_repository_of_the_package(tmp_path, monkeypatch):
    def git(*arguments):
        identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    copy = shutil.copy(origin.__file__, tmp_path / "origin_copy.py")
    spec = importlib.util.spec_from_file_location("origin_copy", copy)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    git("init", "-q")
    (tmp_path / "other.txt").write_text("1")
    git("add", "other.txt")
    git("commit", "-q", "-m", "other")
    # Installed inside some other project's repository: its commit says nothing about the package.
    assert module.provenance()["git_commit"] is None
    git("add", "origin_copy.py")
    git("commit", "-q", "-m", "package")
    state = module.provenance()
    assert (state["git_commit"], state["git_dirty"]) == (git("rev-parse", "HEAD"), False)
    (tmp_path / "other.txt").write_text("2")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    assert module.provenance()["git_dirty"] is True
