"""Tables 1 and 3: accuracies of all signals beside the paper's.

At small scale: a digits net of 11 layers over three seeds and a quarter-width VGG-7 on 3000
CIFAR-10 images; at paper scale: the paper's own rows. (Table 3's memory: `memory`.)
"""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.shared import nets, runs, show
from benchmarks.shared.results import Claim, Claims, Options, Result

# Nets by name with seeds; at paper scale the runs are the rows of PAPER.
SCALES: dict[str, dict[str, tuple[nets.Net, tuple[int, ...]]]] = {
    "tiny": {"digits, 5 layers": (nets.DIGITS_5, (0,))},
    "small": {
        "digits, 11 layers": (nets.DIGITS_11, (0, 1, 2)),
        "CIFAR-10 subset, VGG-7/4": (nets.CIFAR_7, (0,)),
    },
}
PAPER_SEEDS = (0, 1, 2, 3, 4)
# (train, test) accuracy in %, of Tables 1 and 3; the STD row is Laborieux et al. 2021.
PAPER = {
    "CIFAR-10, VGG-5, STD": (None, 88.32),
    "CIFAR-10, VGG-7, LE": (98.70, 88.99),
    "CIFAR-10, VGG-7, KD": (97.57, 89.67),
    "CIFAR-10, VGG-7, KDW": (92.81, 87.93),
    "CIFAR-100, VGG-11, LE": (84.59, 62.01),
    "CIFAR-100, VGG-10, KD": (77.09, 63.68),
    "CIFAR-100, VGG-13, LE": (75.56, 62.22),
    "CIFAR-100, VGG-12, KD": (79.79, 64.75),
}
# The paper's row beside which a small row stands.
BESIDE = {signal: f"CIFAR-10, VGG-7, {signal}" for signal in ("LE", "KD", "KDW")}
BESIDE["STD"] = "CIFAR-10, VGG-5, STD"
# Of each benchmark.
SIGNALS = {"table1": ("STD", "LE", "KD"), "table3": ("KD", "KDW")}
# Points by which an accuracy of the paper may be missed and counts as reached.
NEAR = 1.0


def config_of(name: str) -> str:
    """The config of a row of the paper: "CIFAR-10, VGG-7, LE" -> "vgg7_le"."""
    _, net, signal = name.split(", ")
    return f"{net.lower().replace('-', '')}_{signal.lower()}"


def specs(scale: str, signals: Sequence[str]) -> dict[str, runs.Run]:
    """All runs of a scale with one of `signals`, named "DATA, NET, SIGNAL, seed N"."""
    if scale == "paper":
        rows = {n: runs.Run(config_of(n)) for n in PAPER if n.split(", ")[2] in signals}
        return runs.with_seeds(rows, PAPER_SEEDS)
    named: dict[str, runs.Run] = {}
    for name, (net, seeds) in SCALES[scale].items():
        named |= runs.with_seeds({f"{name}, {signal}": net[signal] for signal in signals}, seeds)
    return runs.of_scale(scale, named)


def measure(options: Options) -> Result:
    """Trains all runs of the scale."""
    return {"runs": runs.train_all(options, specs(options.scale, SIGNALS[options.name]))}


def table(result: Result) -> str:
    """Train and test accuracy over the seeds, with the paper's row at its side."""
    rows = []
    for net, signals in runs.by_last_part(result["runs"]).items():
        for signal, found in signals.items():
            beside = f"{net}, {signal}" if f"{net}, {signal}" in PAPER else BESIDE[signal]
            train, test = PAPER[beside]
            paper = ["–" if train is None else f"{train:.2f}", f"{test:.2f} ({beside})"]
            rows.append([net, signal, len(found), *runs.percents(found), *paper])
    header = ["data, net", "signal", "seeds", "train, %", "test, %", "paper train", "paper test"]
    return show.markdown(header, rows)


def claims(result: Result) -> Claims:
    """The order of the signals on each net, and where the nets are the paper's the accuracies."""
    for net, signals in runs.by_last_part(result["runs"]).items():
        reached = {signal: runs.accuracies(rows) for signal, rows in signals.items()}
        for better, worse in (("KD", "LE"), ("KD", "KDW"), ("LE", "STD")):
            if better in reached and worse in reached:
                paper = " against ".join(f"{PAPER[BESIDE[s]][1]}" for s in (better, worse))
                here = " against ".join(show.percent(reached[s]) for s in (better, worse))
                holds = bool(np.mean(reached[better]) > np.mean(reached[worse]))
                yield Claim(f"{net}: {better} is above {worse}", f"{paper} %", f"{here} %", holds)
        for signal, values in reached.items():
            if (name := f"{net}, {signal}") in PAPER:
                wanted, here = PAPER[name][1], f"{show.percent(values)} %"
                near = bool(100 * np.mean(values) >= wanted - NEAR)
                yield Claim(f"{name}: its accuracy", f"{wanted} %", here, near)
    if result["scale"] != "paper":
        here = "small nets, few images and epochs, κ and Υ chosen by hand on few trials"
        paper = "full width, all images, 250 epochs"
        yield Claim("Why the accuracies themselves do not compare", paper, here)


def draw(result: Result):
    """Bars of test accuracy by signal, each net in a panel, the seeds as dots."""

    def bars(signals: dict[str, list[dict[str, Any]]], axis) -> None:
        for place, (signal, rows) in enumerate(signals.items()):
            values = show.percents(runs.accuracies(rows))
            axis.bar(place, np.mean(values), color=show.COLORS[signal], alpha=0.6)
            axis.plot([place] * len(values), values, ".", color="0.2")
            axis.text(place, max(values) + 2.5, f"{np.mean(values):.1f}", ha="center")
        axis.set_xticks(range(len(signals)), list(signals))

    panels = [
        show.Panel(net, [functools.partial(bars, signals)], "test accuracy, %", "", ylim=(0, 108))
        for net, signals in runs.by_last_part(result["runs"]).items()
    ]
    return show.figure([panels], sharey=True)
