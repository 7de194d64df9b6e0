"""The table and the picture of benchmarks.step_time, from its JSON."""

from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.provenance import RESULTS

NETS = ("vgg5", "vgg7", "vgg12")


def table(result: dict[str, Any]) -> str:
    """Milliseconds and ratios to jaxep, as Markdown."""
    lines = [
        "| net, batch | engine | step, ms | ÷ jaxep | training step, ms | ÷ jaxep |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for net in (net for net in NETS if net in result):
        row = result[net]
        step, learn = row["step_ms"], row["training_step_ms"]
        for engine in [*learn, *(name for name in step if name not in learn)]:
            cells = [_cells(step, engine, 1), _cells(learn, engine, 0)]
            lines.append(f"| {net}, {row['batch']} | {engine} | {' | '.join(cells)} |")
        lines.append(
            f"| {net}, {row['batch']} | limit: {row['step_gflop']:.2f} GFLOP at "
            f"{row['matmul_gflops']:.0f} GFLOP/s | "
            f"{step['jaxep'] * row['share_of_limit']:.1f} | {row['share_of_limit']:.2f} | | |"
        )
    for net in (net for net in NETS if net in result):
        for name, q in result[net]["quality"].items():
            lines.append(
                f"\n{net}, {name}: {q['free_steps']} + {q['nudge_steps']} sweeps, residual "
                f"{q['residual']:.0e}, cosine to the exact gradient {q['cosine']:.4f}"
            )
        lines.append(f"\n{net}: compiling the training step takes {result[net]['compile_s']:.0f} s")
    return "\n".join(lines)


def _cells(times: dict[str, float], engine: str, digits: int) -> str:
    """Milliseconds and ratio to jaxep, or two empty cells."""
    if engine not in times:
        return " | "
    return f"{times[engine]:.{digits}f} | {times[engine] / times['jaxep']:.2f}"


def draw(result: dict[str, Any]) -> None:
    """Bars of both times, a panel for each net: results/step_time.png."""
    nets = [net for net in NETS if net in result]
    figure = Figure(figsize=(9, 2.6 * len(nets)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(nets), 2, squeeze=False)
    for axes, net in zip(grid, nets, strict=True):
        row = result[net]
        seconds = {name: value / 1e3 for name, value in row["training_step_ms"].items()}
        for axis, times, digits, label in (
            (axes[0], row["step_ms"], 0, "one synchronous step, ms"),
            (axes[1], seconds, 1, "one training step (three phases), s"),
        ):
            colors = ["C0" if name.startswith("jaxep") else "0.7" for name in times]
            bars = axis.barh(list(times), list(times.values()), color=colors)
            axis.bar_label(bars, fmt=f"%.{digits}f", padding=3)
            axis.invert_yaxis()
            axis.margins(x=0.22)
            axis.set(title=f"{net}, batch {row['batch']}", xlabel=label)
        limit = row["step_ms"]["jaxep"] * row["share_of_limit"]
        axes[0].axvline(limit, color="C3", linestyle="--", label="limit: direct FLOP / matmul rate")
        axes[0].legend(loc="lower right", fontsize="x-small")
    figure.savefig(RESULTS / "step_time.png", dpi=150)
