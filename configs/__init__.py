"""The experiments: base.py explains every key, each other file changes some of them."""

import difflib
import errno
import importlib.util
import json
import os
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

HERE = Path(__file__).parent


def names() -> list[str]:
    """The experiments of this package, as `load` takes them."""
    return sorted(path.stem for path in HERE.glob("*.py") if path.stem != "__init__")


def find(name: str) -> Path:
    """The file that `name` means.

    Args:
      name: of a file, or of one of these experiments where there is no such file: "digits_le" and
        "configs/digits_le.py" serve in any directory.

    Raises:
      ValueError: there is none; a sentence.
    """
    given = Path(name).expanduser()
    if given.is_file():
        return given
    inner = name.removeprefix("configs/").removesuffix(".py")
    if inner in names():
        return HERE / f"{inner}.py"
    problem = os.strerror(errno.EISDIR if given.is_dir() else errno.ENOENT)
    near = difflib.get_close_matches(given.stem, names(), 1)
    raise ValueError(f"{name}: {problem}{f'; did you mean {near[0]}?' if near else ''}")


def load(name: str) -> ConfigDict:
    """The keys of a configuration.

    Args:
      name: as of `find`: a Python file with get_config(), or the config.json of a run. A text
        after a colon, "file.py:text", is the argument of get_config().

    Raises:
      ValueError: there is no such file, it cannot be run, or it gives no ConfigDict; a sentence.
    """
    name, argument = _with_argument(name)
    file = find(name)
    try:
        config = _read_json(file) if file.suffix == ".json" else _run(file, *argument)
    except (Exception, SystemExit) as error:  # whatever the user's file raises is about that file
        first = (str(error).strip().splitlines() or [""])[0]
        raise ValueError(f"{name}: {type(error).__name__}: {first}") from error
    if not isinstance(config, ConfigDict):
        kind = "nothing" if config is None else type(config).__name__
        raise ValueError(f"{name}: its get_config() returns {kind}, must return a ConfigDict")
    return config


def _with_argument(name: str) -> tuple[str, tuple[str, ...]]:
    before, colon, after = name.rpartition(":")
    if colon and before.endswith(".py") and not Path(name).exists():
        return before, (after,)
    return name, ()


def _read_json(file: Path) -> ConfigDict:
    # Of the types that base.py has: a list serves where it has a tuple.
    from jaxep.configs.base import get_config

    config = get_config()
    with config.unlocked():
        config.update(json.loads(file.read_text(encoding="utf-8")))
    return config


def _run(file: Path, *argument: str) -> Any:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise ValueError("must be a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(*argument)
