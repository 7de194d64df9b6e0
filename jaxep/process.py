"""The process that a command runs in: its signals, its streams, what JAX is told, and its end."""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import jax

from jaxep.run import console
from jaxep.run.errors import SettingsError, reason


class Signals:
    """Ctrl-C, SIGTERM and SIGHUP, noted for `fit` to ask: a run stops between updates.

    A hang-up that the caller ignores, as nohup does, stays ignored.
    """

    def __init__(self) -> None:
        self.noted: int | None = None
        signal.signal(signal.SIGINT, self._note)
        signal.signal(signal.SIGTERM, self._note)
        hang_up = getattr(signal, "SIGHUP", None)  # Windows has none
        if hang_up is not None and signal.getsignal(hang_up) == signal.SIG_DFL:
            signal.signal(hang_up, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.noted is not None:
            return
        self.noted = number
        # By its descriptor: a signal may come within a print. Who reads stderr may have ended by
        # the same Ctrl-C, and what is raised here would be raised wherever the run is.
        with suppress(OSError):
            os.write(2, b"\nstopping: the updates under way are finished and saved\n")

    def __call__(self) -> bool:
        return self.noted is not None


@contextmanager
def sound_streams() -> Iterator[None]:
    """Keeps stdin, stdout and stderr from ending a program that does not depend on them.

    A descriptor that is closed leads to the null device: the next file that is opened would get its
    number, and what libraries write to stderr. At the end what cannot be written is dropped:
    Python's own end would change the exit status for it.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it takes the lowest number that is free
        if getattr(sys, name) is None:
            stream = open(number, mode, closefd=False, errors="backslashreplace")  # noqa: SIM115
            setattr(sys, name, stream)
    try:
        yield
    finally:
        for number, stream in ((1, sys.stdout), (2, sys.stderr)):
            try:
                stream.flush()
            except (OSError, ValueError):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, number)
                os.close(null)


def hear_one_writer() -> None:
    """Report only the first error of a failed save, the one that orbax raises.

    Its other writers fail too, or find their event loop closed, and would print a traceback each.
    """

    def report(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            sys.__unraisablehook__(unraisable)

    sys.unraisablehook = report
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)


def prepare_jax() -> None:
    """Keeps compiled programs between runs, multiplies in float32, makes each CPU core a device.

    Only where the user's environment says nothing of it.
    """
    set_flags = os.environ.get("XLA_FLAGS", "")
    if "JAX_NUM_CPU_DEVICES" not in os.environ and "device_count" not in set_flags:
        _use_every_core()
    if "concurrency_optimized_scheduler" not in set_flags:
        # XLA:CPU would run independent operations of a core at once: a training step of VGG-7 then
        # took twice the memory (684 MB, not 340) and 5 % more time.
        sequential = "--xla_cpu_enable_concurrency_optimized_scheduler=false"
        os.environ["XLA_FLAGS"] = f"{set_flags} {sequential}".strip()
    if "JAX_DEFAULT_MATMUL_PRECISION" not in os.environ:
        # GPUs and TPUs round the factors of a float32 product by default (to TensorFloat-32 and
        # bfloat16), and EP divides small differences of such by β: `benchmarks precision`.
        jax.config.update("jax_default_matmul_precision", "highest")
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ and (cache := _cache_directory()):
        jax.config.update("jax_compilation_cache_dir", str(cache))


def _use_every_core() -> None:
    allowed = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))
    try:
        jax.config.update("jax_num_cpu_devices", len(allowed(0)))
    except RuntimeError:  # JAX has begun: its devices cannot be changed
        count = jax.local_device_count()
        console.warn(
            f"JAX was used before this run began: it goes on with the {count} devices there"
        )


def _cache_directory() -> Path | None:
    """Where compiled programs are kept; None where this user has no place that can be written."""
    try:
        place = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        directory = Path(place) / "jaxep"
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            return directory
    except (OSError, RuntimeError):  # the second: no HOME, and a user without a name
        return None


def check_devices() -> None:
    """Refuses a platform without devices in one sentence; JAX does it by an assertion.

    Raises:
      SettingsError: there are none.
    """
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        asked = os.environ.get("JAX_PLATFORMS") or jax.config.read("jax_platforms")
        why = f" ({reason(error)})" if str(error) else ""
        raise SettingsError(
            f"JAX_PLATFORMS = {asked}: there is no such device here{why}"
        ) from error


def end(message: object, status: int = 2) -> NoReturn:
    """Ends the program with one line on stderr."""
    _complain(message)
    sys.exit(status)


def leave(message: object, status: int) -> NoReturn:
    """Ends one of several processes with one line, at once: an orderly end would wait for all."""
    _complain(message)
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    os._exit(status)


@contextmanager
def leaving_after(seconds: float, message: str, status: int) -> Iterator[None]:
    """Leaves with a line where what is done within takes longer than `seconds`."""
    timer = threading.Timer(seconds, leave, (message, status))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _complain(message: object) -> None:
    console.tell(f"error: {' '.join(str(message).split())}", sys.stderr)
