"""Fig. 6: κ over the epochs, and what it does. python -m benchmarks.schedules [--scale small|paper]

The schedules of eq. 16, and the accuracy of nets that differ in nothing else.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks import nets, runs, show
from jaxep.nets.heads import kappa_schedule

KINDS = ("constant", "linear", "exponential", "cosine")
STYLES = dict(zip(KINDS, ("0.3", "tab:purple", "tab:brown", "tab:cyan"), strict=True))
# Fig. 6 of the paper.
PAPER_EPOCHS, PAPER_GAMMA = 250, 0.02


@dataclasses.dataclass(frozen=True)
class Scale:
    """Which nets are trained, and with how many seeds."""

    nets: dict[str, runs.Run]
    seeds: tuple[int, ...]


SCALES = {
    "tiny": Scale({"LE": runs.shrink(nets.DIGITS_5["LE"])}, (0,)),
    "small": Scale({signal: nets.DIGITS_5[signal] for signal in ("LE", "KD")}, (0, 1, 2)),
    "paper": Scale({signal: nets.PAPER_7[signal] for signal in ("LE", "KD")}, (0,)),
}


def specs(scale: str) -> dict[str, runs.Run]:
    """All runs of a scale, named "SIGNAL, SCHEDULE, seed N".

    The exponential falls over the whole run by as much as in the paper's 250 epochs.
    """
    chosen = SCALES[scale]
    named = {}
    for signal, run in chosen.nets.items():
        epochs = runs.settings_of(run).epochs
        gamma = PAPER_GAMMA * PAPER_EPOCHS / epochs
        for kind in KINDS:
            named[f"{signal}, {kind}"] = run.but(kappa_schedule=kind, kappa_gamma=gamma)
    return runs.with_seeds(named, chosen.seeds)


def decay() -> dict[str, list[float]]:
    """Fig. 6: κ of each epoch with κ_init = 1, κ_min = 0, γ = 0.02 and 250 epochs."""
    schedules = {kind: kappa_schedule(kind, 1.0, PAPER_EPOCHS, gamma=PAPER_GAMMA) for kind in KINDS}
    epochs = range(PAPER_EPOCHS + 1)
    return {kind: [float(kappa(e)) for e in epochs] for kind, kappa in schedules.items()}


def accuracies(result: dict[str, Any]) -> dict[tuple[str, str], list[float]]:
    """Test accuracies of all seeds by (signal, schedule)."""
    found = {}
    for name, rows in runs.by_name(result["runs"]).items():
        signal, kind = name.split(", ")
        found[signal, kind] = [row["test_accuracy"] for row in rows]
    return found


def table(result: dict[str, Any]) -> str:
    """Test accuracy of each schedule, a column for each signal."""
    found = accuracies(result)
    signals = list(dict.fromkeys(signal for signal, _ in found))
    rows = [[kind, *(show.percent(found[signal, kind]) for signal in signals)] for kind in KINDS]
    return show.markdown(["κ schedule", *(f"{s}, test, %" for s in signals)], rows)


def ranking(result: dict[str, Any], signal: str) -> list[tuple[str, float]]:
    """Schedules from the best mean test accuracy down."""
    found = accuracies(result)
    means = {kind: float(np.mean(found[signal, kind])) for kind in KINDS}
    return sorted(means.items(), key=lambda pair: -pair[1])


def says(result: dict[str, Any]) -> str:
    """What the result shows."""
    parts = []
    for signal in dict.fromkeys(signal for signal, _ in accuracies(result)):
        (best, high), *_, (worst, low) = ranking(result, signal)
        parts.append(f"{signal}: {best} {100 * high:.1f} % at best, {worst} {100 * low:.1f} %")
    return "; ".join(parts) + "."


def differs(result: dict[str, Any]) -> str:
    """Where it differs from what section 4.3 says, and why."""
    sentences = []
    for signal in dict.fromkeys(signal for signal, _ in accuracies(result)):
        found = accuracies(result)
        last = ranking(result, signal)[-1][0]
        several = [found[signal, kind] for kind in KINDS if len(found[signal, kind]) > 1]
        noise = max((np.std(values, ddof=1) for values in several), default=0.0)
        spread = ranking(result, signal)[0][1] - ranking(result, signal)[-1][1]
        agrees = "is the last here too" if last == "exponential" else f"is not the last ({last} is)"
        sentences.append(
            f"{signal}: the exponential schedule, which the paper finds too quick, {agrees}; the "
            f"schedules lie within {100 * spread:.1f} points, the deviation over seeds is up to "
            f"{100 * noise:.1f}."
        )
    return " ".join(sentences)


def draw(result: dict[str, Any], path) -> None:
    """κ over the epochs beside the test accuracy of each net."""
    found = runs.by_name(result["runs"])
    signals = list(dict.fromkeys(name.split(", ")[0] for name in found))
    figure, axes = show.panels(1, 1 + len(signals))
    for kind, values in result["decay"].items():
        axes[0, 0].plot(values, color=STYLES[kind], label=kind)
    axes[0, 0].set(title="κ with κ_init = 1 (Fig. 6)", xlabel="epoch", ylabel="κ")
    for axis, signal in zip(axes[0, 1:], signals, strict=True):
        lowest = 100.0
        for kind in KINDS:
            curves = [[100 * v for v in row["test_acc"]] for row in found[f"{signal}, {kind}"]]
            lowest = min(lowest, *(curve[-1] for curve in curves))
            show.band(axis, curves, color=STYLES[kind], label=kind)
        axis.set(title=f"{signal}: {show.NAMES[signal]}", ylabel="test accuracy, %")
        axis.set_ylim(max(0, lowest - 10), 100)  # where schedules differ
    show.legend_below(figure, axes[0, 0], 4)
    show.save(figure, path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains, draws and prints."""
    options = runs.options("schedules", __doc__, arguments)
    rows = runs.train_all(options, specs(options.scale))
    result = runs.keep(options, {"decay": decay(), "runs": rows})
    draw(result, options.picture)
    print(table(result))


if __name__ == "__main__":
    main()
