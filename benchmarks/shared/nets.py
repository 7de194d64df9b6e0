"""The networks of the benchmarks: for each a run under STD, LE, KD (and KDW) with equal settings.

Layers of Υ end in a pool where a teacher gives the targets; LE reads the layers of its configs.
Seeds and scales are the benchmarks' own business.
"""

from typing import Any

from benchmarks.shared.runs import Run, load_config
from jaxep.nets.specs import parse_conv

Net = dict[str, Run]
Layers = tuple[int, ...]
SILENT = {"signal": "none", "signal_layers": (), "kappa": 0.0}
# Of cifar10_small_le and what builds on it: only the readout learns.
FROZEN = {**SILENT, "learning_rates": (*(0.0,) * 6, 0.02)}


def _signals(base: Run, local: Layers, pooled: Layers, teacher: str, kdw: float) -> Net:
    """One net under all signals: Υ of LE, Υ of KD and KDW, their teacher, κ of KDW."""
    distilled = base.but(teacher=teacher, signal_layers=pooled, kappa=10.0)
    return {
        "STD": base.but(**SILENT),
        "LE": base.but(signal_layers=local),
        "KD": distilled.but(signal="kd"),
        "KDW": distilled.but(signal="kdw", kappa=kdw),
    }


def chain(config: str, conv: str, rates: tuple[float, float], **changes: Any) -> Run:
    """A run of other convolutions; `rates`: of all weights but the last, and of the last."""
    weights = len(parse_conv(conv)) + len(changes.get("hidden", load_config(config)["hidden"]))
    learning_rates = (rates[0],) * weights + (rates[1],)
    return Run(config, {"conv": conv, "learning_rates": learning_rates, **changes})


def _digits(conv: str, local: Layers, pooled: Layers, epochs: int) -> Net:
    """A digits net of the given convolutions with a hidden layer of 64 and a readout."""
    base = chain("digits_deep_le", conv, (0.005, 0.03), batch_size=26, epochs=epochs)
    return _signals(base, local, pooled, "configs/teacher_digits_deep.py", kdw=10.0)


def _cifar(conv: str, hidden: tuple[int, ...], local: Layers, pooled: Layers) -> Net:
    """A quarter-width net on 3000 CIFAR-10 images."""
    base = chain("cifar10_small_le", conv, (0.004, 0.02), hidden=hidden, epochs=8)
    return _signals(base, local, pooled, "configs/teacher_cifar10_small.py", kdw=1.0)


DIGITS_5 = _digits("32 M 32 M 64 M", (0, 1, 2), (0, 1, 2), 20)
DIGITS_11 = _digits("32 32 M 32 32 32 M 64 64 64 64 M", (0, 1, 3, 5, 7), (1, 4, 8), 25)
CIFAR_5 = _cifar("16 M 32 M 64 M 128 M", (), (0, 2, 3), (0, 1, 2, 3))
CIFAR_7 = _cifar("16 M 32 M 64 M 128 M 128 M", (128,), (0, 2, 4), (0, 2, 4))
CIFAR_11 = _cifar(
    "16 M 32 M 64 64 M 128 128 M 128 128 M", (128, 128), (0, 1, 3, 5, 7), (0, 1, 3, 5, 7)
)

# The paper's. Fig. 1 trains VGG-5 and VGG-11 on CIFAR-10; its VGG-5 has other widths than its
# teachers, so that KD cannot compare them: here all three signals train the first four blocks.
PAPER_7 = {signal: Run(f"vgg7_{signal.lower()}") for signal in ("STD", "LE", "KD", "KDW")}
_ON_CIFAR10 = {"dataset": "cifar10", "teacher": "configs/teacher_vgg19_cifar10.py"}
_PAPER_5 = {"conv": "64 M 128 M 256 M 512 M", "hidden": (), "learning_rates": (0.03,) * 5}
PAPER_5 = {
    "STD": Run("vgg7_std", _PAPER_5),
    "LE": Run("vgg7_le", {**_PAPER_5, "signal_layers": (1, 3)}),
    "KD": Run("vgg7_kd", {**_PAPER_5, "signal_layers": (1, 3)}),
}
PAPER_11 = {
    "STD": Run("vgg11_std", {"dataset": "cifar10"}),
    "LE": Run("vgg11_le", {"dataset": "cifar10"}),
    "KD": Run("vgg11_le", {**_ON_CIFAR10, "signal": "kd", "signal_layers": (0, 1, 3, 5, 7)}),
}
