"""Data of one's own: arrays and .npz files."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxep.run.errors import DataError
from jaxep.training.data import facts, from_arrays, load, normalise, select
from tests.training.test_data import rows

GRAY = np.random.default_rng(0).integers(0, 256, (60, 9, 7), np.uint8)
SIGNS = np.arange(60) % 3


def test_arrays_of_ones_own_become_a_data_set():
    data = from_arrays(GRAY[:40], SIGNS[:40], GRAY[40:], SIGNS[40:])
    assert data.image_shape == (9, 7, 1) and data.num_classes == 3
    x = normalise(data.train.images, data.mean, data.std)
    assert abs(float(x.mean())) < 1e-5 and abs(float(x.std()) - 1) < 1e-5
    assert select(data, train_size=12, split="test").train.labels.shape == (12,)
    held = from_arrays(GRAY, SIGNS)
    assert len(held.train.labels) == 48 and len(held.test.labels) == 12
    assert not rows(held.train) & rows(held.test)
    again = from_arrays(GRAY.astype(np.int64), SIGNS.tolist())
    assert facts(again) == facts(held)


def test_float_images_are_normalised_as_they_are():
    images = np.random.default_rng(0).normal(3, 2, (60, 4, 4, 2))
    data = from_arrays(images, SIGNS)
    assert data.train.images.dtype == np.float32
    x = normalise(data.train.images, data.mean, data.std)
    np.testing.assert_allclose(x.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(x.std((0, 1, 2)), 1, atol=1e-5)
    black = from_arrays(np.zeros((60, 4, 4)), SIGNS)
    assert np.isfinite(normalise(black.train.images, black.mean, black.std)).all()


NO_DATA = {
    "must be [n, height, width] or": (GRAY[0], SIGNS),
    "must be integers in 0..255": (GRAY.astype(np.int32) + 1, SIGNS),
    "must be finite in float32": (np.full((60, 4, 4), np.nan), SIGNS),
    "must be uint8 or float32, are complex64": (GRAY.astype(np.complex64), SIGNS),
    "are no array": ([[[1]], [[1, 2]]], [0, 1]),
    "must be integers [n], are float64": (GRAY, SIGNS / 2),
    "must be in 0..2, are in -1..2": (GRAY, np.where(SIGNS, SIGNS, -1)),
    "has 60 images and 59 labels": (GRAY, SIGNS[1:]),
    "has no images": (GRAY[:0], SIGNS[:0]),
    "cannot be divided by classes": (GRAY, np.arange(60)),
    "must be in int32": (GRAY, SIGNS + 2**40),
    "must be under": (GRAY, SIGNS * 10**6),
}


@pytest.mark.parametrize("words", NO_DATA)
def test_what_is_no_data_is_refused_in_one_line(words):
    with pytest.raises(DataError) as error:
        from_arrays(*NO_DATA[words])
    assert words in str(error.value) and "\n" not in str(error.value)


def test_test_images_are_of_the_kind_of_the_training_images():
    with pytest.raises(DataError, match=r"are uint8 \(9, 7, 1\) in the training part, float32 "):
        from_arrays(GRAY, SIGNS, GRAY / 255, SIGNS)
    with pytest.raises(DataError, match="labels of .* must be in 0..2, are in 1..3"):
        from_arrays(GRAY, SIGNS, GRAY, SIGNS + 1)
    assert from_arrays(GRAY, SIGNS, GRAY, SIGNS + 1, num_classes=4).num_classes == 4


def test_a_file_of_arrays_is_a_data_set(tmp_path, monkeypatch):
    names = ("train_images", "train_labels", "test_images", "test_labels")
    parts = dict(zip(names, (GRAY[:40], SIGNS[:40], GRAY[40:], SIGNS[40:]), strict=True))
    np.savez(tmp_path / "parts.npz", **parts)
    np.savez_compressed(tmp_path / "whole.npz", images=GRAY, labels=SIGNS)
    assert facts(load(str(tmp_path / "parts.npz"))) == facts(from_arrays(*parts.values()))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert facts(load("~/whole.npz")) == facts(from_arrays(GRAY, SIGNS))
    assert len(load(str(tmp_path / "whole.npz"), train_size=9, split="validation").train[1]) == 9


def test_a_file_that_is_none_says_what_it_must_be(tmp_path):
    np.savez(tmp_path / "x.npz", pictures=GRAY)
    with pytest.raises(DataError, match="holds pictures: its arrays must be named images and lab"):
        load(str(tmp_path / "x.npz"))
    (tmp_path / "x.npz").write_bytes(b"PK nothing")
    with pytest.raises(DataError, match="cannot be read as .npz"):
        load(str(tmp_path / "x.npz"))
    np.savez(tmp_path / "x.npz", images=np.array([object()]), labels=SIGNS)
    with pytest.raises(DataError, match="cannot be read as .npz: .*allow_pickle"):
        load(str(tmp_path / "x.npz"))
    with pytest.raises(DataError, match="there is no such file"):
        load(str(tmp_path / "none.npz"))


def test_the_facts_of_data_tell_one_changed_pixel():
    data = load("digits")
    there = facts(data)
    assert json.loads(json.dumps(there)) == there and there["train_images"] == 1437
    images = data.train.images.copy()
    images[5, 0, 0, 0] ^= 1
    other = facts(data._replace(train=data.train._replace(images=images)))
    assert {name for name in there if there[name] != other[name]} == {"crc32"}
    assert facts(jax.tree.map(jnp.asarray, data)) == there
