"""The end of a run: the summary first, then pictures that may fail."""

import json
import os
import subprocess
import sys
import warnings

import pytest

from jaxep.run import plots
from jaxep.run.reporting import Reporter
from jaxep.run.summary import PICTURES, conclude, draw, finished, tell_end


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
