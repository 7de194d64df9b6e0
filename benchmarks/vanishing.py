"""Fig. 5: what vanishes in a deep net? python -m benchmarks.vanishing [--scale small|paper]

Activity, weight gradients and displacement by nudging for each layer at three epochs, without
signals, with local errors and distilled; and whether T_free = 1000 and T_nudge = 400 save the net
without signals (appendix A of the paper).
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from benchmarks import nets, runs, systems, vanishing_report
from jaxep.core import theory as diagnostics
from jaxep.training.tasks import build_estimator

SIGNALS = ("STD", "LE", "KD")
QUANTITIES = ("activity", "gradient", "displacement")
LONG = {"t_free": 1000, "t_nudge": 400}


@dataclasses.dataclass(frozen=True)
class Scale:
    """The net by signal; what is shortened where phases are long; images of the report."""

    net: dict[str, runs.Run]
    brief: dict[str, Any]
    long: dict[str, Any]
    images: int


_PAPER_13 = {
    "STD": runs.Run("vgg13_std"),
    "LE": runs.Run("vgg13_le"),
    "KD": runs.Run("vgg12_kd"),
}
_BRIEF = {"train_size": 500, "test_size": 100, "epochs": 6}
SCALES = {
    "tiny": Scale(
        {signal: runs.shrink(nets.DIGITS_5[signal]) for signal in SIGNALS},
        {"epochs": 2},
        {"t_free": 6, "t_nudge": 4},
        10,
    ),
    "small": Scale(nets.DIGITS_11, _BRIEF, LONG, 50),
    "paper": Scale(_PAPER_13, {"epochs": 25}, LONG, 50),
}


def specs(scale: str) -> dict[str, runs.Run]:
    """All runs: each signal in full, and briefly with the config's phases and with long ones."""
    chosen = SCALES[scale]
    brief = chosen.net["STD"].but(**chosen.brief)
    return {
        **{signal: chosen.net[signal] for signal in SIGNALS},
        "STD, brief": brief,
        "STD, brief, long phases": brief.but(**chosen.long),
        "LE, brief": chosen.net["LE"].but(**chosen.brief),
    }


def three_epochs(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Layer names, and for the ends of each third of a run the quantities by layer."""
    last = max(row["epoch"] for row in rows)
    epochs = sorted({max(last * third // 3, 1) for third in (1, 2, 3)})
    found: dict[str, Any] = {"layers": [row["layer"] for row in rows if row["epoch"] == last]}
    for epoch in epochs:
        mine = [row for row in rows if row["epoch"] == epoch]
        found[f"epoch {epoch}"] = {q: [row[q] for row in mine] for q in QUANTITIES}
    return found


def at_the_start(run: runs.Run, images: int) -> dict[str, list[float | None]]:
    """The quantities by layer with the initial weights, by the estimator of the run's settings."""
    mine = systems.system(run)
    value_and_grad = jax.jit(build_estimator(mine.settings).value_and_grad(mine.model))
    params = mine.initial()
    _, grads, aux = value_and_grad(params, mine.batch(images), jax.random.key(0))
    report = diagnostics.layer_report(params, grads, aux)
    # A readout has neither activity nor displacement: JSON knows no nan.
    return {name: [None if np.isnan(v) else float(v) for v in report[name]] for name in QUANTITIES}


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains, measures, draws and prints."""
    options = runs.options("vanishing", __doc__, arguments)
    named = specs(options.scale)
    result: dict[str, Any] = {"runs": runs.train_all(options, named)}
    result["layers"] = {
        name: three_epochs(runs.layers_of(run, options.folder)) for name, run in named.items()
    }
    images = SCALES[options.scale].images
    compared = ("STD, brief", "STD, brief, long phases")
    result["start"] = {name: at_the_start(named[name], images) for name in compared}
    result["phases"] = {
        name: {key: getattr(runs.settings_of(run), key) for key in LONG}
        for name, run in named.items()
    }
    result = runs.keep(options, result)
    vanishing_report.draw(result, options.picture)
    print(vanishing_report.table(result))


if __name__ == "__main__":
    main()
