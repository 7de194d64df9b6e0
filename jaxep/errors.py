"""Errors a user can mend: each is one sentence, printed without a traceback, exit status 2."""


class UserError(Exception):
    """Bad input of any kind; `str(error)` is one line that names what is wrong and what is allowed."""


class SettingsError(UserError):
    """A config key has a value that is not allowed."""


class DataError(UserError):
    """A data set is missing or is not what it should be."""


class TeacherError(UserError):
    """A distillation run has no usable teacher."""


class CheckpointError(UserError):
    """A work directory holds another run, or a checkpoint that cannot be read."""
