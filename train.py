"""Trains what a config file describes: python train.py --config configs/NAME.py [--workdir DIR].

Any key can be set as --config.key=value. The same command again goes on where the run stopped.
"""

import difflib
import logging
import os
import re
import sys
from pathlib import Path
from typing import Any, NoReturn

from absl import flags
from ml_collections import config_flags

from configs.base import get_config as get_base

CONFIG = config_flags.DEFINE_config_file("config", None, "Python file with get_config().")
WORKDIR = flags.DEFINE_string("workdir", None, "Where the run is kept; default runs/<name>.")


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


def prepare_jax() -> None:
    """Keeps compiled programs between runs, makes each CPU core a device, one thunk at a time.

    Only where the user's environment says nothing of it.
    """
    import jax

    flags_set = os.environ.get("XLA_FLAGS", "")
    if "JAX_NUM_CPU_DEVICES" not in os.environ and "device_count" not in flags_set:
        allowed = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))
        jax.config.update("jax_num_cpu_devices", len(allowed(0)))
    if "concurrency_optimized_scheduler" not in flags_set:
        # XLA:CPU would run independent operations of a core at once, which needs twice the memory
        # and gains nothing (benchmarks/results/memory.json).
        sequential = "--xla_cpu_enable_concurrency_optimized_scheduler=false"
        os.environ["XLA_FLAGS"] = f"{flags_set} {sequential}".strip()
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(Path(cache) / "jaxep"))


def main() -> None:
    """Flags in, `fit` called."""
    config = parse(sys.argv)
    from jaxep.errors import UserError  # after the flags: JAX takes seconds to import

    try:
        prepare_jax()
        from jaxep import settings, training

        checked = settings.from_config(config)
        training.fit(checked, WORKDIR.value or Path("runs") / checked.name)
    except UserError as error:
        stop(error)
    except KeyboardInterrupt:
        stop("interrupted; the same command goes on from the last checkpoint", 130)


if __name__ == "__main__":
    main()
