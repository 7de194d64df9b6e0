"""A sweep: what its words mean, what is refused before the first run, and real runs."""

import csv
import os
import shlex
import signal
import subprocess
import sys
import time

import pytest

from jaxep.commands.options import parse
from jaxep.commands.sweep import file_text, literal, plan, split, values_of
from jaxep.run.errors import SettingsError
from tests.command import PATIENCE, ROOT
from tests.commands.conftest import SMALL

WORDS = ["--config", "digits_le", "--config.learning_rates=0.1", "--config.signal_layers=(0,)"]


def planned(*over, seeds=None, words=WORDS):
    return plan(list(words), values_of(over, seeds, parse(words).config))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (".5,1, 2", [".5", "1", "2"]),
        ("(64,),(128, 64)", ["(64,)", "(128, 64)"]),
        ("{'a': 1, 'b': 2},3", ["{'a': 1, 'b': 2}", "3"]),
        ("'a,b',\"c'(\",d", ["'a,b'", '"c\'("', "d"]),
        ("a,,b", ["a", "", "b"]),
    ],
)
def test_values_are_cut_at_commas_outside_of_brackets_and_quotes(text, parts):
    assert split(text) == parts


def test_a_value_is_a_literal_or_else_a_text():
    texts = ["1e-3", "(8,)", "fixed", "8 M 16 M", "'0.5'", "True", "true"]
    assert [literal(t) for t in texts] == [1e-3, (8,), "fixed", "8 M 16 M", "0.5", True, "true"]


def test_every_combination_is_a_run_with_all_other_keys_as_they_were():
    runs = planned("beta=.5,1", "hidden=(8,),(9, 10)", "solver=fixed,tolerance", seeds=2)
    assert len(runs) == 16 and len({run.name for run in runs}) == 16
    last = runs[-1]
    assert last.name == "beta=1,hidden=9_10,solver=tolerance,seed=1"
    settings = last.settings
    assert (settings.beta, settings.hidden, settings.solver) == (1.0, (9, 10), "tolerance")
    assert settings.seed == 1 and settings.t_free == 16
    # What the process of the run will read is what was checked.
    assert parse(last.words).config["hidden"] == (9, 10)


def test_without_seeds_the_seed_is_that_of_the_config():
    assert [run.name for run in planned("beta=2")] == ["beta=2,seed=0"]
    assert planned(words=[*WORDS, "--config.seed=7"])[0].name == "seed=7"
    assert [run.settings.seed for run in planned("seed=3,5")] == [3, 5]
    assert planned("seed=3", "beta=1")[0].name == "seed=3,beta=1"


def test_names_of_folders_are_plain_and_of_limited_length():
    texts = [file_text(v) for v in (0.5, 2.0, (64,), "8 M 16 M", "", "/a/b.npz", {"conv1": 0.1})]
    assert texts == ["0.5", "2", "64", "8_M_16_M", "none", "a_b.npz", "conv1_0.1"]
    long, other = file_text("32 M " * 40), file_text("32 M " * 41)
    assert len(long) < 80 and long != other


REFUSED = [
    (["betta=1"], None, "--over betta=1: no such key; did you mean beta?"),
    (["beta=-1,2"], None, "config.beta = -1.0: must be a number over 0"),
    (["beta=.5,x"], None, "--config.beta=x: could not convert"),
    (["beta=.5,0.5"], None, "beta=0.5,seed=0 comes twice"),
    (["beta=1", "beta=2"], None, "--over beta is given twice"),
    (["beta"], None, "--over beta: must be KEY=V1,V2"),
    (["beta=1,"], None, "--over beta=1,: must be KEY=V1,V2"),
    (["seed=1,2"], 2, "--seeds and --over seed"),
    (["hidden=(8,),(0,)"], None, "config.hidden = (0,): must be"),
    (["solver=fixed,tolerence"], None, "config.solver = 'tolerence': must be one of fixed,"),
    (["conv=8 M,8 M M M M"], None, "config.conv = '8 M M M M'"),
]


@pytest.mark.parametrize(("over", "seeds", "sentence"), REFUSED, ids=[r[2] for r in REFUSED])
def test_bad_words_are_one_sentence(over, seeds, sentence):
    with pytest.raises(SettingsError) as error:
        planned(*over, seeds=seeds)
    assert sentence in str(error.value) and "\n" not in str(error.value)


def command(workdir, *words):
    """A sweep over the smallest net; `words` come last."""
    values = [f"--config.{key}={value}" for key, value in SMALL.items()]
    sweep = [sys.executable, "-m", "jaxep.cli", "sweep", "--config", "digits_std", *values]
    return [*sweep, "--workdir", str(workdir), *words]


def run(words):
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--over", "beta=0.5,-1"], "config.beta = -1.0"),
        (["--jobs", "0"], "--jobs: 0: must be an integer over 0"),
    ],
)
def test_what_is_refused_leaves_nothing(words, sentence, tmp_path):
    status, out, err = run(command(tmp_path / "sweep", *words))
    assert (status, out) == (2, "") and err.startswith("error: ") and len(err.splitlines()) == 1
    assert sentence in err and not (tmp_path / "sweep").exists()


@pytest.mark.slow
def test_a_sweep_trains_all_tells_what_fails_and_skips_what_is_finished(tmp_path):
    """Two at a time; a learning rate that cannot be endured ends its own runs alone."""
    words = command(tmp_path, "--over", "learning_rates=0.1,1e30", "--seeds", "2", "--jobs", "2")
    status, out, err = run(words)
    assert status == 1 and "2 of 4 runs failed: learning_rates=1e+30,seed=0" in err
    assert out.count(": begins") == 4 and out.count(" by status 3: error: update ") == 2
    assert out.count(": ends after") == 2
    with open(tmp_path / "comparison.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["label"], row["seeds"]) == ("digits_std", "2")
    assert (tmp_path / "comparison.png").stat().st_size > 10_000
    before = (tmp_path / "learning_rates=0.1,seed=1" / "metrics.csv").stat().st_mtime_ns
    status, out, _ = run(words)
    assert status == 1 and out.count(": is finished, test accuracy") == 2
    assert out.count(": begins") == 2
    assert (tmp_path / "learning_rates=0.1,seed=1" / "metrics.csv").stat().st_mtime_ns == before
    # The folders hold runs of these settings and of no others.
    status, _, err = run([*words, "--config.t_free=9"])
    assert status == 2 and "holds a run with another config: t_free = 8 there, 9 here" in err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_sweep_saves_and_goes_on(tmp_path, number):
    words = command(tmp_path / "sweep", "--over", "beta=0.5,1", "--config.epochs=4000")
    process = subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    metrics, began = tmp_path / "sweep" / "beta=0.5,seed=0" / "metrics.csv", time.monotonic()
    while not (metrics.exists() and len(metrics.read_text().splitlines()) > 3):
        assert process.poll() is None and time.monotonic() - began < PATIENCE
        time.sleep(0.2)
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + number
    assert "beta=0.5,seed=0: stopped after" in out and "beta=1,seed=0" not in out
    name = signal.Signals(number).name
    assert f"error: {name}: 0 of 2 runs are finished; to go on: " in err
    assert shlex.split(err.split("to go on: ")[1])[-3:] == words[-3:]
    told = (tmp_path / "sweep" / "logs" / "beta=0.5,seed=0.err").read_text()
    assert f"error: {name}: saved after update" in told
    assert os.listdir(metrics.parent / "checkpoints")
