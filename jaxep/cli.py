"""Trains what a config file describes: python train.py --config configs/NAME.py [--workdir DIR].

Any key can be set as --config.key=value. The same command again goes on where the run stopped, be
it by kill -9. On many hosts, on each of them, with the number of the host from 0:
... --coordinator HOST0:PORT --process_id I --num_processes N (or --coordinator auto in a cluster
that JAX detects).
"""

import difflib
import logging
import os
import re
import shlex
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from absl import flags
from ml_collections import config_flags

from configs.base import get_config as get_base

CONFIG = config_flags.DEFINE_config_file("config", None, "Python file with get_config().")
WORKDIR = flags.DEFINE_string("workdir", None, "Where the run is kept; default runs/<name>.")
COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, or auto.")
PROCESS_ID = flags.DEFINE_integer("process_id", None, "Number of this process, from 0.", 0)
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Processes of the run.", 1)


class Signals:
    """Ctrl-C and SIGTERM, noted for `fit` to ask: a run stops between updates, never in a save."""

    def __init__(self) -> None:
        self.noted: int | None = None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        # By its descriptor: a signal may come within a print.
        if self.noted is None:
            os.write(2, b"\nstopping: the updates under way are finished and saved\n")
        self.noted = self.noted or number

    def __call__(self) -> bool:
        return self.noted is not None


def stop(message: object, status: int = 2) -> NoReturn:
    """Ends the program with one line on stderr."""
    print(f"error: {' '.join(str(message).split())}", file=sys.stderr)
    sys.exit(status)


def parse(arguments: list[str]) -> dict[str, Any]:
    """Reads the flags into the config's keys; a bad one is the user's error, not a traceback."""
    if {"--help", "-h", "-help"} & set(arguments):
        print(f"{__doc__}\nconfigs/base.py explains every key.")
        sys.exit(0)
    for argument in arguments:  # ml_collections raises a bare KeyError of an unknown key
        match = re.match(r"--?(?:no)?config\.([^=]*)", argument)
        if match and match[1] not in (keys := list(get_base())):
            near = difflib.get_close_matches(match[1], keys, 1)
            stop(f"{argument}: no such key{f'; did you mean {near[0]}?' if near else ''}")
    logging.disable(logging.WARNING)  # absl's, of a get_config() that returns nothing
    try:
        rest = flags.FLAGS(arguments)
        config = CONFIG.value and CONFIG.value.to_dict()  # a file not loaded raises only here
    except Exception as error:  # nothing runs here but the flags and the user's config file
        last = (str(error).splitlines() or [""])[-1]
        of_a_flag = isinstance(error, flags.Error) and "Traceback" not in str(error)
        stop(last if of_a_flag else f"the file of --config: {type(error).__name__}: {last}")
    logging.disable(logging.NOTSET)
    if len(rest) > 1:
        stop(f"unknown argument {rest[1]!r}: flags only, as in --config.key=value")
    if config is None:
        stop("--config is missing, or its get_config() returns nothing: see configs/digits_le.py")
    return config


def hear_one_writer() -> None:
    """Of a save that fails only the first error is told, the one that orbax raises.

    Its other writers fail too, or find their event loop closed, and would print a traceback each.
    """

    def told(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            sys.__unraisablehook__(unraisable)

    sys.unraisablehook = told
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)


def prepare_jax() -> None:
    """Keeps compiled programs between runs, multiplies in float32, makes each CPU core a device.

    Only where the user's environment says nothing of it.
    """
    import jax

    flags_set = os.environ.get("XLA_FLAGS", "")
    if "JAX_NUM_CPU_DEVICES" not in os.environ and "device_count" not in flags_set:
        allowed = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))
        jax.config.update("jax_num_cpu_devices", len(allowed(0)))
    if "concurrency_optimized_scheduler" not in flags_set:
        # XLA:CPU would run independent operations of a core at once: a training step of VGG-7 then
        # took twice the memory (684 MB, not 340) and 5 % more time.
        sequential = "--xla_cpu_enable_concurrency_optimized_scheduler=false"
        os.environ["XLA_FLAGS"] = f"{flags_set} {sequential}".strip()
    if "JAX_DEFAULT_MATMUL_PRECISION" not in os.environ:
        # GPUs and TPUs round the factors of a float32 product by default (to TensorFloat-32 and
        # bfloat16), and EP divides small differences of such by β: benchmarks.precision.
        jax.config.update("jax_default_matmul_precision", "highest")
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(Path(cache) / "jaxep"))


def join_others() -> bool:
    """Whether this process is one of several, as the flags say; they are brought together then."""
    coordinator, process, processes = COORDINATOR.value, PROCESS_ID.value, NUM_PROCESSES.value
    if coordinator is process is processes is None:
        return False
    from jaxep.training import parallel

    if coordinator == "auto" and process is processes is None:
        parallel.join(coordinator, None, None)
        return True
    if coordinator is None or process is None or processes is None:
        stop("--coordinator, --process_id and --num_processes: all three, or --coordinator auto")
    if not re.fullmatch(r".+:\d+", coordinator):
        stop(f"--coordinator {coordinator}: must be HOST:PORT or auto")
    if process >= processes:
        stop(f"--process_id {process}: must be under --num_processes {processes}")
    parallel.join(coordinator, process, processes)
    return True


def leave(message: object, status: int) -> NoReturn:
    """Ends one of several processes with one line, at once: an orderly end would wait for all."""
    print(f"error: {' '.join(str(message).split())}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(status)


def main() -> None:
    """Flags in, `fit` called."""
    config = parse(sys.argv)
    noted = Signals()
    hear_one_writer()
    # After the flags: JAX takes seconds to import.
    from jaxep.run.errors import Interrupted, UserError, reason
    from jaxep.training import loop as training
    from jaxep.training import parallel, settings

    end: Callable[[object, int], NoReturn] = stop
    try:
        checked = settings.from_config(config)
        prepare_jax()
        end = leave if join_others() else stop
        training.fit(checked, WORKDIR.value or Path("runs") / checked.name, noted)
    except UserError as error:
        end(error, error.status)
    except Interrupted as error:
        number = noted.noted or signal.SIGTERM  # of another process of this run
        command = shlex.join(sys.orig_argv)
        end(f"{signal.Signals(number).name}: {error}; to go on: {command}", 128 + number)
    except Exception as error:
        if "RESOURCE_EXHAUSTED" in str(error) or isinstance(error, MemoryError):
            end(f"out of memory: smaller batch_size, eval_batch_size or net ({reason(error)})", 2)
        if end is stop:
            raise
        # Without a word of its own the others would wait for this process.
        if not parallel.is_lost_peer(error):
            traceback.print_exc()
            leave(f"{type(error).__name__}, see above", 1)
        leave(f"another process of the run is gone ({reason(error)}); start all again to go on", 4)


if __name__ == "__main__":
    main()
