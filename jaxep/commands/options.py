"""Words of the command line as settings: --config, what overrides it, and refusals in one line."""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from absl import flags
from ml_collections import ConfigDict, FieldReference, config_flags

from jaxep import configs
from jaxep.run.errors import SettingsError, did_you_mean


class Parser(argparse.ArgumentParser):
    """Flags of a command that takes no config; its help is the docstring of the command's file."""

    def __init__(self, command: str) -> None:
        super().__init__(f"jaxep {command}", add_help=False, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Refuse the words, see `jaxep.cli`.

        Raises:
            SettingsError: with `message`.
        """
        raise SettingsError(f"{message} ({self.prog} --help tells all)")


def can_be_file(flag: str, name: str) -> None:
    """Refuses a file that cannot be written because of where it is, before anything is computed.

    Raises:
        SettingsError: its folder is missing, or it is a folder.
    """
    path = Path(name)
    if path.is_dir():
        raise SettingsError(f"{flag} {name}: must be a file, is a folder")
    if not path.parent.is_dir():
        raise SettingsError(f"{flag} {name}: there is no folder {path.parent}")


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
            raise SettingsError(f"{word}: no such key{did_you_mean(match[1], keys)}")
