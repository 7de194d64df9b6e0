"""How the hyperparameters of the digits configs were found: python -m benchmarks.digits_search FILE

FILE holds a JSON list of [config, {key: value, ...}]; each is trained with `split = validation`, so
a fifth of the training part decides and the test fifth is never looked at. Every candidate is
appended to results/digits_search.json, the bad ones as well. (Its part "explored" is older and was
made by other code; it says so.)
"""

import contextlib
import io
import json
import sys
import tempfile
import time

from benchmarks.provenance import load, save
from jaxep.run.reporting import read_metrics
from jaxep.training.loop import fit
from jaxep.training.settings import from_config, load_config_file


def score(name: str, changes: dict) -> dict:
    """Validation accuracy of one candidate: at the end, at best, and the curve."""
    config = load_config_file(f"configs/{name}.py")
    config.split = "validation"
    for key, value in changes.items():
        config[key] = tuple(value) if isinstance(value, list) else value
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as workdir, contextlib.redirect_stdout(io.StringIO()):
        fit(from_config(config), workdir)
        metrics = read_metrics(f"{workdir}/metrics.csv")
    return {
        "config": name,
        "changes": changes,
        "final": round(metrics["test_acc"][-1], 4),
        "best": round(max(metrics["test_acc"]), 4),
        "train_acc": round(metrics["train_acc"][-1], 4),
        "seconds": round(time.perf_counter() - began, 1),
        "curve": [round(value, 3) for value in metrics["test_acc"]],
    }


def main() -> None:
    """Trains the candidates of a file one after the other."""
    record = load("digits_search")
    results = record.setdefault("candidates", [])
    with open(sys.argv[1]) as file:
        candidates = json.load(file)
    for name, changes in candidates:
        results.append(score(name, changes))
        shown = {key: value for key, value in results[-1].items() if key != "curve"}
        print(json.dumps(shown), flush=True)
        save("digits_search", record)


if __name__ == "__main__":
    main()
