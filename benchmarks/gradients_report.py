"""The table, the sentences and the picture of benchmarks.gradients, from its JSON."""

from typing import Any

from benchmarks import show

WANTED = {"centered": 2.0, "one_sided": 1.0}
ALLOWED = 0.2


def worst(comparison: dict[str, Any]) -> tuple[float, float]:
    """(smallest cosine, largest relative error) over the layers; None is a part without one."""
    known = [v for v in comparison["cosine"].values() if v is not None]
    return min(known), max(v for v in comparison["error"].values() if v is not None)


def table(result: dict[str, Any]) -> str:
    """Slopes, and the worst layer of each comparison."""
    rows = []
    for signal, found in result["signals"].items():
        cosine, error = worst(found["ep_against_exact"])
        bptt_cosine, bptt_error = worst(found["ep_against_bptt"])
        step = max(worst(row["ep_against_bptt"])[1] for row in found["by_step"])
        rows.append(
            [
                signal,
                f"{found['slopes']['centered']:.3f}",
                f"{found['slopes']['one_sided']:.3f}",
                f"1 − {1 - cosine:.0e}",
                f"{error:.0e}",
                f"1 − {1 - bptt_cosine:.0e}",
                f"{bptt_error:.0e}",
                f"{step:.0e}",
            ]
        )
    header = [
        "signal",
        "slope, centered",
        "slope, one-sided",
        "EP, exact: cosine",
        "error",
        "EP, BPTT: cosine",
        "error",
        "EP, BPTT by step: error",
    ]
    return show.markdown(header, rows)


def slopes_hold(result: dict[str, Any]) -> bool:
    """Whether every slope is within 0.2 of its order."""
    return all(
        abs(found["slopes"][name] - order) <= ALLOWED
        for found in result["signals"].values()
        for name, order in WANTED.items()
    )


def says(result: dict[str, Any]) -> str:
    """What the result shows."""
    slopes = {
        name: [found["slopes"][name] for found in result["signals"].values()] for name in WANTED
    }
    cosine = min(worst(found["ep_against_exact"])[0] for found in result["signals"].values())
    steps = max(
        worst(row["ep_against_bptt"])[1]
        for found in result["signals"].values()
        for row in found["by_step"]
    )
    return (
        f"The error of the centered estimate falls as β to the power "
        f"{min(slopes['centered']):.3f} to {max(slopes['centered']):.3f}, of the one-sided "
        f"{min(slopes['one_sided']):.3f} to {max(slopes['one_sided']):.3f} (β from "
        f"{result['fitted'][0]} to {result['fitted'][1]}); at "
        f"β = {result['small_beta']} every layer's cosine to the exact gradient is at least "
        f"1 − {1 - cosine:.0e}, and after each number of nudged steps EP "
        f"equals BPTT through as many steps to {steps:.0e}."
    )


def differs(result: dict[str, Any]) -> str:
    """Where it differs from eq. 6 and Theorem 3.2."""
    if slopes_hold(result):
        return (
            "Nothing differs from eq. 6 and Theorem 3.2 for small β, converged phases and units "
            "off the corners of σ; at the β of the paper's configs (0.15 to 1) the picture shows "
            "how large the error is."
        )
    return "Some slope is more than 0.2 off its order: the theorem's O(β²) is not seen."


def draw(result: dict[str, Any], path) -> None:
    """Error over β, by layer, and by nudged step."""
    figure, axes = show.panels(1, 3)
    over_beta, by_layer, by_step = axes[0]
    for signal, found in result["signals"].items():
        color = show.COLORS[signal]
        for name, style in (("centered", "-"), ("one_sided", "--")):
            errors = found["errors"][name]
            over_beta.loglog(found["betas"], errors, style, color=color, marker=".", ms=4)
        errors = found["ep_against_exact"]["error"]
        layers = [name for name in errors if not name.startswith("signal")]
        by_layer.semilogy([errors[name] for name in layers], "o-", color=color, ms=4, label=signal)
        by_layer.semilogy(
            [found["ep_against_bptt"]["error"][name] for name in layers], "x", color=color
        )
        steps = [row["steps"] for row in found["by_step"]]
        for key, style in (("ep_against_exact", "-"), ("ep_against_bptt", "x")):
            values = [row[key]["error_of_all"] for row in found["by_step"]]
            by_step.semilogy(steps, values, style, color=color)
    over_beta.plot([], [], "k-", label="centered")
    over_beta.plot([], [], "k--", label="one-sided")
    over_beta.axvspan(*result["fitted"], color=show.NEUTRAL, alpha=0.15, lw=0, label="fitted")
    over_beta.legend(loc="lower right", fontsize="small")
    over_beta.set(xlabel="β", ylabel="relative error of the gradient", title="error over β")
    by_layer.set_xticks(range(len(layers)), layers, rotation=40, ha="right", rotation_mode="anchor")
    by_layer.set(title=f"by layer, β = {result['small_beta']}", ylabel="relative error of EP")
    by_layer.plot([], [], "kx", label="against BPTT (lines: against exact)")
    by_step.set(xlabel="nudged steps", ylabel="relative error of EP", title="by nudged step")
    show.legend_below(figure, by_layer, 5)
    show.save(figure, path)
