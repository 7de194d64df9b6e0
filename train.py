"""Trains what a config file describes: python train.py --config configs/NAME.py [--workdir DIR].

Any key can be set as --config.key=value. The same command again goes on where the run stopped.
"""

import os
import sys
from pathlib import Path
from typing import Any, NoReturn

from absl import flags
from ml_collections import config_flags

CONFIG = config_flags.DEFINE_config_file("config", None, "Python file with get_config().")
WORKDIR = flags.DEFINE_string("workdir", None, "Where the run is kept; default runs/<name>.")


def stop(message: object, status: int = 2) -> NoReturn:
    """Ends the program with one line on stderr."""
    print(f"error: {' '.join(str(message).split())}", file=sys.stderr)
    sys.exit(status)


def parse(arguments: list[str]) -> dict[str, Any]:
    """Reads the flags into the config's keys; a bad one is the user's error, not a traceback."""
    try:
        rest = flags.FLAGS(arguments)
        # A file that could not be loaded says so only when it is looked at.
        config = None if CONFIG.value is None else CONFIG.value.to_dict()
    except flags.Error as error:
        stop(error)
    except (AttributeError, KeyError, TypeError, ValueError, OSError, SyntaxError) as error:
        # ml_collections raises these for keys, values and files that do not fit.
        stop(f"{error.args[0] if error.args else error} (--config and its overrides)")
    if len(rest) > 1:
        stop(f"unknown argument {rest[1]!r}: flags only, as in --config.key=value")
    if config is None:
        stop("--config is missing: it must name a file of configs/, e.g. configs/digits_le.py")
    return config


def keep_compilations() -> None:
    """Lets XLA keep compiled programs between runs, where the user's environment says nothing."""
    import jax

    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(Path(cache) / "jaxep"))


def main() -> None:
    """Flags in, `fit` called."""
    config = parse(sys.argv)
    from jaxep.errors import UserError  # after the flags: JAX takes seconds to import

    keep_compilations()
    try:
        from jaxep.settings import from_config
        from jaxep.training import fit

        settings = from_config(config)
        fit(settings, WORKDIR.value or Path("runs") / settings.name)
    except UserError as error:
        stop(error)
    except KeyboardInterrupt:
        stop("interrupted; the same command goes on from the last checkpoint", 130)


if __name__ == "__main__":
    main()
