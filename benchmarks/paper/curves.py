"""Fig. 4: how fast do LE and KD learn?

Accuracy and loss per epoch of VGG-7 under local errors and distillation; at small scale the net has
a quarter of the width and sees 3000 images.
"""

from collections.abc import Iterator, Sequence

from benchmarks.shared import nets, runs, show
from benchmarks.shared.results import Claim, Result

SIGNALS = ("LE", "KD")
# Of the paper's Fig. 4: LE is over it before epoch 15 of 250, KD after epoch 45.
LEVEL = 0.7


def specs(scale: str) -> dict[str, runs.Run]:
    """The two runs of a scale, by signal."""
    net = nets.PAPER_7 if scale == "paper" else nets.CIFAR_7
    named = {signal: net[signal] for signal in SIGNALS}
    if scale == "tiny":  # on digits: CIFAR alone takes longer to load
        named = {signal: runs.shrink(nets.DIGITS_5[signal]) for signal in SIGNALS}
    return named


def reached(curve: Sequence[float], level: float) -> int | None:
    """First epoch, from 1, at which an accuracy is at `level` or above; None if never."""
    return next((epoch for epoch, value in enumerate(curve, 1) if value >= level), None)


def level_of(result: Result) -> float:
    """The accuracy whose epoch is compared: the paper's 70 %, or 80 % of the lower best."""
    best = min(max(row["test_acc"]) for row in result["runs"].values())
    return min(LEVEL, 0.8 * best)


def table(result: Result) -> str:
    """Accuracies at the end, and how soon a common level was reached."""
    level = level_of(result)
    rows = []
    for signal, row in result["runs"].items():
        reached_at = [f"{100 * row[key]:.1f}" for key in ("train_accuracy", "test_accuracy")]
        first = reached(row["test_acc"], level) or "never"
        rows.append([signal, row["epochs"], *reached_at, first, f"{row['training_seconds']:.0f}"])
    soon = f"test at {100 * level:.0f} % from epoch"
    return show.markdown(["signal", "epochs", "train, %", "test, %", soon, "seconds"], rows)


def claims(result: Result) -> Iterator[Claim]:
    """KD starts later and ends higher."""
    level, rows = level_of(result), result["runs"]
    le, kd = (reached(rows[signal]["test_acc"], level) for signal in SIGNALS)
    paper = "at 70 % after epoch 45, LE before epoch 15, of 250"
    here = f"at {100 * level:.0f} % in epoch {kd}, LE in epoch {le}, of {rows['LE']['epochs']}"
    yield Claim("KD starts later than LE", paper, here, le is not None and (kd or 10**9) > le)
    ends = {signal: row["test_accuracy"] for signal, row in rows.items()}
    teacher = f"{100 * rows['KD']['teacher_test_accuracy']:.1f} %"
    here = f"{100 * ends['KD']:.1f} against {100 * ends['LE']:.1f} %; the teacher has {teacher}"
    yield Claim("KD ends above LE", "89.67 against 88.99 %", here, ends["KD"] > ends["LE"])
    paper = "VGG-7 at full width, 50000 augmented images, 250 epochs"
    here = f"{rows['LE']['parameters'] / 1e6:.2f} million parameters, {rows['LE']['epochs']} epochs"
    yield Claim("What is trained", paper, f"{here}, {result['scale']} scale")


def draw(result: Result):
    """Accuracy and loss, training and test."""

    def panel(label: str, column: str, scale: int) -> show.Panel:
        parts = []
        for signal, row in result["runs"].items():
            for part, style in (("train", "--"), ("test", "-")):
                values = [scale * value for value in row[f"{part}_{column}"]]
                color = show.COLORS[signal]
                parts.append(show.line(f"{signal}, {part}", values, style=style, color=color))
        return show.Panel("", parts, label, ylim=(0, None))

    panels = [panel("accuracy, %", "acc", 100), panel("loss, nats per sample", "loss", 1)]
    return show.figure([panels], legend=4)
