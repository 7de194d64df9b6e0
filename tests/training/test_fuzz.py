"""Any value of any key, any data and any directory: a valid run, or one line and no traceback."""

import contextlib
import json
import math
import os
import pickle
import shutil
import tempfile
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest
from hypothesis import Phase

from jaxep.run.checkpoints import Checkpoints
from jaxep.run.errors import CheckpointError, DataError, UserError
from jaxep.training.data import load
from jaxep.training.settings import Settings, from_config, load_config_file, to_dict
from tests.command import ROOT, TINY, command, rows, run

KEYS = sorted(Settings.__dataclass_fields__)
BASE = {**load_config_file(str(ROOT / "configs/digits_le.py")).to_dict(), **TINY}
HUGE = (2**31 - 1, 2**31, 2**63, -(2**63), 10**400, 1e39, 1.7e308, -1e300)
# Python prints no integer of so many digits, and Hypothesis prints what it draws from.
UNPRINTABLE = st.just(5000).map(lambda digits: 10**digits)
NUMBERS = st.one_of(
    UNPRINTABLE,
    st.sampled_from((*HUGE, 0, -0.0, -1, 1e-45, 5e-324, math.nan, math.inf, -math.inf)),
    st.integers(-3, 300),
    st.floats(),
)
WORDS = ("", " ", "\n", "\0", "\ud800", "a\nb", "x" * 5000, "4 M", "M", "9" * 5000, "4 4", "../x")
TEXTS = st.one_of(st.sampled_from(WORDS), st.text(max_size=20))
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS, st.binary(max_size=4))
VALUES = st.one_of(
    SCALARS,
    st.lists(SCALARS, max_size=9),
    st.lists(NUMBERS, max_size=9).map(tuple),
    st.dictionaries(SCALARS, SCALARS, max_size=2),
    st.sampled_from((object(), np.arange(300), np.float64("nan"), range(3), {1}, 1j)),
)


def answered(values):
    """Settings that can be kept as JSON and read back the same, or one line."""
    try:
        settings = from_config(values)
    except UserError as error:
        assert len(str(error).splitlines()) == 1 and len(str(error)) < 2000
        return False
    assert from_config(json.loads(json.dumps(to_dict(settings)))) == settings
    return True


def fuzz(key, examples):
    @hypothesis.settings(max_examples=examples, deadline=None, derandomize=True, database=None)
    @hypothesis.given(VALUES)
    def any_value(value):
        answered({**BASE, key: value})

    any_value()


@pytest.mark.parametrize("key", KEYS)
def test_a_few_values_of_every_key(key):
    fuzz(key, 20)


@pytest.mark.slow
@pytest.mark.parametrize("key", KEYS)
def test_many_values_of_every_key(key):
    fuzz(key, 500)


@pytest.mark.slow
@hypothesis.settings(max_examples=5000, deadline=None, derandomize=True, database=None)
@hypothesis.given(st.dictionaries(st.one_of(st.sampled_from(KEYS), SCALARS), VALUES, max_size=6))
def test_any_values_of_many_keys(changes):
    answered({**BASE, **changes})


# As a user types them: some right, and small enough to train; most wrong.
TYPED = {
    "batch_size": ["1", "7", "30", "61", "0", "-1", "2.5", "99999999999999999999"],
    "beta": ["0.5", "1e-30", "1e30", "1e39", "nan", "inf", "-1", "0", ""],
    "checkpoint_every": ["1", "0", "-1", "4294967296", "x"],
    "conv": [
        "4 M 4 M",
        "4 M 4",
        "",
        "M",
        "4 Q",
        "0",
        "99999999999 M 4 M",
        "4v 4v 4v 4v",
        "4k5s2 A",
        "R4",
        "\u0664 M",
    ],
    "dataset": ["digits", "imagenet", "", "DIGITS", "x.npz"],
    "dense_activation": ["tanh", "softplus", "linear", "gelu"],
    "epochs": ["1", "0", "2147483647", "1e3", "one"],
    "estimator": ["ep", "continual", "bptt", "implicit", "backprop"],
    "eval_batch_size": ["1", "7", "2147483647", "0"],
    "gain": ["1e-30", "1e38", "0", "nan", "-inf", "(1, 1, 1, 1)", "{'conv9': 1}", "{'default': 2}"],
    "hidden": ["(8,)", "(0,)", "(2147483647,)", "(8.5,)", "8", "('a',)", "()", "(8,"],
    "kappa": ["0", "1e30", "-1", "nan"],
    "learning_rates": ["(0, 0, 0, 0)", "(1e38,)*4", "(0.1,)", "(nan, 0, 0, 0)", "None", "0.01"],
    "momentum": ["0", "0.999", "1", "-0.1"],
    "name": ["a b", "x/y", "", "\n"],
    "on_divergence": ["stop", "skip", "ask"],
    "nesterov": ["True", "false", "maybe"],
    "optimizer": ["adam", "adamw", "sgd", "lion"],
    "order": ["synchronous", "alternating", "random"],
    "output_loss": ["squared_error", "cross_entropy", "hinge"],
    "relaxation": ["1.9", "0", "2", "nan"],
    "seed": ["4294967295", "4294967296", "-1", "0.5"],
    "signal": ["none", "le", "kd", "kdw", "x"],
    "signal_layers": ["(0, 1, 2)", "(3,)", "(0, 0)", "()", "(-1,)", "conv1", "('fc1', 0)"],
    "solver": ["tolerance", "anderson", "event_driven", "newton"],
    "t_free": ["1", "0", "-5"],
    "tau": ["1e-30", "1e30", "0", "nan"],
    "test_size": ["10", "9", "0", "99999", "-1"],
    "tol_free": ["1e-30", "0", "inf"],
    "wiring": ["all", "chain"],
    "train_size": ["10", "30", "9", "99999", "2147483648"],
}
CASES = st.dictionaries(st.sampled_from(sorted(TYPED)), st.integers(0, 8), min_size=1, max_size=2)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return {"JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("cache"))}


def ended_well(status, err, workdir):
    """Whether it was a run; fails where it was neither that nor one line."""
    *others, last = err.strip().splitlines() or [""]
    assert "Traceback" not in err and all(line.startswith("warning: ") for line in others), err
    if status == 0:
        assert (workdir / "summary.json").exists() and len(rows(workdir)) == 1
        return True
    assert last.startswith("error: "), err
    if status == 3:  # a run that was begun, and diverged
        assert "is not finite" in last and (workdir / "config.json").exists()
    else:
        assert status == 2 and not workdir.exists(), err
    return False


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_the_command_answers_whatever_is_typed(seed, cache):
    counts = {True: 0, False: 0}

    @hypothesis.seed(seed)
    @hypothesis.settings(max_examples=15, deadline=None, database=None, phases=[Phase.generate])
    @hypothesis.given(CASES)
    def any_typed(case):
        changes = {key: TYPED[key][index % len(TYPED[key])] for key, index in case.items()}
        with tempfile.TemporaryDirectory() as folder:
            workdir = Path(folder) / "a rün"
            status, _, err = run(command(workdir, **{"epochs": 1, **changes}), **cache)
            print(status, changes, err.strip())
            counts[ended_well(status, err, workdir)] += 1

    any_typed()
    print(f"{counts[True]} runs, {counts[False]} refused in one line")
    assert min(counts.values()) >= 1


WRONG_DATA = {
    "shape": ("np.zeros((20, 28, 28, 1), np.uint8)", "np.zeros(20, np.int32)", "must be uint8"),
    "type": ("np.zeros((20, 32, 32, 3))", "np.zeros(20, np.int32)", "must be uint8"),
    "high": ("np.zeros((20, 32, 32, 3), np.uint8)", "np.full(20, 10)", "must be in 0..9"),
    "low": ("np.zeros((20, 32, 32, 3), np.uint8)", "np.full(20, -1)", "must be in 0..9"),
    "empty": ("np.zeros((0, 32, 32, 3), np.uint8)", "np.zeros(0, np.int32)", "no images"),
}


@pytest.mark.slow
@pytest.mark.parametrize("wrong", WRONG_DATA)
def test_wrong_data_is_one_line_and_leaves_nothing(wrong, tmp_path):
    images, labels, said = WRONG_DATA[wrong]
    program = (
        "import sys, numpy as np\nfrom jaxep import cli\nfrom jaxep.training.sources import SPECS\n"
        f"part = {images}, {labels}\n"
        "spec = SPECS['cifar10']._replace(load=lambda data_dir: (part, part))\n"
        "SPECS['cifar10'] = spec\n"
        "cli.main(['train', *sys.argv[1:]])\n"
    )
    words = command(tmp_path / "run", dataset="cifar10")
    status, _, err = run([words[0], "-c", program, *words[2:]])
    assert not ended_well(status, err, tmp_path / "run") and said in err


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["empty", "noise", "no json", "a file"])
def test_a_corrupt_data_directory_is_one_line_and_leaves_nothing(damage, tmp_path):
    folder = tmp_path / "cifar10" / "3.0.2"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text("{")
    record = folder / "cifar10-train.array_record-00000-of-00001"
    record.write_bytes(np.random.default_rng(0).bytes(10**5) if damage == "noise" else b"")
    if damage == "no json":
        (folder / "dataset_info.json").unlink()
    if damage == "a file":
        shutil.rmtree(tmp_path / "cifar10")
        (tmp_path / "cifar10").write_text("not a directory")
    words = command(tmp_path / "run", dataset="cifar10", data_dir=tmp_path)
    status, _, err = run(words)
    assert not ended_well(status, err, tmp_path / "run") and "cifar10" in err


@pytest.mark.slow
@pytest.mark.parametrize("place", ["file/run", "x" * 300, "ro/run", "/proc/run"])
def test_a_workdir_that_cannot_be_is_one_line(place, tmp_path):
    (tmp_path / "file").write_text("not a directory")
    (tmp_path / "ro").mkdir(mode=0o500)
    if place == "ro/run" and os.access(tmp_path / "ro", os.W_OK):
        pytest.skip("a superuser may write everywhere")
    status, _, err = run(command(tmp_path / place))
    assert not ended_well(status, err, tmp_path / "none") and "cannot be used" in err


class Bomb:
    """Unpickled, it makes a directory."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_nothing_in_a_checkpoint_is_unpickled(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"x": jax.numpy.arange(1000.0)}, {})
    bomb = pickle.dumps(Bomb(tmp_path / "ran"))
    for path in [p for p in (tmp_path / "checkpoints").rglob("*") if p.is_file()]:
        before = path.read_bytes()
        path.write_bytes(bomb)
        # An error where the file is needed; orbax does without others.
        with contextlib.suppress(CheckpointError), Checkpoints(tmp_path) as checkpoints:
            checkpoints.restore({"x": jax.numpy.zeros(1000)})
        path.write_bytes(before)
    assert not (tmp_path / "ran").exists()
    pickle.loads(bomb)
    assert (tmp_path / "ran").exists()  # the bomb is a bomb


def test_nothing_in_a_data_directory_is_unpickled_or_imported(tmp_path, monkeypatch):
    folder = tmp_path / "cifar10" / "3.0.2"
    folder.mkdir(parents=True)
    (tmp_path / "planted.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'ran')!r})\n")
    monkeypatch.syspath_prepend(tmp_path)
    bomb = pickle.dumps(Bomb(tmp_path / "ran"))
    info = {"name": "cifar10", "version": "3.0.2", "fileFormat": "array_record"}
    info["moduleName"] = "planted"
    split = {"name": "train", "shardLengths": ["1"], "numBytes": str(len(bomb))}
    split["filepathTemplate"] = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    info["splits"] = [split, {**split, "name": "test"}]
    features = {"type": "planted.Feature", "pythonClassName": "planted.Feature", "content": "{}"}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    (folder / "features.json").write_text(json.dumps(features))
    for part in ("train", "test"):
        (folder / f"cifar10-{part}.array_record-00000-of-00001").write_bytes(bomb)
    with pytest.raises(DataError):
        load("cifar10", data_dir=str(tmp_path))
    assert not (tmp_path / "ran").exists()
