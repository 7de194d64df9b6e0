"""Where a number comes from: device, library versions, commit, memory."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import jax

_LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def peak_bytes() -> int | None:
    """The most memory used on the first device so far, in bytes; None where it does not tell."""
    stats = jax.local_devices()[0].memory_stats()
    return (stats or {}).get("peak_bytes_in_use")


def provenance() -> dict[str, Any]:
    """Where a number comes from: device, library versions, git commit, as JSON values.

    "git_commit" is that of the repository the package stands in, and "git_dirty" whether tracked
    files differ from it; both None where the package is not under version control.
    """
    device, count = jax.devices()[0], jax.device_count()
    versions = {library: importlib.metadata.version(library) for library in _LIBRARIES}
    commit, dirty = _git_state()
    return {
        "device": {"platform": device.platform, "kind": device.device_kind, "count": count},
        "versions": {"python": platform.python_version(), **versions},
        "git_commit": commit,
        "git_dirty": dirty,
    }


def _git_state() -> tuple[str | None, bool | None]:
    # Without these a hook's or a wrapper's repository would be asked and not this one.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(
            command, env=environment, check=True, capture_output=True, text=True, timeout=10
        ).stdout.strip()

    try:
        # An installed package can lie inside some other project's repository: that is not its own.
        git("ls-files", "--error-unmatch", Path(__file__).name)
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "-uno"))
    except (OSError, subprocess.SubprocessError):
        return None, None
