"""Fig. 1: does depth stop EP, and do signals help? python -m benchmarks.depth [--scale small|paper]

A net of 5 and one of 11 weighted layers, each without signals, with local errors and distilled: the
training loss per epoch, and the test accuracy over seeds.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks import nets, runs, show

DEPTHS = ("5 layers", "11 layers")
SIGNALS = ("STD", "LE", "KD")
DATA = {"digits": "digits", "cifar10": "CIFAR-10"}


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


def groups(result: dict[str, Any]) -> dict[tuple[str, str, str], list[dict[str, Any]]]:
    """Rows by (data, depth, signal), one for each seed."""
    found = {}
    for name, rows in runs.by_name(result["runs"]).items():
        data, depth, signal = name.split(", ")
        found[data, depth, signal] = rows
    return found


def table(result: dict[str, Any]) -> str:
    """Final accuracies and losses over the seeds."""
    rows = [
        [
            DATA[data],
            depth,
            signal,
            len(found),
            show.percent([row["train_accuracy"] for row in found]),
            show.percent([row["test_accuracy"] for row in found]),
            f"{np.mean([row['train_loss'][-1] for row in found]):.3f}",
        ]
        for (data, depth, signal), found in groups(result).items()
    ]
    header = ["data", "depth", "signal", "seeds", "train, %", "test, %", "training loss"]
    return show.markdown(header, rows)


def gap(result: dict[str, Any], data: str, signal: str) -> tuple[float, float]:
    """(worst test accuracy with `signal` minus best without, the same for the means) at 11 layers.

    Fractions; over 0 at first place means: separated beyond the noise of the seeds.
    """
    found = groups(result)
    with_signal = [row["test_accuracy"] for row in found[data, "11 layers", signal]]
    without = [row["test_accuracy"] for row in found[data, "11 layers", "STD"]]
    return min(with_signal) - max(without), float(np.mean(with_signal) - np.mean(without))


def says(result: dict[str, Any]) -> str:
    """What the result shows, in numbers of its own."""
    sentences = []
    found = groups(result)
    for data in DATA:
        if (data, "11 layers", "STD") not in found:
            continue
        parts = []
        for signal in ("LE", "KD"):
            worst, mean = gap(result, data, signal)
            parts.append(
                f"{signal} is {100 * mean:.1f} points above STD (worst seed against best: "
                f"{100 * worst:+.1f})"
            )
        sentences.append(f"{DATA[data]}, 11 layers: {' and '.join(parts)}.")
    return " ".join(sentences)


def differs(result: dict[str, Any]) -> str:
    """Where it differs from the paper's Fig. 1, and why."""
    found = groups(result)
    shallow = [rows for (_, depth, s), rows in found.items() if depth == "5 layers" and s == "STD"]
    best = max(row["test_accuracy"] for rows in shallow for row in rows)
    classes = 10
    learned = best > 2 / classes
    fact = (
        f"In the paper the 5-layer net learns without signals; here it reaches {100 * best:.1f} % "
        f"at best (chance {100 / classes:.0f} %)"
    )
    if learned:
        return f"{fact}, so depth, not the method, is what stops it."
    return (
        f"{fact}: with the settings of the signalled nets (few sweeps, few epochs, small data), "
        "which are the same for all rows, STD does not start at either depth."
    )


def draw(result: dict[str, Any], path) -> None:
    """Training loss per epoch: a row for each data set, a column for each depth."""
    found = groups(result)
    data = [name for name in DATA if any(key[0] == name for key in found)]
    figure, axes = show.panels(len(data), 2, sharey="row")
    for row, name in zip(axes, data, strict=True):
        for axis, depth in zip(row, DEPTHS, strict=True):
            for signal in SIGNALS:
                curves = [run["train_loss"] for run in found.get((name, depth, signal), [])]
                if curves:
                    label = f"{signal}: {show.NAMES[signal]}"
                    show.band(axis, curves, color=show.COLORS[signal], label=label)
            axis.axhline(np.log(10), color=show.NEUTRAL, ls=":", lw=1, label="chance, ln 10")
            seeds = max(len(rows) for key, rows in found.items() if key[0] == name)
            axis.set_title(f"{DATA[name]}, {depth}" + (f" ({seeds} seeds)" if seeds > 1 else ""))
            axis.set_ylim(0, 2.6)
        row[0].set_ylabel("training loss, nats per sample")
    show.legend_below(figure, axes[0, 0], 4)
    show.save(figure, path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains, draws and prints."""
    options = runs.options("depth", __doc__, arguments)
    rows = runs.train_all(options, specs(options.scale))
    result = runs.keep(options, {"runs": rows})
    draw(result, options.picture)
    print(table(result))


if __name__ == "__main__":
    main()
