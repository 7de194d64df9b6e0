"""The weights that are kept beside the results are those of the runs that the results tell of."""

import json

import numpy as np
import pytest

import jaxep
from benchmarks.paper import cifar10
from benchmarks.shared.results import RESULTS
from benchmarks.shared.runs import settings_of
from jaxep.run.errors import DataError

ROWS = json.loads((RESULTS / "cifar10.json").read_text())["runs"]
KEPT = {name: folder for name, folder in cifar10.KEPT.items() if name in ROWS}


def test_weights_are_kept_and_small():
    assert KEPT
    sizes = [path.stat().st_size for path in (RESULTS / "weights").rglob("*") if path.is_file()]
    assert sum(sizes) < 5e6
    assert {folder.name for folder in (RESULTS / "weights").iterdir()} == set(KEPT.values())


@pytest.mark.parametrize("name", KEPT)
def test_they_are_read_without_training(name):
    run = jaxep.load_run(RESULTS / "weights" / KEPT[name])
    assert run.settings == settings_of(cifar10.RUNS[name])
    assert max(run.metrics["test_acc"]) == ROWS[name]["best_test_accuracy"]
    noise = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    assert run.outputs(noise).shape == (2, 10)


@pytest.mark.parametrize("name", KEPT)
def test_they_judge_images_as_the_result_says(name):
    run = jaxep.load_run(RESULTS / "weights" / KEPT[name])
    try:
        data = jaxep.training.load_data(run.settings)
    except DataError:
        pytest.skip("CIFAR-10 is not here")
    images, labels = data.test.images[:400], data.test.labels[:400]
    # Four standard deviations of a share of 400.
    aim, accuracy = ROWS[name]["best_test_accuracy"], np.mean(run.predict(images) == labels)
    assert accuracy == pytest.approx(aim, abs=4 * np.sqrt(aim * (1 - aim) / 400))
