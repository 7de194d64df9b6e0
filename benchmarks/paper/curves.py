"""Fig. 4: how fast do LE and KD learn?

Accuracy and loss per epoch of VGG-7 under local errors and distillation; at small scale the net has
a quarter of the width and sees 3000 images.
"""

from collections.abc import Sequence

from benchmarks.shared import nets, runs, show
from benchmarks.shared.results import Claim, Claims, Result

SIGNALS = ("LE", "KD")
# Tiny on digits: CIFAR alone takes longer to load.
SCALES = {"tiny": nets.DIGITS_5, "small": nets.CIFAR_7, "paper": nets.PAPER_7}
# Of the paper's Fig. 4: LE is over it before epoch 15 of 250, KD after epoch 45.
LEVEL = 0.7


def specs(scale: str) -> dict[str, runs.Run]:
    """The two runs of a scale, by signal."""
    return runs.of_scale(scale, {signal: SCALES[scale][signal] for signal in SIGNALS})


def reached(curve: Sequence[float], level: float) -> int | None:
    """First epoch, from 1, at which an accuracy is at `level` or above; None if never."""
    return next((epoch for epoch, value in enumerate(curve, 1) if value >= level), None)


def level_of(result: Result) -> float:
    """The accuracy whose epoch is compared: the paper's 70 %, or 80 % of the lower best."""
    best = min(max(row["test_acc"]) for row in result["runs"].values())
    return min(LEVEL, 0.8 * best)


def table(result: Result) -> str:
    """Accuracies at the end, and how soon a common level was reached."""
    level, rows = level_of(result), []
    for signal, row in result["runs"].items():
        first = reached(row["test_acc"], level) or "never"
        seconds = f"{row['training_seconds']:.0f}"
        rows.append([signal, row["epochs"], *runs.percents([row]), first, seconds])
    soon = f"test at {100 * level:.0f} % from epoch"
    return show.markdown(["signal", "epochs", "train, %", "test, %", soon, "seconds"], rows)


def claims(result: Result) -> Claims:
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
    panels = []
    for label, column, scale in (("accuracy, %", "acc", 100), ("loss, nats per sample", "loss", 1)):
        parts = [
            show.line(
                f"{signal}, {part}",
                [scale * value for value in row[f"{part}_{column}"]],
                style=style,
                color=show.COLORS[signal],
            )
            for signal, row in result["runs"].items()
            for part, style in (("train", "--"), ("test", "-"))
        ]
        panels.append(show.Panel("", parts, label, ylim=(0, None)))
    return show.figure([panels], legend=4)
