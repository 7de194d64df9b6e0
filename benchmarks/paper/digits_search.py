"""How the hyperparameters of the digits configs were found.

FILE holds a JSON list of [config, {key: value, ...}]; each is trained with `split = validation`, so
a fifth of the training part decides and the test fifth is never looked at. Every candidate is
appended to the result, the bad ones as well. (Its part "explored" is older and was made by other
code; it says so.)
"""

import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.shared import runs, show
from benchmarks.shared.results import Options, Result

ARGUMENTS = {"file": Path}


def score(config: str, changes: dict[str, Any]) -> dict[str, Any]:
    """Validation accuracy of one candidate: at the end, at best, and the curve."""
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in changes.items()}
    with tempfile.TemporaryDirectory() as folder:
        row = runs.train_run(runs.Run(config, {"split": "validation", **values}), Path(folder))
    return {
        "config": config,
        "changes": changes,
        "final": round(row["test_acc"][-1], 4),
        "best": round(max(row["test_acc"]), 4),
        "train_acc": round(row["train_acc"][-1], 4),
        "seconds": row["command_seconds"],
        "curve": [round(value, 3) for value in row["test_acc"]],
    }


def measure(options: Options) -> Result:
    """Trains the candidates of a file one after the other."""
    record: Result = {"candidates": [], **options.kept("legend", "explored", "candidates")}
    for config, changes in json.loads(options.own.file.read_text()):
        record["candidates"].append(score(config, changes))
        shown = {k: value for k, value in record["candidates"][-1].items() if k != "curve"}
        print(json.dumps(shown), flush=True)
        options.keep(record)
    return record


def table(result: Result) -> str:
    """By config, how many were tried and what the best reached."""
    found: dict[str, list[float]] = {}
    for row in result["candidates"]:
        found.setdefault(row["config"], []).append(100 * row["final"])
    rows = [
        [config, len(reached), f"{max(reached):.1f}"] for config, reached in sorted(found.items())
    ]
    return show.markdown(["config", "candidates", "best on the validation split, %"], rows)
