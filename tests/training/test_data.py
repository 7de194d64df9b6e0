"""Data sets, their splits, and augmentation as geometry."""

import io
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxep.run.errors import DataError
from jaxep.training.data import augment, load, moments, normalise
from jaxep.training.sources import SPECS, _decode

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


VERSION = "3.0.2"


def prepared(tmp_path, ending, version=VERSION, info='{"name": "cifar10"}'):
    """A directory such as TFDS leaves, without a record in it."""
    folder = tmp_path / "cifar10" / version
    folder.mkdir(parents=True)
    if info:
        (folder / "dataset_info.json").write_text(info)
    (folder / f"cifar10-train.{ending}-00000-of-00001").write_bytes(b"")


def test_another_file_format_is_prepared_elsewhere(tmp_path):
    prepared(tmp_path, "tfrecord")
    with pytest.raises(DataError, match="not as array_record") as error:
        load("cifar10", data_dir=str(tmp_path))
    # TFDS refuses a second format in the same place: the command must name another.
    assert f"data_dir='{tmp_path}'" not in str(error.value)
    assert f"data_dir='{tmp_path}-array_record'" in str(error.value)


STATES = {
    "was only prepared in part: .* holds incomplete.ABC_3.0.2": {"version": "incomplete.ABC_3.0.2"},
    "is there in version 3.0.1, where 3.0.2 is read": {"version": "3.0.1"},
    "is there without its dataset_info.json": {"info": ""},
}


@pytest.mark.parametrize("words", STATES)
def test_a_directory_that_is_not_ready_says_what_it_is(words, tmp_path):
    prepared(tmp_path, "array_record", **STATES[words])
    with pytest.raises(DataError, match=words) as error:
        load("cifar10", data_dir=str(tmp_path))
    assert "download_and_prepare" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("info", ['{"name": "mnist"}', "{", "[]"])
def test_files_of_another_data_set_and_damaged_ones_are_refused(info, tmp_path):
    prepared(tmp_path, "array_record", info=info)
    with pytest.raises(DataError, match="holds mnist" if "mnist" in info else "is damaged"):
        load("cifar10", data_dir=str(tmp_path))


@pytest.mark.parametrize("where", ["data_dir", "environment"])
def test_a_tilde_is_the_home_directory(where, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TFDS_DATA_DIR", "~/sets")
    with pytest.raises(DataError, match=f"was looked for in {tmp_path}/sets and is not there"):
        load("cifar10", data_dir="~/sets" if where == "data_dir" else "")


@pytest.mark.parametrize("words", [{"dataset": "cifar"}, {"dataset": "digits", "split": "valid"}])
def test_unknown_names_are_refused_with_what_is_allowed(words):
    key, value = list(words.items())[-1]
    with pytest.raises(DataError, match=f"{key} = '{value}': must be one of"):
        load(**words)


def spec(monkeypatch, name, train, test=None):
    """Puts arrays in the place of what a data set loads."""

    def parts(data_dir):
        return train, test or train

    monkeypatch.setitem(SPECS, name, SPECS[name]._replace(load=parts))


@pytest.mark.parametrize(
    "images, labels, message",
    [
        (np.zeros((1, 32, 32, 3), np.uint8), [10], "labels of cifar10 must be in 0..9"),
        (np.zeros((1, 32, 32, 3), np.uint8), [-1], "labels of cifar10 must be in 0..9"),
        (np.zeros((1, 32, 32, 3), np.float32), [0], "must be uint8"),
        (np.zeros((0, 32, 32, 3), np.uint8), [], "has no images in its training part"),
        (np.zeros((1, 28, 28, 1), np.uint8), [0], r"must be uint8 \(32, 32, 3\)"),
    ],
)
def test_what_is_not_cifar_is_refused(images, labels, message, monkeypatch):
    spec(monkeypatch, "cifar10", (images, np.asarray(labels, np.int32)))
    with pytest.raises(DataError, match=message):
        load("cifar10")


def test_files_with_the_classes_of_another_data_set_are_refused(monkeypatch):
    labels = np.arange(200, dtype=np.int32) % 10
    spec(monkeypatch, "cifar100", (np.zeros((200, 32, 32, 3), np.uint8), labels))
    with pytest.raises(DataError, match="cifar100 has images of 10 classes, not of 100"):
        load("cifar100")


def test_a_corrupt_data_set_is_one_line(tmp_path):
    prepared(tmp_path, "array_record")
    with pytest.raises(DataError, match="cannot be read") as error:
        load("cifar10", data_dir=str(tmp_path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("dataset, classes", [("cifar10", 10), ("cifar100", 100)])
def test_cifar_is_the_real_one(dataset, classes, capfd):
    if not Path(os.environ.get("TFDS_DATA_DIR") or "nowhere", dataset).is_dir():
        pytest.skip(f"TFDS_DATA_DIR names no directory with a prepared {dataset}")
    data = load(dataset)
    assert capfd.readouterr() == ("", "")
    assert data.train.images.shape == (50000, 32, 32, 3) and data.num_classes == classes
    assert np.bincount(data.train.labels).tolist() == [50000 // classes] * classes
    assert np.bincount(data.test.labels).tolist() == [10000 // classes] * classes
    # CIFAR-10's moments serve both sets; CIFAR-100's own means differ by up to 0.016.
    pixels = data.train.images.mean((0, 1, 2), dtype=np.float64) / 255
    np.testing.assert_allclose(pixels, data.mean, atol=1e-3 if classes == 10 else 0.02)
    np.testing.assert_allclose(data.train.images[:5000].std((0, 1, 2)) / 255, 0.25, atol=0.04)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "svhn_cropped"])
def test_other_sets_of_tfds_are_one_line_each(name, monkeypatch):
    shape = SPECS[name].image_shape
    images = np.random.default_rng(0).integers(0, 256, (20, *shape), np.uint8)
    labels = np.arange(20) % 10
    # PNG in gray comes without an axis of channels.
    spec(monkeypatch, name, (images[..., 0] if shape[2] == 1 else images, labels))
    data = load(name)
    assert data.image_shape == shape and data.num_classes == 10
    assert data.flip == (name == "fashion_mnist") and data.padding > 0
    assert len(data.mean) == len(data.std) == shape[2]


class Records:
    """A source as TFDS gives it without decoding, of random images in PNG and WebP by turns."""

    def __init__(self, count):
        self.images = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), np.uint8)

    def __len__(self):
        return len(self.images)

    def __getitems__(self, indices):
        return [{"image": self._encoded(index), "label": index} for index in indices]

    def _encoded(self, index):
        file = io.BytesIO()
        Image.fromarray(self.images[index]).save(file, ("PNG", "WEBP")[index % 2], lossless=True)
        return file.getvalue()


def test_decoding_keeps_every_pixel_and_the_order_of_the_records():
    source = Records(1203)  # more than two chunks, of unequal size
    images, labels = _decode(source)
    np.testing.assert_array_equal(images, source.images)
    np.testing.assert_array_equal(labels, np.arange(1203))
    assert images.dtype == np.uint8 and labels.dtype == np.int32


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


def test_augmentation_is_the_same_within_jit():
    jitted = jax.jit(augment, static_argnames=("padding", "flip"))
    for padding, flip in ((4, True), (1, False)):
        here = augment(jax.random.key(3), IMAGES, padding=padding, flip=flip)
        there = jitted(jax.random.key(3), IMAGES, padding=padding, flip=flip)
        np.testing.assert_array_equal(here, there)
        assert there.dtype == jnp.uint8


def test_without_padding_and_flip_nothing_changes():
    still = augment(jax.random.key(0), IMAGES, padding=0, flip=False)
    np.testing.assert_array_equal(still, IMAGES)
    flipped = augment(jax.random.key(0), IMAGES, padding=0, flip=True)
    kept = [np.array_equal(a, b) for a, b in zip(flipped, IMAGES, strict=True)]
    mirrored = [np.array_equal(a[:, ::-1], b) for a, b in zip(flipped, IMAGES, strict=True)]
    assert any(kept) and any(mirrored) and all(k or m for k, m in zip(kept, mirrored, strict=True))
