"""Training runs: `fit` and its `Settings`, data of one's own, and a trained run to look at.

The names are imported when they are first used: the loop takes seconds to import.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxep.run.errors import (
        CheckpointError,
        DataError,
        DivergenceError,
        Interrupted,
        SettingsError,
        UserError,
    )
    from jaxep.training.data import Dataset, from_arrays
    from jaxep.training.loop import fit
    from jaxep.training.runs import Run, load_run
    from jaxep.training.settings import Settings, from_config, load_config_file
    from jaxep.training.workdata import load_data

__all__ = [
    "CheckpointError",
    "DataError",
    "Dataset",
    "DivergenceError",
    "Interrupted",
    "Run",
    "Settings",
    "SettingsError",
    "UserError",
    "fit",
    "from_arrays",
    "from_config",
    "load_config_file",
    "load_data",
    "load_run",
]
_PLACES = {
    "Dataset": "data",
    "Run": "runs",
    "Settings": "settings",
    "fit": "loop",
    "from_arrays": "data",
    "from_config": "settings",
    "load_config_file": "settings",
    "load_data": "workdata",
    "load_run": "runs",
}

_ERRORS = set(__all__) - set(_PLACES)


def __getattr__(name: str) -> Any:
    if name in _ERRORS:
        return getattr(importlib.import_module("jaxep.run.errors"), name)
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
