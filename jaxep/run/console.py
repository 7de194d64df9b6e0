"""What a run says on stdout and stderr: a line that cannot be written never costs the run.

A reader may leave (`| head`), a disk may be full, a stream may be closed or absent.
"""

import sys
from typing import TextIO


def say(line: str) -> OSError | None:
    """Prints a line on stdout at once; returns why it could not be written, where it could not."""
    return tell(line, sys.stdout)


def warn(text: str) -> None:
    """Prints "warning: ..." on stderr."""
    tell(f"warning: {text}", sys.stderr)


def hint(line: str) -> None:
    """Prints a line on stderr where that is a terminal: for who waits, and in no log."""
    if sys.stderr is not None and sys.stderr.isatty():
        tell(line, sys.stderr)


def tell(line: str, stream: TextIO | None) -> OSError | None:
    """Prints a line on a stream; returns why it could not be written, where it could not.

    Args:
        line: text without its end of line; what the stream cannot encode is shown as \\u....
        stream: None, as Python has it for a descriptor that was closed, takes nothing.
    """
    if stream is None:
        return None
    try:
        encoding = getattr(stream, "encoding", None) or "utf-8"
        line = line.encode(encoding, "backslashreplace").decode(encoding)
        print(line, file=stream, flush=True)
    except OSError as error:
        return error
    except ValueError:  # a file object that was closed
        return None
    return None
