"""Fig. 1: does depth stop EP, and do signals help?

A net of 5 and one of 11 weighted layers, each without signals, with local errors and distilled: the
training loss per epoch, and the test accuracy over seeds.
"""

import numpy as np

from benchmarks.shared import nets, runs, show
from benchmarks.shared.results import Claim, Claims, Result

DEPTHS = ("5 layers", "11 layers")
SIGNALS = ("STD", "LE", "KD")
DATA = {"digits": "digits", "cifar10": "CIFAR-10"}
# Of ten classes. A net counts as learning where its accuracy is over twice that.
CHANCE = 0.1
_DIGITS, _CIFAR = (nets.DIGITS_5, nets.DIGITS_11), (nets.CIFAR_5, nets.CIFAR_11)
# By data the nets of both depths, and seeds.
SCALES: dict[str, dict[str, tuple[tuple[nets.Net, nets.Net], tuple[int, ...]]]] = {
    "tiny": {"digits": (_DIGITS, (0,))},
    "small": {"digits": (_DIGITS, (0, 1, 2)), "cifar10": (_CIFAR, (0,))},
    "paper": {"cifar10": ((nets.PAPER_5, nets.PAPER_11), (0,))},
}


def specs(scale: str) -> dict[str, runs.Run]:
    """All runs of a scale, named "DATA, DEPTH, SIGNAL, seed N"."""
    named: dict[str, runs.Run] = {}
    for data, (pair, seeds) in SCALES[scale].items():
        for depth, net in zip(DEPTHS, pair, strict=True):
            rows = {f"{data}, {depth}, {signal}": net[signal] for signal in SIGNALS}
            named |= runs.with_seeds(rows, seeds)
    return runs.of_scale(scale, named)


def table(result: Result) -> str:
    """Final accuracies and losses over the seeds."""
    rows = []
    for net, signals in runs.by_last_part(result["runs"]).items():
        data, depth = net.split(", ")
        for signal, found in signals.items():
            loss = np.mean([row["train_loss"][-1] for row in found])
            cells = [len(found), *runs.percents(found), f"{loss:.3f}"]
            rows.append([DATA[data], depth, signal, *cells])
    header = ["data", "depth", "signal", "seeds", "train, %", "test, %", "training loss"]
    return show.markdown(header, rows)


def gap(result: Result, data: str, signal: str) -> tuple[float, float]:
    """(worst test accuracy with `signal` minus best without, the same for the means) at 11 layers.

    Fractions; over 0 at first place means: separated beyond the noise of the seeds.
    """
    deep = runs.by_last_part(result["runs"])[f"{data}, {DEPTHS[1]}"]
    having, lacking = (runs.accuracies(deep[s]) for s in (signal, "STD"))
    return min(having) - max(lacking), float(np.mean(having) - np.mean(lacking))


def claims(result: Result) -> Claims:
    """Depth stops the net without signals, and no other."""
    found = runs.by_last_part(result["runs"])
    for data, name in ((d, name) for d, name in DATA.items() if f"{d}, {DEPTHS[1]}" in found):
        shallow, deep = (runs.accuracies(found[f"{data}, {depth}"]["STD"]) for depth in DEPTHS)
        here = f"{show.percent(shallow)} %, chance {100 * CHANCE:.0f} %"
        learns = bool(np.mean(shallow) > 2 * CHANCE)
        yield Claim(f"{name}: 5 layers learn without signals", "they do", here, learns)
        here, fails = f"{show.percent(deep)} %", bool(np.mean(deep) <= 2 * CHANCE)
        yield Claim(f"{name}: 11 layers do not", "their loss hardly falls", here, fails)
        for signal in SIGNALS[1:]:
            worst, mean = gap(result, data, signal)
            here = f"{100 * mean:+.1f} points to STD (worst seed against best: {100 * worst:+.1f})"
            yield Claim(f"{name}: 11 layers learn with {signal}", "they do", here, worst > 0)


def draw(result: Result):
    """Training loss per epoch: a row for each data set, a column for each depth."""
    rows: dict[str, list[show.Panel]] = {}
    for net, signals in runs.by_last_part(result["runs"]).items():
        data, depth = net.split(", ")
        parts = [
            show.band(f"{s}: {show.NAMES[s]}", [r["train_loss"] for r in found], show.COLORS[s])
            for s, found in signals.items()
        ]
        parts.append(show.level(np.log(10), "chance, ln 10", lw=1))
        seeds = len(signals["STD"])
        title = f"{DATA[data]}, {depth}" + (f" ({seeds} seeds)" if seeds > 1 else "")
        panel = show.Panel(title, parts, "training loss, nats per sample", ylim=(0, 2.6))
        rows.setdefault(data, []).append(panel)
    return show.figure(list(rows.values()), legend=4, sharey="row")
