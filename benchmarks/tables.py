"""Tables 1 and 3 of the paper: accuracies of all signals beside the paper's.

`table1` and `table3` are the commands. At small scale: a digits net of 11 layers over three seeds
and a quarter-width VGG-7 on 3000 CIFAR-10 images; at paper scale: the paper's own rows.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks import nets, runs, show

SMALL = {"digits, 11 layers": nets.DIGITS_11, "CIFAR-10 subset, VGG-7/4": nets.CIFAR_7}
SMALL_SEEDS = {"digits, 11 layers": (0, 1, 2), "CIFAR-10 subset, VGG-7/4": (0,)}
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


def config_of(name: str) -> str:
    """The config of a row of the paper: "CIFAR-10, VGG-7, LE" -> "vgg7_le"."""
    _, net, signal = name.split(", ")
    return f"{net.lower().replace('-', '')}_{signal.lower()}"


def specs(scale: str, signals: Sequence[str]) -> dict[str, runs.Run]:
    """All runs of a scale with one of `signals`, named "DATA, NET, SIGNAL, seed N"."""
    if scale == "paper":
        rows = {n: runs.Run(config_of(n)) for n in PAPER if n.split(", ")[2] in signals}
        return runs.with_seeds(rows, PAPER_SEEDS)
    if scale == "tiny":
        tiny = {f"digits, 5 layers, {s}": runs.shrink(nets.DIGITS_5[s]) for s in signals}
        return runs.with_seeds(tiny, (0,))
    named = {}
    for name, net in SMALL.items():
        rows = {f"{name}, {signal}": net[signal] for signal in signals}
        named.update(runs.with_seeds(rows, SMALL_SEEDS[name]))
    return named


def table(result: dict[str, Any]) -> str:
    """Train and test accuracy over the seeds, with the paper's row at its side."""
    rows = []
    for name, found in runs.by_name(result["runs"]).items():
        data, net, signal = name.split(", ")
        beside = name if name in PAPER else BESIDE[signal]
        train, test = PAPER[beside]
        rows.append(
            [
                f"{data}, {net}",
                signal,
                len(found),
                show.percent([row["train_accuracy"] for row in found]),
                show.percent([row["test_accuracy"] for row in found]),
                "–" if train is None else f"{train:.2f}",
                f"{test:.2f} ({beside})",
            ]
        )
    header = ["data, net", "signal", "seeds", "train, %", "test, %", "paper train", "paper test"]
    return show.markdown(header, rows)


def means(result: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Mean test accuracy over seeds, by data and net, and by signal."""
    found: dict[str, dict[str, float]] = {}
    for name, rows in runs.by_name(result["runs"]).items():
        net, signal = name.rsplit(", ", 1)
        found.setdefault(net, {})[signal] = float(np.mean([row["test_accuracy"] for row in rows]))
    return found


def says(result: dict[str, Any]) -> str:
    """What the result shows: the order of the signals on each net."""
    sentences = []
    for net, signals in means(result).items():
        order = sorted(signals.items(), key=lambda pair: -pair[1])
        listed = " > ".join(f"{signal} {100 * value:.1f} %" for signal, value in order)
        sentences.append(f"{net}: {listed}.")
    return " ".join(sentences)


def differs(result: dict[str, Any]) -> str:
    """Where the order of the signals differs from the paper's, and why."""
    sentences = []
    for net, signals in means(result).items():
        for better, worse in (("KD", "LE"), ("KD", "KDW"), ("LE", "STD")):
            if better in signals and worse in signals:
                same = signals[better] > signals[worse]
                word = "as in the paper" if same else "unlike in the paper"
                sign = ">" if same else "≤"
                sentences.append(f"{net}: {better} {sign} {worse}, {word}.")
    if result["scale"] != "paper":
        sentences.append(
            "The small nets, few images and few epochs are why the accuracies themselves do not "
            "compare; each signal's own settings (κ, Υ) were chosen by hand on few trials."
        )
    return " ".join(sentences)


def draw(result: dict[str, Any], path) -> None:
    """Bars of test accuracy by signal, each net in a panel, the seeds as dots."""
    found = runs.by_name(result["runs"])
    names = list(dict.fromkeys(name.rsplit(", ", 1)[0] for name in found))
    figure, axes = show.panels(1, len(names), sharey=True)
    for axis, net in zip(axes[0], names, strict=True):
        rows = {n.rsplit(", ", 1)[1]: v for n, v in found.items() if n.startswith(f"{net}, ")}
        for place, (signal, seeds) in enumerate(rows.items()):
            values = [100 * row["test_accuracy"] for row in seeds]
            axis.bar(place, np.mean(values), color=show.COLORS[signal], alpha=0.6)
            axis.plot([place] * len(values), values, ".", color="0.2")
            axis.text(place, max(values) + 2.5, f"{np.mean(values):.1f}", ha="center")
        axis.set_xticks(range(len(rows)), list(rows))
        axis.set(title=net, ylim=(0, 108))
    axes[0, 0].set_ylabel("test accuracy, %")
    show.save(figure, path)


def run(options: runs.Options, signals: Sequence[str]) -> None:
    """Trains, draws and prints."""
    result = runs.keep(options, {"runs": runs.train_all(options, specs(options.scale, signals))})
    draw(result, options.picture)
    print(table(result))
