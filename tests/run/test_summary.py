"""The end of a run: the summary first, then pictures that may fail."""

import json
import math
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest

from jaxep.run import plots
from jaxep.run.reporting import Reporter, write_summary
from jaxep.run.summary import PICTURES, conclude, draw, finished, tell_end
from tests.run.test_reporting import row


@pytest.fixture
def trained(tmp_path):
    """A work directory with two epochs."""
    with Reporter(tmp_path, total_epochs=2, start_epoch=1) as reporter:
        for epoch in (1, 2):
            row = {"epoch": epoch, "test_acc": 1 / epoch, "seconds": 1.0}
            reporter.epoch(row, {"conv1": {"activity": 0.5}})
    return tmp_path


def test_a_run_ends_with_summary_and_pictures(trained, capsys):
    summary = conclude(trained, parameters=7)
    assert summary == json.loads((trained / "summary.json").read_text())
    assert summary["parameters"] == 7 and all((trained / name).exists() for name in PICTURES)
    assert capsys.readouterr().err == ""


def test_a_picture_that_fails_is_a_warning_after_the_summary(trained, monkeypatch, capsys):
    def fail(*_):
        assert (trained / "summary.json").exists()
        raise RuntimeError("latex was not able to process the following string\nand more")

    monkeypatch.setattr(plots, "curves", fail)
    assert conclude(trained, parameters=7)["epochs"] == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        f"warning: the pictures of {trained} cannot be drawn (RuntimeError: latex was not able to "
        "process the following string)"
    )


def test_a_warning_of_a_library_costs_no_picture(trained, monkeypatch, capsys):
    curves = plots.curves
    monkeypatch.setattr(
        plots, "curves", lambda *a: (warnings.warn("old", stacklevel=1), curves(*a))
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw(trained)
    assert (trained / "curves.png").exists() and capsys.readouterr().err == ""


SETTINGS = {
    "a backend of notebooks": {"MPLBACKEND": "module://matplotlib_inline.backend_inline"},
    "no backend": {"MPLBACKEND": "garbage"},
    "latex": {"MATPLOTLIBRC": "{rc}"},
    "no home": {"HOME": "/nothere", "MPLCONFIGDIR": "/dev/null/x"},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_pictures_do_not_depend_on_the_settings_of_the_user(name, trained):
    rc = trained / "matplotlibrc"
    rc.write_text("text.usetex: True\nfont.family: no such font\nsavefig.dpi: 7\nbackend: TkAgg\n")
    draw(trained)
    before = {picture: (trained / picture).read_bytes() for picture in PICTURES}
    environment = {key: value.format(rc=rc) for key, value in SETTINGS[name].items()}
    code = f"""
import sys
from jaxep.run.summary import draw
draw({str(trained)!r})
import matplotlib, os
assert "matplotlib.pyplot" not in sys.modules
print(os.environ.get("MPLBACKEND"), matplotlib.rcParams["text.usetex"])
"""
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert "warning: the pictures" not in result.stderr, result.stderr
    assert {picture: (trained / picture).read_bytes() for picture in PICTURES} == before
    # What the user has set is there for pictures of his own.
    expected = [environment.get("MPLBACKEND", "None"), str("MATPLOTLIBRC" in environment)]
    assert result.stdout.split() == expected, result.stderr


def test_a_run_is_finished_where_its_summary_says_so(trained):
    assert finished(trained, 2) is None and finished(trained / "none", 2) is None
    conclude(trained, parameters=7)
    assert finished(trained, 2)["parameters"] == 7
    assert finished(trained, 3) is None
    for text in ("", "[]", "{}", '{"epochs": null}'):
        (trained / "summary.json").write_text(text)
        assert finished(trained, 2) is None


def test_the_end_is_told_in_a_line_and_missing_pictures_are_drawn(trained, capsys):
    summary = conclude(trained, parameters=7)
    capsys.readouterr()
    before = {path: path.stat().st_mtime_ns for path in trained.iterdir()}
    tell_end(trained, summary)
    assert {path: path.stat().st_mtime_ns for path in trained.iterdir()} == before
    assert capsys.readouterr().out == (
        f"{trained} is finished: 2 epochs, test accuracy 0.500, best 1.000 in epoch 1\n"
    )
    (trained / "layers.png").unlink()
    tell_end(trained, {**summary, "final_test_accuracy": None, "best_test_accuracy": None})
    assert (trained / "layers.png").exists()
    assert capsys.readouterr().out == f"{trained} is finished: 2 epochs\n"


def test_summary(tmp_path):
    with Reporter(tmp_path, total_epochs=4, start_epoch=1) as reporter:
        for epoch, accuracy in enumerate((0.5, 0.9, 0.9, 0.7), start=1):
            reporter.epoch(row(epoch, test_acc=accuracy, seconds=1.5))
    returned = write_summary(tmp_path, parameters=1234, name="toy")
    summary = json.loads((tmp_path / "summary.json").read_text())
    expected = {
        "final_test_accuracy": 0.7,
        "best_test_accuracy": 0.9,
        "best_epoch": 2,
        "epochs": 4,
        "seconds": 6.0,
        "parameters": 1234,
        "name": "toy",
    }
    assert {key: summary[key] for key in expected} == expected and summary == returned
    with pytest.raises(TypeError, match="seconds"):
        write_summary(tmp_path, parameters=1234, seconds=1.0)
    assert summary["peak_bytes"] is None or summary["peak_bytes"] > 0
    assert set(summary["device"]) == {"platform", "kind", "count"}
    assert summary["device"]["count"] >= 1
    assert set(summary["versions"]) == {
        "python", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy"
    }  # fmt: skip
    assert summary["versions"]["numpy"] == np.__version__


@pytest.mark.parametrize("accuracies", [[], [math.nan, None]])
def test_summary_of_a_run_without_an_accuracy_is_json(tmp_path, accuracies):
    with Reporter(tmp_path, total_epochs=2, start_epoch=1) as reporter:
        for epoch, accuracy in enumerate(accuracies, start=1):
            reporter.epoch({"epoch": epoch, "test_acc": accuracy})
    write_summary(tmp_path, parameters=0)

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    summary = json.loads((tmp_path / "summary.json").read_text(), parse_constant=refuse)
    assert summary["final_test_accuracy"] is None and summary["best_test_accuracy"] is None
