"""Fig. 1: does depth stop EP, and do signals help?

A net of 5 and one of 11 weighted layers, each without signals, with local errors and distilled: the
training loss per epoch, and the test accuracy over seeds.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from benchmarks.shared import nets, runs, show
from benchmarks.shared.results import Claim, Result

DEPTHS = ("5 layers", "11 layers")
SIGNALS = ("STD", "LE", "KD")
DATA = {"digits": "digits", "cifar10": "CIFAR-10"}
# Of ten classes. A net counts as learning where its accuracy is over twice that.
CHANCE = 0.1


def specs(scale: str) -> dict[str, runs.Run]:
    """All runs of a scale, named "DATA, DEPTH, SIGNAL, seed N"."""
    if scale == "paper":
        return _named("cifar10", (nets.PAPER_5, nets.PAPER_11), (0,))
    if scale == "tiny":
        tiny = _named("digits", (nets.DIGITS_5, nets.DIGITS_11), (0,))
        return {name: runs.shrink(run) for name, run in tiny.items()}
    digits = _named("digits", (nets.DIGITS_5, nets.DIGITS_11), (0, 1, 2))
    return {**digits, **_named("cifar10", (nets.CIFAR_5, nets.CIFAR_11), (0,))}


def _named(data: str, pair: tuple[nets.Net, nets.Net], seeds: Sequence[int]) -> dict[str, runs.Run]:
    named = {
        f"{data}, {depth}, {signal}": net[signal]
        for depth, net in zip(DEPTHS, pair, strict=True)
        for signal in SIGNALS
    }
    return runs.with_seeds(named, seeds)


def table(result: Result) -> str:
    """Final accuracies and losses over the seeds."""
    rows = []
    for (data, depth, signal), found in runs.by_parts(result["runs"]).items():
        reached = (runs.accuracies(found, part) for part in ("train", "test"))
        loss = np.mean([row["train_loss"][-1] for row in found])
        shown = map(show.percent, reached)
        rows.append([DATA[data], depth, signal, len(found), *shown, f"{loss:.3f}"])
    header = ["data", "depth", "signal", "seeds", "train, %", "test, %", "training loss"]
    return show.markdown(header, rows)


def gap(result: Result, data: str, signal: str) -> tuple[float, float]:
    """(worst test accuracy with `signal` minus best without, the same for the means) at 11 layers.

    Fractions; over 0 at first place means: separated beyond the noise of the seeds.
    """
    found = runs.by_parts(result["runs"])
    having, lacking = (runs.accuracies(found[data, DEPTHS[1], s]) for s in (signal, "STD"))
    return min(having) - max(lacking), float(np.mean(having) - np.mean(lacking))


def claims(result: Result) -> Iterator[Claim]:
    """Depth stops the net without signals, and no other."""
    found = runs.by_parts(result["runs"])
    for data in (name for name in DATA if (name, DEPTHS[1], "STD") in found):
        shallow, deep = (runs.accuracies(found[data, depth, "STD"]) for depth in DEPTHS)
        here, name = f"{show.percent(shallow)} %, chance {100 * CHANCE:.0f} %", DATA[data]
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
    found = runs.by_parts(result["runs"])

    def panel(data: str, depth: str) -> show.Panel:
        parts, seeds = [], len(found[data, depth, "STD"])
        for signal in SIGNALS:
            losses = [row["train_loss"] for row in found[data, depth, signal]]
            label = f"{signal}: {show.NAMES[signal]}"
            parts.append(show.band(label, losses, show.COLORS[signal]))
        parts.append(show.level(np.log(10), "chance, ln 10", lw=1))
        title = f"{DATA[data]}, {depth}" + (f" ({seeds} seeds)" if seeds > 1 else "")
        return show.Panel(title, parts, "training loss, nats per sample", ylim=(0, 2.6))

    data = [name for name in DATA if any(key[0] == name for key in found)]
    rows = [[panel(name, depth) for depth in DEPTHS] for name in data]
    return show.figure(rows, legend=4, sharey="row")
