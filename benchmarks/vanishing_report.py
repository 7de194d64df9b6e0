"""The table, the sentences and the picture of benchmarks.vanishing, from its JSON."""

from typing import Any

import numpy as np

from benchmarks import show

LABELS = {
    "activity": "mean |ξ| per neuron",
    "gradient": "mean |∂w| per parameter",
    "displacement": "‖ξ$^β$ − ξ*‖ per sample",
}
SHORT, LONG = "STD, brief", "STD, brief, long phases"


def last_epoch(result: dict[str, Any], name: str) -> dict[str, list[float | None]]:
    """The quantities by layer after the last epoch of a run."""
    epochs = [key for key in result["layers"][name] if key.startswith("epoch")]
    return result["layers"][name][max(epochs, key=lambda key: int(key.split()[1]))]


def dip(gradients: list[float | None]) -> float:
    """The smallest gradient of a layer between the ends over the smaller one of the two ends."""
    known = [g for g in gradients if g is not None]
    return min(known[1:-1]) / max(min(known[0], known[-1]), 1e-300)


def spread(gradients: list[float | None]) -> float:
    """The smallest gradient of a layer over the largest."""
    known = [g for g in gradients if g is not None]
    return min(known) / max(max(known), 1e-300)


def table(result: dict[str, Any]) -> str:
    """Accuracy and the sizes of the gradients of each run after its last epoch."""
    rows = []
    for name, row in result["runs"].items():
        gradients = last_epoch(result, name)["gradient"]
        known = [g for g in gradients if g is not None]
        phases = result["phases"][name]
        rows.append(
            [
                name,
                f"{phases['t_free']} / {phases['t_nudge']}",
                row["epochs"],
                f"{100 * row['test_accuracy']:.1f}",
                f"{known[0]:.1e}",
                f"{min(known[1:-1]):.1e}",
                f"{known[-1]:.1e}",
                f"{spread(gradients):.4f}",
            ]
        )
    header = ["run", "T_free / T_nudge", "epochs", "test, %", "gradient, first layer"]
    header += ["smallest between", "last layer", "smallest / largest"]
    return show.markdown(header, rows)


def says(result: dict[str, Any]) -> str:
    """What the result shows."""
    shares = {s: spread(last_epoch(result, s)["gradient"]) for s in ("STD", "LE", "KD")}
    accuracies = {name: 100 * row["test_accuracy"] for name, row in result["runs"].items()}
    phases = result["phases"][LONG]
    return (
        f"After training, the smallest gradient of a layer is {shares['STD']:.4f} of the largest "
        f"without signals, {shares['LE']:.4f} with LE and {shares['KD']:.4f} with KD "
        f"({accuracies['STD']:.1f}, {accuracies['LE']:.1f} and "
        f"{accuracies['KD']:.1f} % test accuracy). With T_free / T_nudge = {phases['t_free']} / "
        f"{phases['t_nudge']} the net without signals reaches {accuracies[LONG]:.1f} % in "
        f"{result['runs'][LONG]['epochs']} epochs on fewer images, in which it reaches "
        f"{accuracies[SHORT]:.1f} % with the usual phases and LE {accuracies['LE, brief']:.1f} %."
    )


def differs(result: dict[str, Any]) -> str:
    """Where it differs from the paper's Fig. 5, and why."""
    activity = {}
    for name in ("STD", "LE"):
        means = []
        for key, quantities in result["layers"][name].items():
            if key.startswith("epoch"):
                means.append(np.mean([v for v in quantities["activity"] if v is not None]))
        activity[name] = means
    falls = activity["STD"][-1] < 0.5 * activity["STD"][0]
    verb = "does not decay towards 0 over the epochs, unlike in the paper"
    if falls:
        verb = "decays over the epochs, as in the paper"
    end = dip(last_epoch(result, "STD")["gradient"])
    where = "between the ends, as in the paper"
    if end >= 1:
        where = "towards the input, not between the ends as in the paper"
    start = dip(result["start"][SHORT]["gradient"])
    longer = dip(result["start"][LONG]["gradient"])
    return (
        f"Mean activity without signals {verb} ({activity['STD'][0]:.3f} to "
        f"{activity['STD'][-1]:.3f}). Its gradients are smallest {where}: the smallest between the "
        f"ends is {end:.2f} of the smaller end; with the initial weights {start:.2f}, and "
        f"{longer:.2f} with long phases."
    )


def draw(result: dict[str, Any], path) -> None:
    """Fig. 5: a row for each quantity, a column for each signal; then the long phases."""
    signals = ("STD", "LE", "KD")
    figure, axes = show.panels(3, 4, sharey="row")
    for row, (quantity, label) in zip(axes, LABELS.items(), strict=True):
        for axis, signal in zip(row, signals, strict=False):
            found = result["layers"][signal]
            epochs = [key for key in found if key.startswith("epoch")]
            for shade, epoch in zip((0.35, 0.65, 1.0), epochs, strict=False):
                values = _plottable(found[epoch][quantity])
                axis.plot(values, "o-", ms=3, color=show.COLORS[signal], alpha=shade, label=epoch)
            axis.set_title(f"{signal}: {show.NAMES[signal]}")
            axis.legend(fontsize="small")
            _name_layers(axis, found["layers"])
        _draw_long(row[3], result, quantity)
        row[0].set_ylabel(label)
        row[0].set_yscale("log")
    show.save(figure, path)


def _draw_long(axis, result: dict[str, Any], quantity: str) -> None:
    styles = {SHORT: ("0.3", "o"), LONG: ("tab:purple", "^")}
    for name, (color, marker) in styles.items():
        phases = result["phases"][name]
        label = f"T = {phases['t_free']} / {phases['t_nudge']}"
        start, end = result["start"][name][quantity], last_epoch(result, name)[quantity]
        axis.plot(_plottable(start), marker + ":", ms=3, color=color, label=f"{label}, start")
        axis.plot(_plottable(end), marker + "-", ms=3, color=color, label=f"{label}, trained")
    axis.set_title("STD with long phases")
    axis.legend(fontsize="small")
    _name_layers(axis, result["layers"][SHORT]["layers"])


def _plottable(values: list[float | None]) -> np.ndarray:
    """A logarithmic axis has no place for 0: such a layer is a gap, as one without a value is."""
    array = np.array([np.nan if v is None else v for v in values], float)
    return np.where(array > 0, array, np.nan)


def _name_layers(axis, names: list[str]) -> None:
    axis.set_xticks(range(len(names)), names, rotation=60, ha="right", rotation_mode="anchor")
