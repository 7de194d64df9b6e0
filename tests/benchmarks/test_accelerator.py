"""The command for an accelerator: its minutes, its rows, what it refuses, and all of it, tiny."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from benchmarks import accelerator
from benchmarks.device import agreement, rows, times, training
from benchmarks.device.rows import Clock, Row
from benchmarks.shared.results import Options
from benchmarks.speed import memory
from jaxep.run.errors import CheckpointError, SettingsError
from tests.command import ROOT

FAST = "--config.dataset=digits"


class Ticking:
    """A clock that is moved by hand."""

    def __init__(self):
        self.time = 0.0

    def __call__(self):
        return self.time


@pytest.fixture
def options(tmp_path):
    origin = {"git_commit": "abc", "device": {"kind": "cpu", "count": 1}, "versions": {"jax": "1"}}
    return Options("times", "tiny", tmp_path, origin=lambda: origin)


@pytest.fixture
def measured_here(monkeypatch):
    """Rows in this process, with the seconds that each was given."""
    given = []

    def here(seconds, row):
        given.append(seconds)
        return row.function(*row.arguments)

    monkeypatch.setattr(rows, "bounded", here)
    return given


def fails():
    raise RuntimeError("out of memory")


def test_a_clock_tells_what_is_left_of_a_share(capsys):
    now = Ticking()
    clock = Clock(600.0, 0.0, now)
    now.time = 200.0
    assert clock.left_of(0.5) == 100 and clock.left == 400
    clock.tell("a part")
    now.time = 700.0
    assert clock.left_of(0.5) == -400 and clock.left == -100
    clock.tell("the end")
    assert capsys.readouterr().out == "[6:40 left] a part\n[0:00 left] the end\n"


def test_no_row_begins_after_the_share_and_the_next_call_goes_on(options, measured_here, capsys):
    now, counted = Ticking(), []

    def takes(seconds):
        now.time += seconds
        counted.append(seconds)
        return {"ms": seconds}

    every = {f"row {seconds}": Row(takes, (seconds,)) for seconds in (70, 30, 20)}
    rows.fill(options, Clock(200.0, 0.0, now), 0.5, every)
    written = json.loads(options.path.read_text())
    assert counted == [70, 30] and written["finished"] is False
    assert measured_here == [100, 100]
    assert "no time for row 20: call again" in capsys.readouterr().out
    rows.fill(options, Clock(200.0, now.time, now), 0.5, every)
    written = json.loads(options.path.read_text())
    assert counted == [70, 30, 20] and "finished" not in written
    assert written["rows"]["row 70"] == {"ms": 70, "git_commit": "abc"}
    assert rows.missing(options, every) == []


def test_a_row_that_fails_is_told_kept_and_tried_again(options, measured_here, capsys):
    clock = Clock(100.0, 0.0, Ticking())
    rows.fill(options, clock, 1.0, {"bad": Row(fails), "good": Row(dict, ({"ms": 1},))})
    written = json.loads(options.path.read_text())
    assert written["rows"]["bad"]["error"] == "out of memory"
    assert written["rows"]["good"]["ms"] == 1
    assert "times: bad: out of memory\n" in capsys.readouterr().out
    assert rows.failures(written) == ["bad: out of memory"]
    assert list(rows.measured(written)) == ["good"]
    assert rows.missing(options, ("bad", "good")) == ["bad"]


def test_a_row_has_a_process_of_its_own_with_its_variables_and_a_limit():
    assert rows.bounded(60, Row(os.getenv, ("JAXEP_A_WORD",), {"JAXEP_A_WORD": "x"})) == "x"
    assert "JAXEP_A_WORD" not in os.environ
    assert rows.bounded(60, Row(os.getpid)) != os.getpid()
    began = time.monotonic()
    with pytest.raises(RuntimeError, match=r"not done in 0 s"):
        rows.bounded(0.3, Row(time.sleep, (600,)))
    assert time.monotonic() - began < 60
    with pytest.raises(RuntimeError, match="ended with exit status 3"):
        rows.bounded(60, Row(os._exit, (3,)))
    with pytest.raises(RuntimeError, match="FileNotFoundError: No such file"):
        rows.bounded(60, Row(os.stat, ("/no/such/file",)))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("", "--minutes"),
        ("--minutes 0", "0: must be a number over 0"),
        ("--minutes ten", "ten: must be a number over 0"),
        ("--minutes 1 --parts tines", "'tines'"),
        ("--minutes 1 --config.datset=digits", "--config.datset=digits: no such key"),
        ("--minutes 1 --config.beta=-1", "config.beta = -1"),
        ("--minutes 1 --config.dataset=/no/such.npz", "there is no such file"),
        ("--minutes 1 --config=digits_le", "unrecognized arguments"),
    ],
)
def test_a_bad_word_is_refused_in_one_line_before_anything_starts(given, told, capsys, monkeypatch):
    monkeypatch.setattr(accelerator, "bounded", fails)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit, match="2"):
        accelerator.main(given.split())
    error = capsys.readouterr().err
    assert error.startswith("error: ") and told in error and error.count("\n") == 1


def test_words_of_the_scale_come_before_those_that_are_given():
    for config in training.CONFIGS:
        small = training.settings_of(config, "tiny", [FAST, "--config.epochs=7"])
        assert (small.epochs, small.dataset, small.conv) == (7, "digits", "4 M 4 M")
    whole = training.settings_of("vgg6_pc", "paper", [])
    assert (whole.system, whole.t_free, whole.epochs) == ("predictive_coding", 0, 100)


def test_the_folder_of_another_run_or_device_is_refused(options, tmp_path):
    training.check(options, [FAST])
    folder = training.place(options, "vgg7_le")
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"name": "another"}))
    with pytest.raises(CheckpointError):
        training.check(options, [FAST])
    options.keep({"rows": {}})
    accelerator.check_device(options, {"device": {"kind": "cpu"}})
    with pytest.raises(SettingsError, match="holds times_tiny of cpu, this is H200"):
        accelerator.check_device(options, {"device": {"kind": "H200"}})
    assert accelerator.slug("NVIDIA H200 (80 GB)") == "nvidia_h200_80_gb"


def test_states_far_from_the_textbooks_are_not_timed():
    reference = {"a": np.zeros((20, 3)), "b": np.zeros((20, 2, 2, 1))}
    states = {name: value.copy() for name, value in reference.items()}
    states["b"][7] = 1.0
    states["a"][3, 0] = 1e-5
    assert times.check(reference, states, 1e-4) == {"gap": 1e-5, "samples_left": 1}
    states["a"][:3] = 1.0
    with pytest.raises(RuntimeError, match="4 of 20 samples"):
        times.check(reference, states, 1e-4)


def test_what_torch_has_no_row_for_is_told_in_a_line(tmp_path, monkeypatch):
    monkeypatch.setattr(times.importlib.util, "find_spec", lambda name: None)
    assert times.codes("")[0] == [] and "torch is not installed" in times.codes("")[1][0]
    monkeypatch.setattr(times.importlib.util, "find_spec", lambda name: "torch")
    assert times.codes("")[0] == ["PyTorch"]
    found, (line,) = times.codes(str(tmp_path))
    assert found == ["PyTorch"] and "holds no model_utils.py" in line
    (tmp_path / "model_utils.py").touch()
    assert times.codes(str(tmp_path)) == (["PyTorch", "peer"], [])


def test_distances_are_those_of_each_sample_or_of_all():
    exact = {"free.a": np.array([[3.0, 0.0], [0.0, 1.0]]), "free.b": np.array([[4.0], [0.0]])}
    found = {name: value.copy() for name, value in exact.items()}
    found["free.b"][0, 0] = 4.5
    assert agreement.distances(found, exact, "free", True).tolist() == [0.1, 0.0]
    assert agreement.distances(found, exact, "free", False) == pytest.approx([0.5 / 26**0.5])


def test_the_peak_of_a_device_is_a_column_where_there_is_one():
    row = {"model": "m", "method": "LE", "config": "c", "paper_mb": 2, "total_mb": 1}
    row["temporaries_mb"] = 1
    assert "peak" not in memory.table({"rows": [row]})
    assert "| 33 |" in memory.table({"rows": [{**row, memory.PEAK: 33.3}]})


def test_a_training_that_fails_is_told_and_the_next_one_begins(options, monkeypatch, capsys):
    begun = []

    def train(options, clock, config, given):
        begun.append(config)
        return "out of memory" if config == "vgg7_le" else ""

    monkeypatch.setattr(training, "train", train)
    training.measure(options, Clock(60.0, 0.0, Ticking()), 1.0, [FAST])
    written = json.loads(options.path.read_text())
    assert begun == list(training.CONFIGS) and written["finished"] is False
    assert written["rows"]["vgg7_le"]["error"] == "out of memory"
    assert "vgg6_pc | 0 of 2" in training.table(written)
    assert "vgg7_le: out of memory" in capsys.readouterr().out


def test_the_second_training_waits_for_the_end_of_the_first(options, monkeypatch):
    monkeypatch.setattr(training, "train", lambda *_: "")
    clock = Clock(60.0, 0.0, Ticking())
    training.measure(options, clock, 1.0, [FAST])
    assert list(json.loads(options.path.read_text())["rows"]) == ["vgg7_le"]
    workdir = training.place(options, "vgg7_le")
    workdir.mkdir()
    (workdir / "summary.json").write_text("{}")
    training.measure(options, clock, 1.0, [FAST])
    assert list(json.loads(options.path.read_text())["rows"]) == ["vgg7_le", "vgg6_pc"]


def test_what_trains_is_told_to_save_at_the_end_of_its_seconds():
    program = (
        "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit('saved'));"
        "time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
    time.sleep(1)
    assert training.ended(process, 2.0) == (1, "saved\n")


@pytest.mark.slow
def test_the_whole_command_at_tiny_scale_goes_on_where_its_minute_ended(tmp_path):
    numbers = np.random.default_rng(0)
    images = numbers.integers(0, 256, (100, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "data.npz", images=images, labels=np.arange(100) % 10)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "benchmarks.accelerator", "--minutes", "1", "--scale", "tiny"]
    command += ["--out", str(out), f"--config.dataset={tmp_path / 'data.npz'}"]
    names = [f"{name}_tiny.json" for name in accelerator.parts_of("", "", ())]

    def finished():
        found = [json.loads((out / name).read_text()) for name in names if (out / name).exists()]
        return len(found) == len(names) and all(each.get("finished", True) for each in found)

    for _ in range(12):
        began = time.monotonic()
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        assert time.monotonic() - began < 60 + rows.LEAST_SECONDS + training.PATIENCE
        if finished():
            break
    assert finished()
    kept = json.loads((out / names[0]).read_text())["rows"]
    assert not any(rows.failures(json.loads((out / name).read_text())) for name in names)
    errors = [max(row["precisions"]["float32"]["gradient"]) for row in kept.values()]
    assert len(errors) == len(agreement.LOWERINGS) and max(errors) < 1e-4
    text = (out / "README.md").read_text()
    assert all(f"## {part.title}" in text for part in accelerator.parts_of("", "", ()).values())
    assert re.search(r"vgg6_pc \| 2 of 2", text)
    before = (out / names[1]).read_text()
    assert subprocess.run(command, cwd=ROOT, capture_output=True, timeout=600).returncode == 0
    assert (out / names[1]).read_text() == before
