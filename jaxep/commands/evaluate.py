"""jaxep evaluate RUN [--last] [--json FILE]

prints test loss and accuracy of the run in the folder RUN, and the accuracy in each class, with
the weights of the epoch that was best on the test images, or with --last the last ones; --json
writes the same there. Nothing is written in RUN. On the command line as in Python:
jaxep.load_run(RUN).evaluate().
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxep.commands.options import Parser, can_be_file
from jaxep.commands.trained import Trained, load
from jaxep.run import console
from jaxep.run.errors import SettingsError, reason
from jaxep.run.files import write_atomically


def evaluate(words: Sequence[str]) -> None:
    """`jaxep evaluate`.

    Args:
        words: after the command's name.
    """
    parser = Parser("evaluate")
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("--last", action="store_true")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args(words)
    if options.json:
        can_be_file("--json", options.json)
    trained = load(options.run, options.last)
    found = judged(trained)
    console.say(f"{trained.folder}: {trained.weights}")
    console.say(
        f"{found['images']} test images: loss {found['loss']:.4f}, "
        f"accuracy {100 * found['accuracy']:.2f} %"
    )
    for number, own in enumerate(found["classes"]):
        share = "-" if own["accuracy"] is None else f"{100 * own['accuracy']:.2f} %"
        console.say(f"class {number:<4d} {own['images']:6d} images  {share:>8}")
    if options.json:
        try:
            write_atomically(options.json, json.dumps(found, indent=2) + "\n")
        except OSError as error:
            problem = f"--json {options.json}: it cannot be written ({reason(error)})"
            raise SettingsError(problem) from error


def judged(trained: Trained) -> dict[str, Any]:
    """Loss and accuracy over the test images, whole and by class, as JSON values.

    They are those of metrics.csv, up to rounding.
    """
    run, (images, labels) = trained.run, (np.asarray(part) for part in trained.data.test)
    losses, correct = (np.asarray(part) for part in run.judge(images, labels))
    of_class = [correct[labels == number] for number in range(trained.data.num_classes)]
    return {
        "run": str(trained.folder),
        "weights": "best" if trained.best else "last",
        "update": run.step,
        "epoch": run.step // trained.updates_per_epoch,
        "images": len(labels),
        "loss": float(losses.mean()),
        "accuracy": float(correct.mean()),
        "classes": [
            {"images": len(own), "accuracy": float(own.mean()) if len(own) else None}
            for own in of_class
        ],
    }
