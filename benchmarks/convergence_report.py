"""The table, the sentences and the picture of benchmarks.convergence, from its JSON."""

from typing import Any

import numpy as np

from benchmarks import show

SIGNS = {"positive": "POS", "negative": "NEG"}
STYLES = {"synchronous": "-", "alternating": "--"}
# The energy counts as settled where what is left to fall is this share of its whole change.
SETTLED = 0.01


def settled_after(phase: dict[str, Any], advance: int) -> int | None:
    """Synchronous steps, two for a sweep, until the energy stays within 1 % of its end."""
    energy = np.asarray(phase["energy"])
    gap = np.abs(energy - energy[-1])
    outside = np.flatnonzero(gap > SETTLED * gap.max())
    return int(advance * (outside[-1] + 2)) if len(outside) else advance


def _each(result: dict[str, Any]):
    for signal, found in result["signals"].items():
        for order, phases in found["orders"].items():
            yield signal, order, phases


def table(result: dict[str, Any]) -> str:
    """Residual at the end of each phase, and when the energies of the nudged ones settle."""
    rows = []
    for signal, order, phases in _each(result):
        advance = phases["steps_per_pass"]
        steps = advance * len(phases["free"]["residual"])
        nudged = advance * len(phases["positive"]["residual"])
        rows.append(
            [
                signal,
                order,
                f"{steps} / {nudged}",
                f"{phases['free']['residual'][-1]:.1e}",
                *(f"{phases[sign]['residual'][-1]:.1e}" for sign in SIGNS),
                *(settled_after(phases[sign], advance) for sign in SIGNS),
            ]
        )
    header = ["signal", "order", "steps, free / nudged", "residual, free", "POS", "NEG"]
    header += ["energy settled, POS, steps", "NEG, steps"]
    return show.markdown(header, rows)


def _settled_shares(result: dict[str, Any]) -> list[float]:
    """Of every nudged phase: the share of its steps after which its energy has settled."""
    return [
        settled_after(p[s], p["steps_per_pass"]) / (p["steps_per_pass"] * len(p[s]["energy"]))
        for _, _, p in _each(result)
        for s in SIGNS
    ]


def says(result: dict[str, Any]) -> str:
    """What the result shows."""
    parts = []
    for order in STYLES:
        ends = [p[s]["residual"][-1] for _, o, p in _each(result) if o == order for s in SIGNS]
        parts.append(f"{order}: nudged residuals end at {min(ends):.0e} to {max(ends):.0e}")
    settled = _settled_shares(result)
    return (
        f"{'; '.join(parts)}. Over {result['images']} images the mean energy stays within 1 % of "
        f"its change from its end after {100 * min(settled):.0f} to {100 * max(settled):.0f} % of "
        f"the steps."
    )


def differs(result: dict[str, Any]) -> str:
    """Where it differs from the paper's Fig. 3, and why."""
    free = [p["free"]["residual"][-1] for _, o, p in _each(result) if o == "synchronous"]
    alternating = [p["free"]["residual"][-1] for _, o, p in _each(result) if o == "alternating"]
    weights = (
        "trained weights, as in the paper"
        if result["trained"]
        else "weights and teacher as drawn, where the paper has those of the 25th epoch"
    )
    falling = max(_settled_shares(result)) > 0.9
    ends = "is still moving when a phase ends, unlike in the paper" if falling else "has settled"
    return (
        f"Measured with {weights}; the energy {ends}. The paper shows no free phase: after its "
        f"number of steps the synchronous residual is {min(free):.0e} to {max(free):.0e} and the "
        f"alternating one, with half as many sweeps, {min(alternating):.0e} to "
        f"{max(alternating):.0e}."
    )


def draw(result: dict[str, Any], path) -> None:
    """Energies of the nudged phases by signal and sign; residuals of all phases.

    Images differ in their energy by far more than a phase moves it, so the change is drawn.
    """
    figure, axes = show.panels(len(result["signals"]), 4)
    for row, (signal, found) in zip(axes, result["signals"].items(), strict=True):
        color = show.COLORS[signal]
        for order, phases in found["orders"].items():
            advance, style = phases["steps_per_pass"], STYLES[order]
            for axis, (sign, short) in zip(row, SIGNS.items(), strict=False):
                change = np.asarray([0, *phases[sign]["change"]])
                steps = advance * np.arange(len(change))
                axis.plot(steps, change, style, color=color, label=order)
                if order == "synchronous":
                    spread = np.asarray([0, *phases[sign]["change_deviation"]])
                    low, high = change - spread, change + spread
                    axis.fill_between(steps, low, high, color=color, alpha=0.15, lw=0)
                mean, deviation = (phases[sign][key][-1] for key in ("energy", "deviation"))
                axis.set_title(
                    f"{signal}-{short}, |β| = {found['beta']}: ends at {mean:.0f} ± {deviation:.0f}"
                )
                axis.set_ylabel("change of ½‖ξ‖² − Φ_Aug per image")
            _draw_residuals(row[2], phases["free"], advance, style, order)
            for sign, shade in (("positive", "tab:blue"), ("negative", "tab:purple")):
                label = f"{order}, {SIGNS[sign]}"
                _draw_residuals(row[3], phases[sign], advance, style, label, shade)
        row[2].set_title(f"{signal}: free phase")
        row[3].set_title(f"{signal}: nudged phases")
    for axis in axes.flat:
        axis.set_xlabel("synchronous steps (a sweep is two)")
        axis.legend(fontsize="small")
    show.save(figure, path)


def _draw_residuals(axis, phase, advance, style, label, color="0.3") -> None:
    residual = np.asarray(phase["residual"], float)
    steps = advance * np.arange(1, len(residual) + 1)
    axis.semilogy(steps, np.where(residual > 0, residual, np.nan), style, color=color, label=label)
    axis.set_ylabel("‖F(ξ) − ξ‖ / ‖ξ‖")
