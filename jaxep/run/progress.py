"""How far a run is: a bar in a terminal or a notebook, a line for each epoch."""

from __future__ import annotations

import importlib.util
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from tqdm import tqdm


def new_bar() -> Callable[..., tqdm] | None:
    """What makes a bar where somebody may see it: in a terminal, and in a notebook with widgets."""
    kernel = sys.modules.get("ipykernel.zmqshell")
    if kernel is not None and kernel.ZMQInteractiveShell.initialized():
        # As text a bar in a notebook is a line for each move.
        if importlib.util.find_spec("ipywidgets") is None:
            return None
        from tqdm.notebook import tqdm as of_widgets

        return of_widgets
    return tqdm if sys.stderr is not None and sys.stderr.isatty() else None


class Bar:
    """The bar of an epoch; nothing where nobody watches."""

    def __init__(self) -> None:
        self._new = new_bar()
        self._bar: tqdm | None = None

    def move(self, title: str, done: int, total: int, began: float) -> None:
        """To `done` of `total` steps of an epoch that began at this time."""
        if self._new is None:
            return
        try:
            if self._bar is None:
                self._bar = self._new(
                    total=total, desc=title, leave=False, unit="step", dynamic_ncols=True
                )
                self._bar.start_t = began  # it first hears of the epoch when steps are done
            self._bar.update(done - self._bar.n)
        except OSError:  # the terminal is gone
            self._new = None

    def close(self) -> None:
        """Takes the bar away."""
        # A terminal that is gone takes no bar; nothing of the run depends on it.
        with suppress(OSError):
            if self._bar is not None:
                self._bar.close()
        self._bar = None


def line(metrics: Mapping[str, Any], total: int, seconds: Sequence[float]) -> str:
    """What is said of an epoch.

    Args:
      metrics: its numbers, by the columns of metrics.csv.
      total: epochs of the run.
      seconds: of the epochs up to this one, from which the time that is left is guessed.
    """
    epoch = int(metrics["epoch"])
    shown = [f"epoch {epoch:{len(str(total))}d}/{total}"]
    for name, column, form in (
        ("loss", "train_loss", ".3f"),
        ("acc", "train_acc", ".3f"),
        ("test", "test_acc", ".3f"),
        ("kappa", "kappa", ".3g"),
        ("residual", "free_residual", ".0e"),
    ):
        if metrics.get(column) is not None:
            shown.append(f"{name} {float(metrics[column]):{form}}".replace("e-0", "e-"))
    if metrics.get("seconds") is not None:
        shown.append(f"{float(metrics['seconds']):.1f} s")
    if seconds and epoch < total:
        # The first epoch compiles: the median forgets it soon.
        shown.append(f"{duration((total - epoch) * statistics.median(seconds[-9:]))} left")
    return "  ".join(shown)


def duration(seconds: float) -> str:
    """As a reader says it: 50 s, 12 min, 3 h 20 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
