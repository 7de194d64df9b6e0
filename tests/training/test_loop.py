"""The command itself: what it leaves, that it resumes exactly, how it refuses (SPEC 8)."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TINY = {
    "conv": "4 M 4 M",
    "hidden": "(8,)",
    "learning_rates": "(0.01, 0.01, 0.01, 0.01)",
    "signal_layers": "(0,)",
    "train_size": 60,
    "test_size": 30,
    "t_free": 4,
    "t_nudge": 2,
}


def train(workdir, *extra, name="digits_le", tiny=True, **changes):
    values = {**(TINY if tiny else {}), **changes}
    command = [sys.executable, str(ROOT / "train.py"), "--config", f"configs/{name}.py"]
    command += ["--workdir", str(workdir)]
    command += [f"--config.{key}={value}" for key, value in values.items()]
    environment = {**os.environ, "TFDS_DATA_DIR": "", "JAX_PLATFORMS": "cpu"}
    return subprocess.run(
        [*command, *extra], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900
    )


def rows(workdir, without=("seconds",)):
    with open(workdir / "metrics.csv", newline="") as file:
        table = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k not in without} for row in table]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of three epochs, in a directory with a space and an umlaut in its name."""
    workdir = tmp_path_factory.mktemp("runs") / "a rün"
    result = train(workdir, epochs=3)
    assert result.returncode == 0, result.stderr
    return workdir, result


def test_a_run_leaves_what_it_promises(finished):
    workdir, result = finished
    names = {path.name.split(".out.")[0] for path in workdir.iterdir()}
    assert names >= {
        "config.json",
        "metrics.csv",
        "layers.csv",
        "checkpoints",
        "curves.png",
        "layers.png",
        "events",
        "summary.json",
    }
    assert [row["epoch"] for row in rows(workdir)] == ["1", "2", "3"]
    assert float(rows(workdir)[0]["free_steps"]) == 4
    summary = json.loads((workdir / "summary.json").read_text())
    assert summary["epochs"] == 3 and summary["parameters"] > 100
    assert summary["final_test_accuracy"] == pytest.approx(float(rows(workdir)[-1]["test_acc"]))
    assert json.loads((workdir / "config.json").read_text())["conv"] == "4 M 4 M"
    lines = result.stdout.strip().splitlines()
    assert lines[0] == f"{workdir}: 3 epochs of 2 updates; compiling the first"
    assert len(lines) == 4 and lines[1].startswith("epoch 1/3") and lines[1].endswith(" left")
    assert "left" not in lines[3]


def test_a_run_cut_off_and_resumed_equals_one_that_was_not(finished, tmp_path):
    """A signal between two checkpoints; tests/test_interruption.py has the rest, slow."""
    whole, _ = finished
    program = (
        "import os, signal, sys\n"
        "from jaxep.run.record import Record\n"
        "def progress(self, done, total):\n"
        "    if self._reporter._epoch == 2 and done == 1: os.kill(os.getpid(), signal.SIGINT)\n"
        "Record.progress = progress\n"
        "from jaxep import cli; cli.main(['train', *sys.argv[1:]])\n"
    )
    values = [f"--config.{k}={v}" for k, v in {**TINY, "epochs": 3}.items()]
    flags = ["--config", "configs/digits_le.py", "--workdir", str(tmp_path / "cut"), *values]
    cut = subprocess.run(
        [sys.executable, "-c", program, *flags], cwd=ROOT, capture_output=True, text=True
    )
    assert cut.returncode == 130, cut.stderr
    line = cut.stderr.splitlines()[-1]
    assert line.startswith("error: SIGINT: saved after update 3, in epoch 2; to go on: ")
    assert len(rows(tmp_path / "cut")) == 1
    resumed = train(tmp_path / "cut", epochs=3)
    assert resumed.returncode == 0, resumed.stderr
    told, *epochs = resumed.stdout.strip().splitlines()
    assert "3 epochs of 2 updates, on from update 3; compiling" in told and len(epochs) == 2
    assert rows(tmp_path / "cut") == rows(whole)


def test_divergence_stops_with_status_3_and_is_skipped_where_the_config_says_so(tmp_path):
    """Weights of 1e37 overflow in the first update: no update is ever taken."""
    wild = {"gain": 1e37, "conv_activation": "relu", "epochs": 1}
    result = train(tmp_path / "run", **wild)
    assert result.returncode == 3, result.stderr
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("error: update 1 (epoch 1) is not finite: the gradients of conv1, ")
    assert "lower gain" in line and "no checkpoint is kept" in line
    assert rows(tmp_path / "run") == []
    # How divergence is answered is no other configuration: the same work directory goes on.
    result = train(tmp_path / "run", **wild, on_divergence="skip")
    assert result.returncode == 0 and "2 of 2 updates were not finite" in result.stderr
    (row,) = rows(tmp_path / "run")
    assert row["skipped"] == "2" and row["train_loss"] == "nan"


def test_the_same_command_on_a_finished_run_says_so_and_does_nothing(finished):
    workdir, _ = finished
    before = rows(workdir)
    result = train(workdir, epochs=3)
    assert result.returncode == 0 and result.stderr == ""
    (line,) = result.stdout.splitlines()
    assert line.startswith(f"{workdir} is finished: 3 epochs")
    assert rows(workdir) == before


def refused(result, *words):
    assert result.returncode == 2, result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), result.stderr
    assert all(word in lines[0] for word in words), lines[0]


def test_another_config_over_an_old_run_is_refused_with_the_keys_that_differ(finished):
    workdir, _ = finished
    refused(train(workdir, epochs=3, beta=0.7), "beta = ", "0.7 here")
    refused(train(workdir, epochs=4), "3 there, 4 here (lr_schedule = cosine ends with the last")


def test_settings_of_every_type_are_given_on_the_command_line(finished, tmp_path):
    """A number, a tuple and names for one key, and the last of two: all but `name` of the run."""
    workdir, _ = finished
    for rates in ("0.01", "{'default': 0.01}"):
        refused(train(workdir, epochs=3, learning_rates=rates), "learning_rates = [0.01, 0.01")
    refused(
        train(workdir, epochs=3, gain="{'default': 0.7}"), 'gain = 0.7 there, {"default": 0.7} here'
    )
    again = "--config.signal_layers=('conv2',)"
    refused(train(workdir, again, epochs=3), 'signal_layers = [0] there, ["conv2"] here')


def test_a_corrupt_checkpoint_is_refused(finished, tmp_path):
    workdir, _ = finished
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", str(workdir), str(copy)], check=True)
    for path in (copy / "checkpoints").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    result = train(copy, epochs=3)
    assert result.returncode == 2
    assert "error: " in result.stderr and "no readable checkpoint" in result.stderr
    assert "Traceback" not in result.stderr


BAD = [
    ({"nonsense": 1}, "nonsense"),
    ({"beta": "abc"}, "beta"),
    ({"t_free": 0}, "config.t_free = 0: must be at least 1 where system is not predictive"),
    ({"beta": 0.0}, "config.beta = 0.0: must be a number over 0"),
    ({"signal_layers": "(9,)"}, "config.signal_layers = (9,): must be different neuron layers"),
    ({"learning_rates": "(0.1,)"}, "must be 4 numbers"),
    ({"conv": "4 M 4 M 4 M 4 M"}, "a 1x1 map"),
    ({"dataset": "mnist.npz"}, "'mnist.npz': there is no such file"),
    ({"batch_size": 61}, "config.batch_size = 61: at most 60"),
]


@pytest.mark.parametrize(("changes", "word"), BAD, ids=[str(c) for c, _ in BAD])
def test_bad_values_end_with_one_line_and_leave_nothing(changes, word, tmp_path):
    refused(train(tmp_path / "run", **changes), word)
    assert not (tmp_path / "run").exists()


def test_bad_arguments_end_with_one_line(tmp_path):
    refused(train(tmp_path / "run", "--wrkdir=x"), "wrkdir")
    refused(train(tmp_path / "run", "stray"), "stray")
    refused(train(tmp_path / "run", name="no_such_config", tiny=False), "no_such_config")


def test_a_missing_teacher_says_how_to_train_it(tmp_path):
    result = train(
        tmp_path / "run",
        name="digits_kd",
        tiny=False,
        train_teacher=False,
        teacher_workdir=tmp_path / "nowhere",
    )
    refused(result, "no trained teacher", "python train.py --config configs/teacher_digits.py")
    assert not (tmp_path / "run").exists()


def test_a_missing_data_set_is_one_line(tmp_path):
    result = train(tmp_path / "run", name="vgg7_le", tiny=False, data_dir=tmp_path / "none")
    refused(result, "cifar10 was looked for in", "download_and_prepare")


def test_an_unwritable_workdir_is_refused(tmp_path):
    (tmp_path / "file").write_text("not a directory")
    refused(train(tmp_path / "file" / "run", epochs=1), "cannot be used")


def test_a_teacher_is_trained_first_and_distilled(tmp_path):
    teacher = tmp_path / "teacher"
    small = {"conv": "4 M 4 M", "hidden": "(8,)", "epochs": 1, "train_size": 60, "test_size": 30}
    result = train(teacher, name="teacher_digits", tiny=False, batch_size=20, **small)
    assert result.returncode == 0, result.stderr
    student = {**TINY, "signal_layers": "(0, 1)", "epochs": 1, "teacher_workdir": teacher}
    # The workdir holds the tiny teacher; its config file describes the real one.
    wrong = train(tmp_path / "run", name="digits_kd", tiny=False, **student)
    refused(wrong, "config.teacher", "another network")
