"""`fit` and `load_run` as a script or notebook uses them, on data of its own."""

import csv
import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxep.training import (
    CheckpointError,
    DataError,
    Settings,
    SettingsError,
    fit,
    from_arrays,
    load_config_file,
    load_run,
)
from tests.draws import bright_rows

ROOT = Path(__file__).parents[2]
SHAPE, CLASSES = (9, 7), 3


def data_of(seed=0):
    train, test = np.arange(48) % CLASSES, np.arange(18) % CLASSES
    images = bright_rows(train, SHAPE, seed), bright_rows(test, SHAPE, seed + 1)
    return from_arrays(images[0], train, images[1], test)


SETTINGS = Settings(
    name="own",
    dataset="",
    conv="6 A",
    hidden=(8,),
    signal="le",
    signal_layers=("conv1",),
    kappa=1.0,
    kappa_schedule="constant",
    init_states="uniform",
    solver="fixed",
    relaxation=1.0,
    t_free=6,
    t_nudge=3,
    beta=1.0,
    optimizer="adam",
    learning_rates={"default": 0.03, "readout": 0.1},
    lr_schedule="constant",
    weight_decay=0.0,
    batch_size=12,
    eval_batch_size=12,
    epochs=2,
)


def rows(workdir):
    with open(workdir / "metrics.csv", newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def files(workdir):
    kept = (path for path in workdir.rglob("*") if path.is_file() and path.name != "lock")
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in kept}


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """(work directory, its rows after two epochs) of a run that then went on to six."""
    workdir = tmp_path_factory.mktemp("own") / "run"
    summary = fit(SETTINGS, workdir, data=data_of())
    assert summary["epochs"] == 2
    before = rows(workdir)
    fit(dataclasses.replace(SETTINGS, epochs=6), workdir, data=data_of())
    return workdir, before


GROWN = dataclasses.replace(SETTINGS, epochs=6)


def test_own_data_of_any_shape_are_learned_and_the_run_may_grow(grown):
    workdir, before = grown
    assert len(before) == 2 and rows(workdir)[:2] == before and len(rows(workdir)) == 6
    assert float(rows(workdir)[-1]["test_acc"]) > 0.8
    assert all(row["kappa"] == "1" for row in rows(workdir))


def test_a_finished_run_says_so_in_one_line_and_writes_nothing(grown, capsys):
    workdir, _ = grown
    before = files(workdir)
    summary = fit(GROWN, workdir, data=data_of())
    assert summary["epochs"] == 6 and files(workdir) == before
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1 and "finished: 6 epochs" in out and err == ""


def test_a_finished_run_is_drawn_where_its_pictures_are_missing(grown, capsys):
    workdir, _ = grown
    (workdir / "curves.png").unlink()
    fit(GROWN, workdir, data=data_of())
    assert (workdir / "curves.png").stat().st_size > 1000


REFUSED = [
    ({"epochs": 5}, "epochs = 6 there, 5 here (a run may grow, not shrink)"),
    ({"epochs": 9, "lr_schedule": "cosine"}, "(lr_schedule = cosine ends with the last epoch)"),
    ({"epochs": 9, "kappa_schedule": "linear"}, "(kappa_schedule = linear ends with the last ep"),
    ({"beta": 0.5}, "beta = 1.0 there, 0.5 here"),
    ({"train_size": 24}, "train_size = 0 there, 24 here"),
]


@pytest.mark.parametrize(("changes", "words"), REFUSED, ids=[str(c) for c, _ in REFUSED])
def test_another_run_is_refused_with_the_reason(changes, words, grown):
    workdir, _ = grown
    before = files(workdir)
    with pytest.raises(CheckpointError) as error:
        fit(dataclasses.replace(GROWN, **changes), workdir, data=data_of())
    assert words in str(error.value) and "\n" not in str(error.value)
    assert files(workdir) == before


def test_other_data_are_refused(grown):
    workdir, _ = grown
    data = data_of()
    images = data.train.images.copy()
    images[7, 0, 0, 0] ^= 1
    other = data._replace(train=data.train._replace(images=images))
    with pytest.raises(CheckpointError, match='a run on other data: crc32 = "[0-9a-f]{8}" there'):
        fit(GROWN, workdir, data=other)
    with pytest.raises(CheckpointError, match="on other data: mean"):
        fit(GROWN, workdir, data=data_of(seed=5))


def test_a_run_can_be_loaded_evaluated_and_asked(grown):
    workdir, _ = grown
    before = files(workdir)
    data = data_of()
    run = load_run(workdir, best=False)
    assert run.settings == GROWN and run.step == 6 * 4
    loss, accuracy = run.evaluate(data)
    last = rows(workdir)[-1]
    assert loss == pytest.approx(float(last["test_loss"]), rel=1e-5)
    assert accuracy == pytest.approx(float(last["test_acc"]))
    images, labels = data.test
    predicted = run.predict(images)
    assert np.mean(np.asarray(predicted) == labels) == pytest.approx(accuracy)
    losses, right = run.judge(images, labels)
    assert float(losses.mean()) == pytest.approx(loss, rel=1e-5)
    np.testing.assert_array_equal(right, predicted == labels)
    states = run.states(images[:5, ..., 0])
    assert {name: s.shape for name, s in states.items()} == {"conv1": (5, 4, 3, 6), "fc1": (5, 8)}
    # The states of each image are those of the evaluation: settled, and its own.
    energy, params = run.energy, run.params
    x = jnp.asarray((images[:5] / 255 - run.facts["mean"]) / run.facts["std"], jnp.float32)
    np.testing.assert_allclose(run.inputs(images[:5]), x, rtol=1e-5, atol=1e-6)
    assert run.metrics["epoch"] == list(range(1, 7))
    assert run.metrics["test_acc"][-1] == pytest.approx(accuracy)
    slope = jax.grad(lambda s: jnp.sum(energy.phi(params, x, s)))(states)
    for name, state in states.items():
        np.testing.assert_allclose(jnp.clip(slope[name], 0, 1), state, atol=0.05)
    assert files(workdir) == before


def test_the_best_weights_are_loaded_unless_the_last_are_asked_for(grown):
    workdir, _ = grown
    accuracies = [float(row["test_acc"]) for row in rows(workdir)]
    run = load_run(workdir, data=data_of())
    assert run.step == 4 * (1 + accuracies.index(max(accuracies)))
    assert run.evaluate()[1] == pytest.approx(max(accuracies))


def test_a_config_serves_as_settings_and_what_is_none_is_refused(tmp_path):
    config = load_config_file("digits_le")
    config.beta = -1.0
    for given in (config, config.to_dict()):
        with pytest.raises(SettingsError, match="config.beta = -1.0: must be"):
            fit(given, tmp_path)
    with pytest.raises(SettingsError, match="settings: must be Settings or a config, not a str"):
        fit("digits_le", tmp_path)
    with pytest.raises(SettingsError, match="^digits_lee: No such .*did you mean digits_le?"):
        load_config_file("digits_lee")


def test_weights_that_are_given_away_are_those_of_the_run(grown, tmp_path):
    run = load_run(grown[0], data=data_of())
    run.export(tmp_path / "weights")
    for best in (True, False):
        given = load_run(tmp_path / "weights", data=data_of(), best=best)
        chex.assert_trees_all_equal(given.params, run.params)
        assert given.step == run.step
    assert given.evaluate() == run.evaluate()
    assert given.metrics == run.metrics
    size = {
        place: sum(path.stat().st_size for path in place.rglob("checkpoints/**/*"))
        for place in (grown[0], tmp_path / "weights")
    }
    assert size[tmp_path / "weights"] < 0.5 * size[grown[0]]
    assert not any(
        str(tmp_path).encode() in path.read_bytes()
        for path in (tmp_path / "weights").rglob("*")
        if path.is_file()
    )
    with pytest.raises(CheckpointError, match="holds something: must be new or empty"):
        run.export(tmp_path / "weights")
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="file cannot be written: File exists"):
        run.export(tmp_path / "file")


def test_images_that_are_not_the_runs_are_refused(grown):
    run = load_run(grown[0])
    with pytest.raises(DataError, match=r"are uint8 \[8, 8, 1\], those of the run were uint8 \[9"):
        run.predict(np.zeros((2, 8, 8), np.uint8))
    with pytest.raises(DataError, match="are float32 "):
        run.states(np.zeros((2, *SHAPE)))


def test_a_directory_without_a_run_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="config"):
        load_run(tmp_path)


def test_data_that_do_not_fit_are_refused_before_anything_is_made(tmp_path):
    workdir = tmp_path / "run"
    with pytest.raises(DataError, match="must be what from_arrays gives, not a tuple"):
        fit(SETTINGS, workdir, data=(1, 2))
    with pytest.raises(DataError, match="the data are given to fit"):
        fit(SETTINGS, workdir)
    with pytest.raises(DataError, match="config.batch_size = 99: at most 48"):
        fit(dataclasses.replace(SETTINGS, batch_size=99), workdir, data=data_of())
    deep = dataclasses.replace(SETTINGS, conv="4 M 4 M 4 M 4 M", learning_rates=0.1)
    with pytest.raises(SettingsError, match="config.conv = .* the images are 9x7"):
        fit(deep, workdir, data=data_of())
    assert not workdir.exists()


def test_an_own_file_is_trained_by_name_and_its_network_checked_when_it_is_read(tmp_path):
    data = data_of()
    np.savez(
        tmp_path / "own.npz",
        train_images=data.train.images,
        train_labels=data.train.labels,
        test_images=data.test.images,
        test_labels=data.test.labels,
    )
    named = dataclasses.replace(SETTINGS, dataset=str(tmp_path / "own.npz"), epochs=1)
    wrong = dataclasses.replace(named, learning_rates=(0.1, 0.2))
    with pytest.raises(SettingsError, match="must be 3 numbers"):
        fit(wrong, tmp_path / "run")
    fit(named, tmp_path / "run")
    assert load_run(tmp_path / "run").evaluate()[1] >= 0


STRICT = """
from jaxep.training import Settings, fit
keys = dict(dataset="digits", train_size=40, test_size=20, batch_size=10, epochs=1, conv="4 M 4 M")
ep = dict(hidden=(6,), t_free=3, t_nudge=2, init_states="uniform", signal="le", signal_layers=(0,))
fit(Settings(**keys, **ep, kappa=1.0, ep_variant="random_sign", optimizer="adam"), WORKDIR + "/ep")
fit(Settings(**keys, task="teacher", learning_rates=0.1, nesterov=True), WORKDIR + "/teacher")
"""


def test_the_trainer_is_clean_under_strict_promotion(tmp_path):
    strict = {"JAX_NUMPY_RANK_PROMOTION": "raise", "JAX_NUMPY_DTYPE_PROMOTION": "strict"}
    done = subprocess.run(
        [sys.executable, "-c", f"WORKDIR = {str(tmp_path)!r}\n{STRICT}"],
        cwd=ROOT,
        env={**os.environ, **strict, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "teacher" / "summary.json").exists()
