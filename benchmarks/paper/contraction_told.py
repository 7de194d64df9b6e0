"""The table, the claims and the picture of `contraction`, from its JSON."""

from collections.abc import Iterator
from typing import Any

from benchmarks.shared import show
from benchmarks.shared.results import Claim, Claims, Result

ORDERS = {"synchronous": ("tab:blue", "o"), "alternating": ("tab:green", "^")}
PARTS = (("K1", "K₁", "0.35"), ("K2", "|β| K₂", "tab:olive"), ("K3", "|βκ| K₃", "tab:cyan"))
# Under this relative residual a free phase has converged.
CONVERGED = 1e-3
Row = dict[str, Any]


def weighted(net: dict[str, Any], row: Row) -> dict[str, float]:
    """K₁, |β| K₂, |βκ| K₃: the three terms of the bound."""
    beta, kappa = net["beta"], net["kappa"]
    return {"K1": row["K1"], "K2": beta * row["K2"], "K3": beta * kappa * row["K3"]}


def largest_beta(net: dict[str, Any], row: Row) -> float:
    """The β under which the theorem's condition holds, (1 - K₁) / (K₂ + κ K₃); 0 if for none."""
    return max(0.0, (1 - row["K1"]) / (row["K2"] + net["kappa"] * row["K3"]))


def _rows(result: Result) -> Iterator[tuple[str, dict[str, Any], str, Row]]:
    for name, net in result["nets"].items():
        for part, key in (("along_training", "epoch"), ("over_factor", "factor")):
            for row in net[part]:
                yield name, net, key, row


def table(result: Result) -> str:
    """Constants, bound and measured decay: first and last epoch, and every factor."""
    rows = []
    for name, net, key, row in _rows(result):
        ends = (net["along_training"][0], net["along_training"][-1])
        if key == "epoch" and row not in ends:  # the picture has them all
            continue
        phases, terms = row["phases"].values(), weighted(net, row)
        largest = {k: max(phase[k] for phase in phases) for k in row["phases"]["positive"]}
        weights = f"epoch {row[key]}" if key == "epoch" else f"weights × {row[key]:.2g}"
        bound = [*(f"{term:.3g}" for term in (*terms.values(), row["bound"]))]
        bound += ["yes" if row["holds"] else "no", f"{largest_beta(net, row):.2g}"]
        decay = [row["local"]["radius"], largest["ratio"], largest["ratio_alternating"]]
        shown = [f"{value:.3f}" for value in decay]
        shown += [f"{largest['largest_ratio_to_bound']:.2f}"]
        shown += [sum(phase["steps_with_a_jump"] for phase in phases)]
        shown += [f"{row['residual_after'][order]:.0e}" for order in ORDERS]
        rows.append([name, weights, *bound, *shown])
    header = ["net", "weights", *(label for _, label, _ in PARTS), "bound", "< 1", "largest β"]
    header += ["radius", "decay", "decay, alternating", "largest ratio / bound", "jumps"]
    header += ["free residual, synchronous", "free residual, alternating"]
    return show.markdown(header, rows)


def claims(result: Result) -> Claims:
    """What the bound says and where its condition holds, and what happens where it does not."""
    every = [(key, row) for _, _, key, row in _rows(result)]
    phases = [phase for _, row in every for phase in row["phases"].values()]
    share = max(phase["largest_ratio_to_bound"] for phase in phases)
    statement = "A nudged residual is at most K₁ + |β| K₂ + |βκ| K₃ times the one before"
    here = f"in {sum(phase['steps_linear'] for phase in phases)} steps without a change of a "
    here += f"pool's maximum the largest ratio is {share:.2f} of its bound"
    yield Claim(statement, "it is (Theorem 3.1)", here, share <= 1)
    for key, what in (("epoch", "Along training"), ("factor", "For weights × 0.05 to 2")):
        rows = [row for k, row in every if k == key]
        held = sum(row["holds"] for row in rows)
        here = f"for {held} of {len(rows)} pairs with β; {show.between(r['bound'] for r in rows)}"
        assumed, holds = "assumed (K₁ < 1), never measured", held == len(rows)
        told = (assumed, here, holds) if key == "epoch" else ("not told", here)
        yield Claim(f"{what} that bound is under 1, the condition of the theorem", *told)
    if within := [row for _, row in every if row["holds"]]:
        slowest = max(phase["ratio"] for row in within for phase in row["phases"].values())
        here = f"for bounds up to {max(row['bound'] for row in within):.2f} the residual shrank to "
        here += f"at most {slowest:.2f} of itself per step"
        yield Claim("Where it is, the nudged phases converge", "they do", here, slowest < 1)
    outside = [row for _, row in every if not row["holds"]]
    for order in ORDERS:
        calm = sum(row["residual_after"][order] < CONVERGED for row in outside)
        here = f"in {calm} of {len(outside)} pairs (residual under {CONVERGED:g})"
        statement = f"Where it is not, {order} free phases converge all the same"
        yield Claim(statement, "not told", here, calm == len(outside))
    jumps = sum(phase["steps_with_a_jump"] for phase in phases)
    highest = max(phase["largest_ratio_at_a_jump"] for phase in phases)
    here = f"{jumps} steps changed a pool's maximum, where it jumps; residuals grew to "
    here += f"{highest:.2f} of themselves"
    yield Claim("∂Φ/∂ξ is continuous", "assumption (1)", here, jumps == 0)


def draw(result: Result):
    """A row for each net: the bound and the decay along training; what happens over the factor."""
    return show.figure([_panels(*pair) for pair in result["nets"].items()], legend=4, of=1)


def _panels(name: str, net: dict[str, Any]) -> list[show.Panel]:
    rows = net["along_training"]
    epochs = [row["epoch"] for row in rows]
    bound = [
        show.line(label, [weighted(net, r)[part] for r in rows], epochs, ".-", color=color)
        for part, label, color in PARTS
    ]
    sums = [row["bound"] for row in rows]
    bound += [show.line("sum", sums, epochs, "k-"), show.level(1, "condition: sum < 1", color="k")]
    radius = [row["local"]["radius"] for row in rows]
    decay = [
        show.line("bound of the theorem", sums, epochs, "k-"),
        show.line("K₁ (β = 0)", [row["K1"] for row in rows], epochs, color="0.35"),
        show.line("spectral radius, free", radius, epochs, "--", color="tab:purple"),
    ]
    for order, key in (("synchronous", "ratio"), ("alternating", "ratio_alternating")):
        for sign, beta, filled in (("positive", "β", "full"), ("negative", "−β", "none")):
            values = [row["phases"][sign][key] for row in rows]
            style = {"color": ORDERS[order][0], "fillstyle": filled}
            decay.append(show.line(f"{order}, {beta}", values, epochs, ORDERS[order][1], **style))
    rows, over = net["over_factor"], []
    for order, (color, marker) in ORDERS.items():
        values = [max(row["residual_after"][order], 1e-16) for row in rows]
        constants = [row["K1"] for row in rows]
        over.append(show.line(order, values, constants, f"{marker}-", color=color))
    over.append(show.upright(1, "K₁ = 1", color="k"))
    own: dict[str, Any] = {"ylim": (3e-17, 10), "ticks": "plain", "legend": "best"}
    ratio, end = "ratio of successive residuals", "free residual at the end"
    terms = "K₁, |β| K₂, |βκ| K₃"
    return [
        show.Panel(f"{name}: terms of the bound", bound, terms, log="y", legend="best"),
        show.Panel("decay of the residual per step", decay, ratio, log="y"),
        show.Panel("trained weights × factor", over, end, "K₁", "xy", **own),
    ]
