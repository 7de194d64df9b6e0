"""Files of a work directory: where it is, and how a file in it is replaced."""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from pathlib import Path

from jaxep.run.errors import CheckpointError

StrPath = str | os.PathLike[str]


def local_path(workdir: StrPath) -> Path:
    """The directory that `workdir` means, "~" read as the user's home.

    Raises:
      CheckpointError: it is remote, there is no home, or its name is no text in this locale.
    """
    text = os.fspath(workdir)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", text):
        raise CheckpointError(f"workdir {text}: must be a directory of this machine, not a URL")
    try:
        path = Path(text).expanduser()
    except RuntimeError as error:
        raise CheckpointError(f"workdir {text}: ~ has no home directory here") from error
    try:
        # Orbax hands names to a library that wants UTF-8, whatever the locale is.
        str(path.absolute()).encode()
    except UnicodeEncodeError as error:
        encoding = sys.getfilesystemencoding()
        raise CheckpointError(
            f"workdir {text.encode('ascii', 'backslashreplace').decode()}: its full name is no "
            f"text in this locale ({encoding}); set PYTHONUTF8=1, or choose another directory"
        ) from error
    return path


def write_atomically(path: StrPath, content: str | bytes) -> None:
    """Replaces the file `path` by `content`; a crash at any moment leaves the old or the new file.

    Raises:
      OSError: with `path` as its filename: it cannot be written; the old file is untouched then.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_directory(path.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def _sync_directory(directory: Path) -> None:
    """A rename is on the disk only after its directory is; Windows opens no directories."""
    if os.name != "posix":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
