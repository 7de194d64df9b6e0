"""jaxep train --config NAME [--workdir DIR] [--config.key=value ...]

trains what a config describes: a file with get_config(), the config.json of a run, or the name of
an experiment, as digits_le. Any key can be set. The same command again goes on where the run
stopped, be it by kill -9. On many hosts, on each of them, with the number of the host from 0:
... --coordinator HOST0:PORT --process_id I --num_processes N (or --coordinator auto in a cluster
that JAX detects). configs/base.py explains every key. python train.py ... is the same as
jaxep train ...
"""

import re
import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from jaxep import meeting, process
from jaxep.commands.options import Options, parse
from jaxep.process import end, leave, prepare_jax
from jaxep.run.errors import Interrupted, PeerError, SettingsError, UserError, reason
from jaxep.training import loop, parallel, settings


def train(words: Sequence[str]) -> None:
    """`jaxep train`: flags in, `fit` called.

    Args:
        words: after the command's name.
    """
    noted = process.Signals()
    process.hear_one_writer()
    ending: Callable[[object, int], NoReturn] = end
    try:
        # Before the config file is run: it may ask JAX for its devices.
        prepare_jax()
        options = parse(words)
        # Before any use of a device, which the check of a network may be.
        ending = leave if _join_others(options, noted) else end
        process.check_devices()
        checked = settings.from_config(options.config)
        loop.fit(checked, options.workdir or Path("runs") / checked.name, noted)
    except UserError as error:
        ending(error, error.status)
    except Interrupted as error:
        number = noted.noted or signal.SIGTERM  # of another process of this run
        command = shlex.join(sys.orig_argv)
        ending(f"{signal.Signals(number).name}: {error}; to go on: {command}", 128 + number)
    except Exception as error:
        if "RESOURCE_EXHAUSTED" in str(error) or isinstance(error, MemoryError):
            text = f"smaller batch_size, eval_batch_size or net ({reason(error)})"
            ending(f"out of memory: {text}", 2)
        if ending is end:
            raise
        # Without a word of its own the others would wait for this process.
        if not parallel.is_lost_peer(error):
            traceback.print_exc()
            leave(f"{type(error).__name__}, see above", 1)
        leave(f"another process of the run is gone ({reason(error)}); start all again to go on", 4)


def _join_others(options: Options, stop: Callable[[], bool]) -> bool:
    """Whether this process is one of several, as the flags say; they are brought together then."""
    coordinator, number, count = options[2:]
    if coordinator is number is count is None:
        return False
    automatic = coordinator == "auto" and number is count is None
    if not automatic:
        if coordinator is None or number is None or count is None:
            raise SettingsError(
                "--coordinator, --process_id and --num_processes: all three, or --coordinator auto"
            )
        if not re.fullmatch(r".+:\d+", coordinator):
            raise SettingsError(f"--coordinator {coordinator}: must be HOST:PORT or auto")
        if number >= count:
            raise SettingsError(f"--process_id {number}: must be under --num_processes {count}")
        meeting.meet(coordinator, number, count, stop=stop)
    late = f"--coordinator {coordinator}: the processes do not find each other in JAX"
    # JAX gives up by an abort of the interpreter.
    with process.leaving_after(parallel.START_SECONDS - 10, late, PeerError.status):
        parallel.join(coordinator or "auto", number, count)
    return True
