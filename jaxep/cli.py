"""jaxep COMMAND ...: what the command line does.

jaxep train --config NAME [--workdir DIR] [--config.key=value ...]

trains what a config describes: a file with get_config(), the config.json of a run, or the name of
an experiment, as digits_le. Any key can be set. The same command again goes on where the run
stopped, be it by kill -9. On many hosts, on each of them, with the number of the host from 0:
... --coordinator HOST0:PORT --process_id I --num_processes N (or --coordinator auto in a cluster
that JAX detects). configs/base.py explains every key. python train.py ... is the same as
jaxep train ...
"""

import difflib
import re
import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from absl import flags
from ml_collections import ConfigDict, FieldReference, config_flags

from jaxep import configs, meeting, process
from jaxep.process import end, leave, prepare_jax
from jaxep.run import console
from jaxep.run.errors import Interrupted, PeerError, SettingsError, UserError, reason
from jaxep.training import loop, parallel, settings

HELP = {"--help", "-h", "-help"}


class Options(NamedTuple):
    """What the words of `jaxep train` say.

    Attributes:
        config: every key and its value.
        workdir: where the run is kept; None: runs/<name>.
        coordinator: HOST:PORT of process 0, or auto; None: this process is alone.
        process_id: number of this process, from 0.
        num_processes: processes of the run.
    """

    config: dict[str, Any]
    workdir: str | None
    coordinator: str | None
    process_id: int | None
    num_processes: int | None


def parse(words: Sequence[str]) -> Options:
    """Reads the flags of `jaxep train`.

    Args:
        words: after the command's name.

    Raises:
        SettingsError: a flag or the config file is bad.
    """
    values = flags.FlagValues()
    values.append_flag_values(flags.FLAGS)  # absl's own, as --verbosity
    flags.DEFINE_string("workdir", None, "Where it is kept.", flag_values=values)
    flags.DEFINE_string("coordinator", None, "HOST:PORT or auto.", flag_values=values)
    flags.DEFINE_integer("process_id", None, "From 0.", 0, flag_values=values)
    flags.DEFINE_integer("num_processes", None, "Of the run.", 1, flag_values=values)
    try:
        name, words = _take_config(values.read_flags_from_files(list(words), force_gnu=False))
        config = _open_to_any_value(configs.load(name))
        _check_keys(words, list(config))
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=words)
        for key in config:
            if (flag := f"config.{key}") in values and not isinstance(config[key], bool):
                values[flag].boolean = False  # "--config.hidden (8,)" is a key and its value
        rest = values(["jaxep", *words])
    except (flags.Error, ValueError, TypeError, KeyError) as error:
        text = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise SettingsError(text.removeprefix("ERROR:: ")) from error
    if len(rest) > 1:
        raise SettingsError(f"unknown argument {rest[1]!r}: flags only, as in --config.key=value")
    places = (values[name].value for name in Options._fields[1:])
    # The overrides have been written into it.
    return Options(config.to_dict(), *places)


def _take_config(words: Sequence[str]) -> tuple[str, list[str]]:
    """The value of --config, the last one where there are several, and all other words."""
    name, rest, ahead = None, [], iter(words)
    for word in ahead:
        match = re.fullmatch(r"--?config(?:=(.*))?", word, re.DOTALL)
        if match is None:
            rest.append(word)
        elif (name := match[1] if match[1] is not None else next(ahead, None)) is None:
            raise SettingsError("--config: it needs a value, as --config digits_le")
    if not name:
        raise SettingsError("--config is missing, as in --config digits_le")
    return name, rest


def _open_to_any_value(config: ConfigDict) -> ConfigDict:
    """The same keys, where those that are not of a plain number, text or truth take any literal.

    ml_collections adds up the tuples that the command line gives for a tuple, and knows no list and
    no number of numpy.
    """
    opened = ConfigDict()
    for key, value in config.items():
        plain = config.get_type(key) in (bool, int, float, str)
        opened[key] = value if plain else FieldReference(value, field_type=object)
    return opened


def _check_keys(words: Sequence[str], keys: Sequence[str]) -> None:
    for word in words:  # ml_collections raises a bare KeyError of an unknown key
        match = re.match(r"--?(?:no)?config\.([^=]*)", word)
        if match and match[1] not in keys:
            near = difflib.get_close_matches(match[1], keys, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise SettingsError(f"{word}: no such key{hint}")


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


COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {"train": train}


def main(words: Sequence[str] | None = None) -> None:
    """Runs a command.

    Args:
        words: of the command line after the program's name; None: those of this process.
    """
    words = list(sys.argv[1:] if words is None else words)
    with process.sound_streams():
        if not words or HELP & set(words):
            console.say(__doc__)
            return
        if words[0] not in COMMANDS:
            near = difflib.get_close_matches(words[0], COMMANDS, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            end(f"{words[0]}: must be one of {', '.join(COMMANDS)}{hint}")
        COMMANDS[words[0]](words[1:])


if __name__ == "__main__":
    main()
