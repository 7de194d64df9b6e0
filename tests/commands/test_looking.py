"""jaxep evaluate and jaxep show: a trained run is judged and drawn, and left as it is."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

import jaxep
from jaxep.commands.evaluate import evaluate
from jaxep.commands.show import look, show
from jaxep.commands.states_picture import as_plane
from jaxep.commands.trained import load
from jaxep.configs import load as load_config
from jaxep.run.errors import CheckpointError, SettingsError, UserError
from jaxep.training import fit, from_config


def content(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rows(folder):
    with open(folder / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_the_last_weights_are_judged_as_in_training(trained, tmp_path, capsys):
    before = content(trained)
    evaluate([str(trained), "--last", "--json", str(tmp_path / "found.json")])
    found = json.loads((tmp_path / "found.json").read_text())
    last = rows(trained)[-1]
    assert found["accuracy"] == pytest.approx(float(last["test_acc"]))
    assert found["loss"] == pytest.approx(float(last["test_loss"]), rel=1e-5)
    assert (found["epoch"], found["update"], found["images"]) == (2, 12, 30)
    right = sum(own["images"] * own["accuracy"] for own in found["classes"])
    assert right == pytest.approx(found["accuracy"] * 30)
    out = capsys.readouterr().out
    assert "the last weights, after epoch 2 (update 12)" in out and "30 test images: loss" in out
    assert out.count("\nclass ") == 10 and content(trained) == before


def test_without_last_the_weights_are_those_of_the_best_epoch(trained, capsys):
    evaluate([str(trained)])
    best = max(rows(trained), key=lambda row: (float(row["test_acc"]), -int(row["epoch"])))
    out = capsys.readouterr().out
    assert f"the best weights, after epoch {best['epoch']} " in out
    assert f"accuracy {100 * float(best['test_acc']):.2f} %" in out


def test_the_picture_has_what_the_network_computes(trained, capsys):
    shown = look(load(trained, last=True), 4)
    run = jaxep.load_run(trained, best=False)
    data = load(trained, last=True).data.test
    states = run.states(np.asarray(data.images[4:5]))
    np.testing.assert_allclose(shown.free["fc1"], states["fc1"][0], atol=1e-6)
    np.testing.assert_allclose(
        shown.outputs, run.outputs(np.asarray(data.images[4:5]))[0], atol=1e-6
    )
    assert shown.label == data.labels[4]
    assert f"predicted {shown.outputs.argmax()}, label {shown.label}" in shown.title
    (plus, forward), (minus, backward) = shown.moved
    assert plus.endswith("β = +0.5") and minus.endswith("β = −0.5")
    # A small nudge the other way moves the other way: mostly, as it is not that small.
    one, other = forward["fc1"], backward["fc1"]
    assert np.abs(one).max() > 1e-4 and np.dot(one, other) < -0.5 * np.dot(one, one)


def test_a_nudge_moves_the_states_to_a_lower_loss(trained):
    found = load(trained, last=True)
    shown, model = look(found, 0), found.run.model

    def loss(states):
        batch = {"fc1": np.asarray(states)[None]}
        logits = np.asarray(model.outputs(found.run.params, batch))[0]
        return np.log(np.exp(logits).sum()) - logits[shown.label]

    free, ((_, forward), (_, backward)) = shown.free["fc1"], shown.moved
    assert loss(free + forward["fc1"]) < loss(free) < loss(free + backward["fc1"])


def test_show_writes_a_picture_beside_and_nothing_in_the_run(
    trained, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    before = content(trained)
    show([str(trained), "--image", "2"])
    assert capsys.readouterr().out.splitlines()[-1] == "show_small_2.png"
    assert Image.open("show_small_2.png").size[1] > 600 and content(trained) == before
    show([str(trained), "--last", "--out", "other.png"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.png", "show_small_2.png"]


REFUSED = [
    (["--image", "30"], "--image 30: must be in 0..29"),
    (["--image", "-1"], "--image -1: must be in 0..29"),
    (["--image", "x"], "--image: invalid int value: 'x'"),
    (["--out", "picture.jpg"], "--out picture.jpg: must end in .png"),
    (["--out", "nothere/x.png"], "there is no folder nothere"),
    (["--out", "."], "--out .: must be a file, is a folder"),
    (["--lst"], "unrecognized arguments: --lst"),
]


@pytest.mark.parametrize(("words", "sentence"), REFUSED, ids=[" ".join(r[0]) for r in REFUSED])
def test_bad_words_are_one_sentence(words, sentence, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError) as error:
        show([str(trained), *words])
    assert sentence in str(error.value) and not list(tmp_path.iterdir())


def test_what_is_no_run_is_one_sentence(trained, tmp_path):
    for command in (evaluate, show):
        with pytest.raises(CheckpointError, match="config.json is not a readable config"):
            command([str(tmp_path / "nothere")])
    copy = shutil.copytree(trained, tmp_path / "copy")
    config = json.loads((copy / "config.json").read_text())
    for change, words in (
        ({"task": "teacher"}, "holds a run of task teacher: must be one of task ep"),
        ({"train_size": 50}, "holds a run on other data: train_images = 60 there, 50 here"),
        ({"dataset": ""}, "dataset"),
    ):
        (copy / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(UserError, match=words):
            evaluate([str(copy)])


def test_maps_are_a_grid_with_a_thin_gap_and_dense_layers_a_strip():
    maps = np.arange(2 * 2 * 5, dtype=float).reshape(2, 2, 5)
    plane = as_plane(maps)
    assert plane.shape == (2 * 13 - 1, 3 * 13 - 1)
    assert plane[0, 0] == maps[0, 0, 0] and plane[11, 11] == maps[1, 1, 0]
    assert plane[13, 13] == maps[0, 0, 4] and np.isnan(plane[12]).all() and np.isnan(plane[13, 26])
    assert as_plane(np.zeros((3, 2, 100))).shape[1] < 12 * 20
    assert as_plane(np.zeros(7)).shape == (7, 1) and as_plane(np.zeros((8, 64))).shape == (8, 64)


SYSTEMS = {
    "digits_std": ({"conv": "4 M", "hidden": (), "learning_rates": 0.1}, 2),
    "digits_le": ({"conv": "4 M", "signal_layers": (0,), "learning_rates": 0.1}, 2),
    "digits_pc": ({"conv": "", "learning_rates": 0.1, "gain": 1.0}, 2),
    "digits_untied": ({"conv": "", "learning_rates": 0.1}, 2),
    "digits_feedback": ({"conv": "", "learning_rates": 0.1}, 2),
    "digits_sequence": ({}, 2),
    "digits_transformer": ({"dim": 8, "heads": 2, "memories": 8}, 2),
    "digits_continual": ({"conv": "", "learning_rates": 0.1}, 2),
    "digits_holomorphic": ({}, 2),
    "digits_events": ({}, 2),
    "implicit": ({"conv": "", "learning_rates": 0.1, "estimator": "implicit"}, 0),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SYSTEMS)
def test_every_system_is_shown_and_judged(name, tmp_path, capsys):
    changes, phases = SYSTEMS[name]
    config = load_config(name if name.startswith("digits") else "digits_std")
    config.update({"train_size": 60, "test_size": 30, "epochs": 1, "batch_size": 20, **changes})
    config.t_free, config.t_nudge = min(config.t_free, 6), min(config.t_nudge, 3)
    fit(from_config(config), tmp_path / "run")
    shown = look(load(tmp_path / "run", last=True), 0)
    assert len(shown.moved) == phases and len(shown.free) >= 1
    for _, moved in shown.moved:
        assert set(moved) == set(shown.free) and all(np.isfinite(m).all() for m in moved.values())
        assert max(np.abs(m).max() for m in moved.values()) > 0
    show([str(tmp_path / "run"), "--out", str(tmp_path / "x.png")])
    evaluate([str(tmp_path / "run"), "--last"])
    accuracy = 100 * float(rows(tmp_path / "run")[-1]["test_acc"])
    assert f"accuracy {accuracy:.2f} %" in capsys.readouterr().out
