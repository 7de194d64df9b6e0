"""Which checkpoints of a run are kept: the last ones and the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


class LatestAndBest:
    """Orbax preservation policy: the last `keep` steps and the best one."""

    def __init__(self, keep: int, accuracy: Mapping[int, float]) -> None:
        self._keep, self._accuracy = keep, accuracy

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        steps = [checkpoint.step for checkpoint in checkpoints]
        kept = {*sorted(steps)[-self._keep :], best_of(steps, self._accuracy)}
        return [step in kept for step in steps]


def best_of(steps: Sequence[int], accuracy: Mapping[int, float]) -> int | None:
    """The step with the highest accuracy (the earliest of equals), or None where none has one."""
    ranked = [(accuracy[step], -step) for step in steps if accuracy.get(step, -np.inf) > -np.inf]
    return -max(ranked)[1] if ranked else None


def accuracy_of(metadata: Mapping[str, Any]) -> float:
    """The accuracy that ranks a checkpoint, -inf where it has none."""
    value = metadata.get("test_acc")
    return -np.inf if value is None or np.isnan(value) else float(value)
