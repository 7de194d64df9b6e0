"""Errors a user can mend: each is one sentence, printed without a traceback; `status` of exit."""

import difflib
import os
import re
from collections.abc import Iterable


class UserError(Exception):
    """Bad input of any kind; `str(error)` is one line: what is wrong, what is allowed."""

    status = 2


class SettingsError(UserError):
    """A config key has a value that is not allowed."""


class DataError(UserError):
    """A data set is missing or is not what it should be."""


class TeacherError(UserError):
    """A distillation run has no usable teacher."""


class CheckpointError(UserError):
    """A work directory holds another run, or a checkpoint that cannot be read or written."""


class DivergenceError(UserError):
    """An update has a loss, gradients or states that are not finite."""

    status = 3


class PeerError(UserError):
    """Another process of the same run is gone, or was never reached."""

    status = 4


class Interrupted(Exception):
    """The run was asked to stop: it has saved its state, and the same settings go on from there."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """What ends a refusal of a word where a known one is near; else nothing."""
    near = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean {near[0]}?" if near else ""


def reason(error: BaseException) -> str:
    """The first line of an error, short enough to stand in a sentence."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    # tensorstore: "RESOURCE_EXHAUSTED: ... No space left on device [os_error_code='28']"
    if code := re.search(r"os_error_code='(\d+)'", str(error)):
        return os.strerror(int(code[1]))
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return text if len(text) <= 120 else f"{text[:117]}..."
