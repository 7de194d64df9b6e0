"""Fig. 5: what vanishes in a deep net?

Activity, weight gradients and displacement by nudging for each layer at three epochs, without
signals, with local errors and distilled; and whether T_free = 1000 and T_nudge = 400 save the net
without signals (appendix A of the paper).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks.shared import nets, runs, show, systems
from benchmarks.shared.results import Claim, Claims, Options, Result
from jaxep.nets.diagnostics import layer_report
from jaxep.training.dynamics import build_estimator

SIGNALS = ("STD", "LE", "KD")
LABELS = {
    "activity": "mean |ξ| per neuron",
    "gradient": "mean |∂w| per parameter",
    "displacement": "‖ξ$^β$ − ξ*‖ per sample",
}
SHORT, LONG = "STD, brief", "STD, brief, long phases"
LONG_PHASES = {"t_free": 1000, "t_nudge": 400}
Values = Sequence[float | None]


class Scale(NamedTuple):
    """The net by signal; what is shortened where phases are long; images of the report."""

    net: dict[str, runs.Run]
    brief: dict[str, Any]
    long: dict[str, Any]
    images: int


_TINY = {signal: runs.shrink(nets.DIGITS_5[signal]) for signal in SIGNALS}
_BRIEF = {"train_size": 500, "test_size": 100, "epochs": 6}
_PAPER_13 = {s: runs.Run(f"vgg{12 if s == 'KD' else 13}_{s.lower()}") for s in SIGNALS}
SCALES = {
    "tiny": Scale(_TINY, {"epochs": 2}, {"t_free": 6, "t_nudge": 4}, 10),
    "small": Scale(nets.DIGITS_11, _BRIEF, LONG_PHASES, 50),
    "paper": Scale(_PAPER_13, {"epochs": 25}, LONG_PHASES, 50),
}


def specs(scale: str) -> dict[str, runs.Run]:
    """All runs: each signal in full, and briefly with the config's phases and with long ones."""
    chosen = SCALES[scale]
    brief = chosen.net["STD"].but(**chosen.brief)
    return {
        **{signal: chosen.net[signal] for signal in SIGNALS},
        SHORT: brief,
        LONG: brief.but(**chosen.long),
        "LE, brief": chosen.net["LE"].but(**chosen.brief),
    }


def three_epochs(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Layer names, and for the ends of each third of a run the quantities by layer."""
    last = max(row["epoch"] for row in rows)
    epochs = sorted({max(last * third // 3, 1) for third in (1, 2, 3)})
    found: dict[str, Any] = {"layers": [row["layer"] for row in rows if row["epoch"] == last]}
    for epoch in epochs:
        mine = [row for row in rows if row["epoch"] == epoch]
        found[f"epoch {epoch}"] = {q: [row[q] for row in mine] for q in LABELS}
    return found


def at_the_start(run: runs.Run, images: int) -> dict[str, list[float | None]]:
    """The quantities by layer with the initial weights, by the estimator of the run's settings."""
    mine = systems.system(run)
    value_and_grad = jax.jit(build_estimator(mine.settings).value_and_grad(mine.energy))
    _, grads, aux = value_and_grad(mine.initial(), mine.batch(images), jax.random.key(0))
    rows = layer_report(mine.model, grads, aux).values()
    return {name: [float(row[name]) if name in row else None for row in rows] for name in LABELS}


def measure(options: Options) -> Result:
    """Trains all runs, and reads what each kept of its layers."""
    named = specs(options.scale)
    rows = runs.train_all(options, named)
    layers = {n: three_epochs(runs.layers_of(run, options.runs)) for n, run in named.items()}
    images = SCALES[options.scale].images
    settings = {name: runs.settings_of(run) for name, run in named.items()}
    return {
        "runs": rows,
        "layers": layers,
        "start": {name: at_the_start(named[name], images) for name in (SHORT, LONG)},
        "phases": {n: {k: getattr(s, k) for k in LONG_PHASES} for n, s in settings.items()},
    }


def epochs_of(result: Result, name: str) -> dict[str, dict[str, Values]]:
    """The quantities by layer of a run, by "epoch N" in order."""
    return {key: row for key, row in result["layers"][name].items() if key != "layers"}


def last_gradients(result: Result, name: str) -> list[float]:
    """Mean |∂w| by weight after the last epoch of a run."""
    return _known(list(epochs_of(result, name).values())[-1]["gradient"])


def _known(values: Values) -> list[float]:
    return [value for value in values if value is not None]


def dip(gradients: Values) -> float:
    """The smallest gradient of a layer between the ends over the smaller one of the two ends."""
    first, *between, last = _known(gradients)
    return min(between) / max(min(first, last), 1e-300)


def spread(gradients: Values) -> float:
    """The smallest gradient of a layer over the largest."""
    known = _known(gradients)
    return min(known) / max(max(known), 1e-300)


def table(result: Result) -> str:
    """Accuracy and the sizes of the gradients of each run after its last epoch."""
    rows = []
    for name, row in result["runs"].items():
        sizes, phases = last_gradients(result, name), result["phases"][name]
        shown = [f"{size:.1e}" for size in (sizes[0], min(sizes[1:-1]), sizes[-1])]
        cells = [" / ".join(map(str, phases.values())), row["epochs"]]
        cells += [f"{100 * row['test_accuracy']:.1f}", *shown, f"{spread(sizes):.4f}"]
        rows.append([name, *cells])
    header = ["run", "T_free / T_nudge", "epochs", "test, %", "gradient, first layer"]
    header += ["smallest between", "last layer", "smallest / largest"]
    return show.markdown(header, rows)


def claims(result: Result) -> Claims:
    """What vanishes without signals, and that time does not bring it back."""
    accuracy = {name: row["test_accuracy"] for name, row in result["runs"].items()}
    percent = {name: f"{100 * value:.1f} %" for name, value in accuracy.items()}
    shares = {signal: spread(last_gradients(result, signal)) for signal in SIGNALS}
    statement = "The smallest gradient of a layer over the largest is least without signals"
    here = ", ".join(f"{signal} {share:.4f}" for signal, share in shares.items())
    least = shares["STD"] < min(shares["LE"], shares["KD"])
    yield Claim(statement, "weight gradients vanish there", here, least)
    here = ", ".join(f"{signal} {percent[signal]}" for signal in SIGNALS)
    better = accuracy["STD"] < min(accuracy["LE"], accuracy["KD"])
    yield Claim("The net trains with signals and not without", "it does", here, better)
    times = " / ".join(map(str, result["phases"][LONG].values()))
    statement = f"T_free / T_nudge = {times} do not save the net without signals"
    here = f"{percent[LONG]} in {result['runs'][LONG]['epochs']} epochs on fewer images; with the "
    here += f"usual phases {percent[SHORT]}, LE {percent['LE, brief']}"
    yield Claim(statement, "it still fails", here, accuracy[LONG] < accuracy["LE, brief"])
    activity = [np.mean(_known(q["activity"])) for q in epochs_of(result, "STD").values()]
    first, *_, last = (float(value) for value in activity)
    statement, here = "Activity without signals decays to 0", f"{first:.3f} to {last:.3f}"
    yield Claim(statement, "gradually, over epochs", here, last < 0.5 * first)
    end = dip(last_gradients(result, "STD"))
    start, longer = (dip(result["start"][name]["gradient"]) for name in (SHORT, LONG))
    statement = "Gradients without signals are smallest between the ends of the net"
    here = f"the smallest between is {end:.2f} of the smaller end (initial weights: {start:.2f}, "
    yield Claim(statement, "in the middle", f"{here}with long phases {longer:.2f})", end < 1)


def draw(result: Result):
    """Fig. 5: a row for each quantity, a column for each signal; then the long phases."""

    def panel(title: str, name: str, quantity: str, lines: list[tuple]) -> show.Panel:
        parts = [
            show.line(label, found[quantity], range(len(found[quantity])), style, ms=3, **more)
            for label, found, style, more in lines
        ]
        names = result["layers"][name]["layers"]
        return show.Panel(title, parts, LABELS[quantity], "", "y", ticks=names, legend="best")

    def over_epochs(signal: str) -> list[tuple]:
        shades = zip((0.35, 0.65, 1.0), epochs_of(result, signal).items(), strict=False)
        color = show.COLORS[signal]
        return [(e, q, "o-", {"color": color, "alpha": shade}) for shade, (e, q) in shades]

    long = []
    for name, color, marker in ((SHORT, "0.3", "o"), (LONG, "tab:purple", "^")):
        last = list(epochs_of(result, name).values())[-1]
        label = f"T = {' / '.join(map(str, result['phases'][name].values()))}"
        for when, found, style in (("start", result["start"][name], ":"), ("trained", last, "-")):
            long.append((f"{label}, {when}", found, marker + style, {"color": color}))
    rows = [
        [
            *(panel(f"{s}: {show.NAMES[s]}", s, quantity, over_epochs(s)) for s in SIGNALS),
            panel("STD with long phases", SHORT, quantity, long),
        ]
        for quantity in LABELS
    ]
    return show.figure(rows, sharey="row")
