"""Fig. 6: κ over the epochs, and what it does.

The schedules of eq. 16, and the accuracy of nets that differ in nothing else.
"""

import numpy as np

from benchmarks.shared import nets, runs, show
from benchmarks.shared.results import Claim, Claims, Options, Result
from jaxep.nets.heads import kappa_schedule

KINDS = ("constant", "linear", "exponential", "cosine")
STYLES = dict(zip(KINDS, ("0.3", "tab:purple", "tab:brown", "tab:cyan"), strict=True))
# Fig. 6 of the paper.
PAPER_EPOCHS, PAPER_GAMMA = 250, 0.02
# Nets by signal, and seeds.
SCALES: dict[str, tuple[dict[str, runs.Run], tuple[int, ...]]] = {
    "tiny": ({"LE": runs.shrink(nets.DIGITS_5["LE"])}, (0,)),
    "small": ({signal: nets.DIGITS_5[signal] for signal in ("LE", "KD")}, (0, 1, 2)),
    "paper": ({signal: nets.PAPER_7[signal] for signal in ("LE", "KD")}, (0,)),
}


def specs(scale: str) -> dict[str, runs.Run]:
    """All runs of a scale, named "SIGNAL, SCHEDULE, seed N".

    The exponential falls over the whole run by as much as in the paper's 250 epochs.
    """
    chosen, seeds = SCALES[scale]
    named = {}
    for signal, run in chosen.items():
        gamma = PAPER_GAMMA * PAPER_EPOCHS / runs.settings_of(run).epochs
        for kind in KINDS:
            named[f"{signal}, {kind}"] = run.but(kappa_schedule=kind, kappa_gamma=gamma)
    return runs.with_seeds(named, seeds)


def decay() -> dict[str, list[float]]:
    """Fig. 6: κ of each epoch with κ_init = 1, κ_min = 0, γ = 0.02 and 250 epochs."""
    schedules = {kind: kappa_schedule(kind, 1.0, PAPER_EPOCHS, gamma=PAPER_GAMMA) for kind in KINDS}
    epochs = range(PAPER_EPOCHS + 1)
    return {kind: [float(kappa(e)) for e in epochs] for kind, kappa in schedules.items()}


def measure(options: Options) -> Result:
    """Trains all runs of the scale."""
    return {"decay": decay(), "runs": runs.train_all(options, specs(options.scale))}


def table(result: Result) -> str:
    """Test accuracy of each schedule, a column for each signal."""
    found = runs.by_last_part(result["runs"])
    rows = [
        [kind, *(show.percent(runs.accuracies(kinds[kind])) for kinds in found.values())]
        for kind in KINDS
    ]
    return show.markdown(["κ schedule", *(f"{s}, test, %" for s in found)], rows)


def claims(result: Result) -> Claims:
    """The exponential schedule is the worst, and by more than the noise of the seeds."""
    for signal, kinds in runs.by_last_part(result["runs"]).items():
        reached = {kind: runs.accuracies(rows) for kind, rows in kinds.items()}
        last, *_, best = sorted(reached, key=lambda kind: float(np.mean(reached[kind])))
        statement = f"{signal}: the exponential schedule decays too quickly and is the worst"
        here = f"{last} is the worst, {show.percent(reached[last])} %, "
        here += f"{best} the best, {show.percent(reached[best])} %"
        yield Claim(statement, "suboptimal", here, last == "exponential")
        spread = float(np.mean(reached[best]) - np.mean(reached[last]))
        noise = max((np.std(v, ddof=1) for v in reached.values() if len(v) > 1), default=0.0)
        here = f"{100 * spread:.1f} points; the deviation over seeds is up to {100 * noise:.1f}"
        statement = f"{signal}: best and worst differ by more than seeds do"
        yield Claim(statement, "not told", here, bool(spread > noise))


def draw(result: Result):
    """κ over the epochs beside the test accuracy of each net."""
    decays = [
        show.line(kind, values, range(len(values)), color=STYLES[kind])
        for kind, values in result["decay"].items()
    ]
    panels = [show.Panel("κ with κ_init = 1 (Fig. 6)", decays, "κ")]
    for signal, kinds in runs.by_last_part(result["runs"]).items():
        curves = {kind: [show.percents(r["test_acc"]) for r in kinds[kind]] for kind in kinds}
        # Where schedules differ.
        lowest = min(curve[-1] for several in curves.values() for curve in several) - 10
        parts = [show.band(kind, several, STYLES[kind]) for kind, several in curves.items()]
        title, ylim = f"{signal}: {show.NAMES[signal]}", (max(0, lowest), 100)
        panels.append(show.Panel(title, parts, "test accuracy, %", ylim=ylim))
    return show.figure([panels], legend=4)
