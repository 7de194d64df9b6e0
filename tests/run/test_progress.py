"""How far a run is: lines and bars."""

import importlib.util
import io
import sys
import time
import types

import pytest

from jaxep.run import progress

ROW = {"epoch": 2, "train_loss": 0.5, "train_acc": 0.75, "test_acc": 0.5, "seconds": 2.0}


def test_a_line_tells_the_time_that_is_left():
    told = progress.line(ROW, 12, [30.0, 2.0, 2.0])
    # The first epoch, which compiles, is forgotten.
    assert told == "epoch  2/12  loss 0.500  acc 0.750  test 0.500  2.0 s  20 s left"
    assert progress.line({**ROW, "epoch": 12}, 12, [2.0]).endswith("  2.0 s")
    assert progress.line({"epoch": 1}, 2, []) == "epoch 1/2"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (99, "99 s"), (150, "2 min"), (12_000, "3 h 20 min")]
)
def test_durations(seconds, text):
    assert progress.duration(seconds) == text


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_moves_where_somebody_watches(monkeypatch):
    for stream, seen in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        bar = progress.Bar()
        bar.move("epoch 1/2", 3, 4, time.time() - 1)
        bar.close()
        assert ("epoch 1/2" in stream.getvalue()) is seen


def test_a_notebook_has_a_bar_of_widgets_or_none(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    shell = types.SimpleNamespace(initialized=lambda: True)
    kernel = types.SimpleNamespace(ZMQInteractiveShell=shell)
    monkeypatch.setitem(sys.modules, "ipykernel.zmqshell", kernel)
    for found, module in ((None, None), (object(), "tqdm.notebook")):
        monkeypatch.setattr(importlib.util, "find_spec", lambda _, value=found: value)
        bar = progress.new_bar()
        assert (bar and bar.__module__) == module
    shell.initialized = lambda: False
    assert progress.new_bar() is None
