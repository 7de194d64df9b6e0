"""Data sets, their splits, and augmentation as geometry."""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxep.data import augment, load, moments, normalise
from jaxep.errors import DataError

IMAGES = jnp.arange(6 * 5 * 4 * 2, dtype=jnp.uint8).reshape(6, 5, 4, 2)


def rows(split):
    return {image.tobytes() for image in split.images}


def test_digits_hold_out_the_same_balanced_fifth():
    first, second = load("digits"), load("digits")
    assert len(first.train.labels) == 1437 and len(first.test.labels) == 360
    np.testing.assert_array_equal(first.test.images, second.test.images)
    shares = np.bincount(first.test.labels) / 360
    np.testing.assert_allclose(shares, np.bincount(first.train.labels) / 1437, atol=0.005)
    assert not rows(first.train) & rows(first.test)
    assert first.image_shape == (8, 8, 1) and first.num_classes == 10


def test_validation_never_shows_a_test_image():
    validation, test = load("digits", split="validation"), load("digits")
    assert len(validation.test.labels) == 288
    assert rows(validation.train) | rows(validation.test) == rows(test.train)
    assert not rows(validation.train) & rows(validation.test)


def test_subsets_are_balanced_and_their_limits_are_told():
    data = load("digits", train_size=100, test_size=50)
    assert len(data.train.labels) == 100 and len(data.test.labels) == 50
    assert np.bincount(data.train.labels).min() >= 9
    with pytest.raises(DataError, match=r"config.train_size = 9999: must be 0 or 1437"):
        load("digits", train_size=9999)


def test_digits_normalise_to_zero_mean_and_unit_variance():
    data = load("digits")
    x = normalise(data.train.images, data.mean, data.std)
    assert abs(float(x.mean())) < 0.01 and abs(float(x.std()) - 1) < 0.01


def test_only_cifar_scales_its_std():
    assert moments("digits", 3.0) == moments("digits", 1.0)
    assert moments("cifar10", 3.0)[1] == pytest.approx((0.6069, 0.5982, 0.603))


@pytest.mark.parametrize("where", ["data_dir", "environment"])
def test_a_missing_data_set_says_where_it_was_looked_for_and_how_to_prepare_it(
    where, tmp_path, monkeypatch
):
    folder = str(tmp_path / "no such")
    monkeypatch.setenv("TFDS_DATA_DIR", folder)
    with pytest.raises(DataError) as error:
        load("cifar10", data_dir=folder if where == "data_dir" else "")
    message = str(error.value)
    assert folder in message and "download_and_prepare" in message and "\n" not in message
    assert not (tmp_path / "no such").exists()


def test_a_corrupt_data_set_is_one_line(tmp_path):
    folder = tmp_path / "cifar10" / "3.0.2"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read") as error:
        load("cifar10", data_dir=str(tmp_path))
    assert "\n" not in str(error.value)


@pytest.mark.skipif(
    not Path(os.environ.get("TFDS_DATA_DIR") or "nowhere", "cifar10").is_dir(),
    reason="TFDS_DATA_DIR names no directory with a prepared cifar10",
)
def test_cifar10_is_the_real_one():
    data = load("cifar10")
    assert data.train.images.shape == (50000, 32, 32, 3)
    assert np.bincount(data.test.labels).tolist() == [1000] * 10
    pixels = data.train.images.mean((0, 1, 2)) / 255
    np.testing.assert_allclose(pixels, data.mean, atol=1e-3)
    np.testing.assert_allclose(data.train.images.std((0, 1, 2)) / 255, 0.25, atol=0.02)


def test_augmented_images_are_crops_of_the_edge_padded_image():
    augmented = np.asarray(jax.jit(augment)(jax.random.key(0), IMAGES))
    for image, got in zip(np.asarray(IMAGES), augmented, strict=True):
        padded = np.pad(image, ((4, 4), (4, 4), (0, 0)), mode="edge")
        crops = [padded[i : i + 5, j : j + 4] for i in range(9) for j in range(9)]
        crops += [crop[:, ::-1] for crop in crops]
        assert any(np.array_equal(crop, got) for crop in crops)


def test_augmentation_differs_by_image_and_key_and_repeats_for_a_key():
    same = jnp.broadcast_to(IMAGES[:1], (64, 5, 4, 2))
    one, again = augment(jax.random.key(0), same), augment(jax.random.key(0), same)
    other = augment(jax.random.key(1), same)
    assert len({np.asarray(image).tobytes() for image in one}) > 30
    np.testing.assert_array_equal(one, again)
    assert np.any(np.asarray(one) != np.asarray(other))


def test_without_padding_and_flip_nothing_changes():
    still = augment(jax.random.key(0), IMAGES, padding=0, flip=False)
    np.testing.assert_array_equal(still, IMAGES)
    flipped = augment(jax.random.key(0), IMAGES, padding=0, flip=True)
    kept = [np.array_equal(a, b) for a, b in zip(flipped, IMAGES, strict=True)]
    mirrored = [np.array_equal(a[:, ::-1], b) for a, b in zip(flipped, IMAGES, strict=True)]
    assert any(kept) and any(mirrored) and all(k or m for k, m in zip(kept, mirrored, strict=True))
