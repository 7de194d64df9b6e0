"""What the pictures of a run say of it, out of its config.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

# The solvers whose phases have so many sweeps and no tolerance.
FIXED = ("fixed", "event_driven")


class About(NamedTuple):
    """What a picture needs to know of a run.

    Attributes:
        title: its name and what it is, in a line.
        augmented: whether the images that it is trained on are changed at random.
        tolerances: relative residual at which a phase stops, by the column of its residual.
    """

    title: str = ""
    augmented: bool = False
    tolerances: Mapping[str, float] = {}


def about(config: Mapping[str, Any]) -> About:
    """What a run's config says; a key that is not there is passed over."""
    hidden = " ".join(str(units) for units in config.get("hidden") or ())
    layers = " + ".join(part for part in (str(config.get("conv") or ""), hidden) if part)
    trained = [config.get("task"), f"seed {config.get('seed')}"]
    if trained[0] == "ep":
        how = " ".join(str(config.get(key)) for key in ("system", "estimator"))
        signal = f"signal {config.get('signal')}"
        trained = [how, signal, f"β {config.get('beta')}", trained[1]]
    what = ", ".join(str(part) for part in (config.get("dataset"), layers, *trained) if part)
    stops = config.get("task") != "teacher" and config.get("solver") not in FIXED
    columns = {"free_residual": "tol_free", "nudge_residual": "tol_nudge"}
    found = {column: config.get(key) for column, key in columns.items()} if stops else {}
    tolerances = {column: float(value) for column, value in found.items() if value}
    return About(f"{config.get('name', 'run')}: {what}", bool(config.get("augment")), tolerances)
