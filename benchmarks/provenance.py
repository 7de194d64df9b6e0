"""Where results go, and what every one of them says about its origin."""

import json
import math
from pathlib import Path
from typing import Any

from jaxep.run.provenance import provenance
from jaxep.run.reporting import write_atomically

RESULTS = Path(__file__).parent / "results"


def plain(value: Any) -> Any:
    """The value with None for every nan and infinity, which JSON does not know."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def save(name: str, result: dict[str, Any], folder: Path = RESULTS) -> Path:
    """Writes NAME.json in `folder` with device, versions and commit, and returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    text = json.dumps(plain({**result, **provenance()}), indent=1, allow_nan=False) + "\n"
    write_atomically(path, text)
    return path


def load(name: str, folder: Path = RESULTS) -> dict[str, Any]:
    """What NAME.json in `folder` holds; {} where there is none."""
    path = folder / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}
