"""The table, the sentences and the picture of benchmarks.contraction, from its JSON."""

from typing import Any

from benchmarks import show

ORDERS = {"synchronous": ("tab:blue", "o"), "alternating": ("tab:green", "^")}
PARTS = (("K1", "K₁", "0.35"), ("K2", "|β| K₂", "tab:olive"), ("K3", "|βκ| K₃", "tab:cyan"))


def weighted(net: dict[str, Any], row: dict[str, Any]) -> dict[str, float]:
    """K₁, |β| K₂, |βκ| K₃: the three terms of the bound."""
    beta, kappa = net["beta"], net["kappa"]
    return {"K1": row["K1"], "K2": beta * row["K2"], "K3": beta * kappa * row["K3"]}


def largest_beta(net: dict[str, Any], row: dict[str, Any]) -> float:
    """The β under which the theorem's condition holds, (1 - K₁) / (K₂ + κ K₃); 0 if for none."""
    return max(0.0, (1 - row["K1"]) / (row["K2"] + net["kappa"] * row["K3"]))


def _rows(result: dict[str, Any]):
    for name, net in result["nets"].items():
        for part, key in (("along_training", "epoch"), ("over_factor", "factor")):
            for row in net[part]:
                yield name, net, key, row


def table(result: dict[str, Any]) -> str:
    """Constants, bound and measured decay: first and last epoch, and every factor."""
    rows = []
    for name, net, key, row in _rows(result):
        ends = (net["along_training"][0], net["along_training"][-1])
        if key == "epoch" and row not in ends:  # the picture has them all
            continue
        where = f"epoch {row[key]}" if key == "epoch" else f"weights × {row[key]:.2g}"
        phases = row["phases"].values()
        terms = weighted(net, row)
        rows.append(
            [
                name,
                where,
                *(f"{terms[part]:.3g}" for part, _, _ in PARTS),
                f"{row['bound']:.3g}",
                "yes" if row["holds"] else "no",
                f"{largest_beta(net, row):.2g}",
                f"{row['local']['radius']:.3f}",
                f"{max(phase['ratio'] for phase in phases):.3f}",
                f"{max(phase['ratio_alternating'] for phase in phases):.3f}",
                f"{max(phase['largest_ratio_to_bound'] for phase in phases):.2f}",
                sum(phase["steps_with_a_jump"] for phase in phases),
                *(f"{row['residual_after'][o]:.0e}" for o in ("synchronous", "alternating")),
            ]
        )
    header = ["net", "weights", *(label for _, label, _ in PARTS), "bound", "< 1", "largest β"]
    header += ["radius", "decay", "decay, alternating", "largest ratio / bound", "jumps"]
    header += ["free residual, synchronous", "free residual, alternating"]
    return show.markdown(header, rows)


def says(result: dict[str, Any]) -> str:
    """What the result shows."""
    rows = list(_rows(result))
    phases = [phase for *_, row in rows for phase in row["phases"].values()]
    trained = [row for _, _, key, row in rows if key == "epoch"]
    factors = [row for _, _, key, row in rows if key == "factor"]
    held = [row for *_, row in rows if row["holds"]]
    steps = sum(phase["steps_linear"] for phase in phases)
    share = max(phase["largest_ratio_to_bound"] for phase in phases)
    inside = "it holds nowhere"
    if held:
        slowest = max(phase["ratio"] for row in held for phase in row["phases"].values())
        inside = (
            f"where it holds, for bounds up to {max(row['bound'] for row in held):.2f}, the "
            f"residual shrank to at most {slowest:.2f} of itself per step"
        )
    return (
        f"In {steps} nudged steps without a change of a pool's maximum the residual never shrank "
        f"less than the bound allows (largest ratio {share:.2f} of its bound). Along training the "
        f"bound is {min(r['bound'] for r in trained):.3g} to {max(r['bound'] for r in trained):.3g}"
        f", so the theorem's condition holds for {sum(r['holds'] for r in trained)} of "
        f"{len(trained)} pairs of epoch and β, and for {sum(r['holds'] for r in factors)} of "
        f"{len(factors)} pairs of scaled weights and β; {inside}."
    )


def differs(result: dict[str, Any]) -> str:
    """Where the theorem's assumptions fail, and what happens there."""
    rows = list(_rows(result))
    outside = [row for *_, row in rows if not row["holds"]]
    stuck = [r for r in outside if r["residual_after"]["synchronous"] > 1e-3]
    calm = [r for r in stuck if r["residual_after"]["alternating"] < 1e-3]
    phases = [phase for *_, row in rows for phase in row["phases"].values()]
    jumps = sum(phase["steps_with_a_jump"] for phase in phases)
    highest = max((phase["largest_ratio_at_a_jump"] for phase in phases), default=0.0)
    return (
        f"The paper assumes K₁ < 1 and never measures it. Where the condition fails "
        f"({len(outside)} of {len(rows)} pairs) the synchronous free phase has converged "
        f"all the same (residual under 1e-3) in {len(outside) - len(stuck)}, not in {len(stuck)}; "
        f"alternating sweeps converge in {len(calm)} of those. "
        f"{jumps} steps changed a pool's maximum, where ∂Φ/∂ξ is not continuous and the bound says "
        f"nothing: the largest ratio there was {highest:.2f}."
    )


def draw(result: dict[str, Any], path) -> None:
    """A row for each net: the bound and the decay along training; what happens over the factor."""
    figure, axes = show.panels(len(result["nets"]), 3)
    for (bound, decay, over), (name, net) in zip(axes, result["nets"].items(), strict=True):
        epochs = [row["epoch"] for row in net["along_training"]]
        terms = [weighted(net, row) for row in net["along_training"]]
        for part, label, color in PARTS:
            bound.semilogy(epochs, [t[part] for t in terms], ".-", color=color, label=label)
        sums = [row["bound"] for row in net["along_training"]]
        bound.semilogy(epochs, sums, "k-", label="sum")
        bound.axhline(1, color="k", ls=":", label="condition: sum < 1")
        bound.set(title=f"{name}: terms of the bound", ylabel="K₁, |β| K₂, |βκ| K₃")
        bound.legend(fontsize="small")
        show.whole_epochs(bound)
        _draw_decay(decay, net, epochs)
        _draw_factor(over, net)
    show.legend_below(figure, decay, 4)
    show.save(figure, path)


def _draw_decay(axis, net, epochs) -> None:
    rows = net["along_training"]
    axis.plot(epochs, [row["bound"] for row in rows], "k-", label="bound of the theorem")
    axis.plot(epochs, [row["K1"] for row in rows], "-", color="0.35", label="K₁ (β = 0)")
    radius = [row["local"]["radius"] for row in rows]
    axis.plot(epochs, radius, "--", color="tab:purple", label="spectral radius, free")
    for order, key in (("synchronous", "ratio"), ("alternating", "ratio_alternating")):
        for sign, beta, filled in (("positive", "β", "full"), ("negative", "−β", "none")):
            values = [row["phases"][sign][key] for row in rows]
            style = {"color": ORDERS[order][0], "marker": ORDERS[order][1], "fillstyle": filled}
            axis.plot(epochs, values, lw=0, label=f"{order}, {beta}", **style)
    axis.set_yscale("log")
    axis.set(title="decay of the residual per step", ylabel="ratio of successive residuals")
    show.whole_epochs(axis)


def _draw_factor(axis, net) -> None:
    rows = net["over_factor"]
    for order, (color, marker) in ORDERS.items():
        values = [max(row["residual_after"][order], 1e-16) for row in rows]
        axis.loglog([row["K1"] for row in rows], values, marker + "-", color=color, label=order)
    axis.set_ylim(3e-17, 10)
    show.plain_ticks(axis.xaxis)
    axis.axvline(1, color="k", ls=":", label="K₁ = 1")
    axis.set(title="trained weights × factor", xlabel="K₁", ylabel="free residual at the end")
    axis.legend(fontsize="small")
