"""Data sets as arrays, and what happens to a batch of them on the device.

Images stay uint8 until a step needs them: the whole set lies on the device at a quarter of the
size, and cropping, flipping and normalising are jitted functions of one batch.
"""

import io
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging as absl_logging
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from jaxep.run.errors import DataError

# Mean and standard deviation per channel of pixels in [0, 1]. CIFAR's are the usual ones; those of
# digits are of its training part.
MOMENTS = {
    "digits": ((0.305,), (0.376,)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
}
CLASSES = {"digits": 10, "cifar10": 10, "cifar100": 100}
# TFDS writes CIFAR as PNG; WebP is the other lossless format met in prepared directories.
FORMATS = ("PNG", "WEBP")
# Which images are held out must not change with the seed of a run: results would not compare.
HOLD_OUT_SEED, VALIDATION_SEED, SUBSET_SEED = 0, 1, 2


class Split(NamedTuple):
    """images: uint8 [n, height, width, channels]; labels: int32 [n]."""

    images: Any
    labels: Any


class Dataset(NamedTuple):
    """A training and a test part, and what normalises their pixels."""

    train: Split
    test: Split
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        return self.train.images.shape[1:]


def load(
    dataset: str,
    *,
    data_dir: str = "",
    train_size: int = 0,
    test_size: int = 0,
    split: str = "test",
    std_scale: float = 3.0,
) -> Dataset:
    """Loads a data set into memory.

    Args:
        dataset: digits (of scikit-learn, a fixed fifth held out as test), cifar10 or cifar100.
        data_dir: of tensorflow_datasets; empty: $TFDS_DATA_DIR, or its own default.
        train_size: number of training images, class-balanced; 0: all.
        test_size: number of test images, class-balanced; 0: all.
        split: "test", or "validation": a fifth of the training part stands in for the test part,
            which is not looked at.
        std_scale: CIFAR's std is multiplied by it.

    Raises:
        DataError: the data set is unknown, missing, or not what it should be, or has too few
            images; the split is unknown.
    """
    # A typo must not be scored on the test part, nor be answered by "prepare it first".
    if dataset not in CLASSES:
        raise DataError(f"dataset = {dataset!r}: must be one of {', '.join(CLASSES)}")
    if split not in ("test", "validation"):
        raise DataError(f"split = {split!r}: must be one of test, validation")
    parts = _digits() if dataset == "digits" else _cifar(dataset, data_dir)
    train, test = (_checked(dataset, part) for part in parts)
    if split == "validation":
        train, test = _divide(train, test_size=0.2, seed=VALIDATION_SEED)
    mean, std = moments(dataset, std_scale)
    train = _subset("train_size", train, train_size)
    test = _subset("test_size", test, test_size)
    return Dataset(train, test, CLASSES[dataset], mean, std)


def moments(dataset: str, std_scale: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std) per channel by which a run normalises; only CIFAR's std is scaled."""
    mean, std = MOMENTS[dataset]
    return mean, std if dataset == "digits" else tuple(std_scale * value for value in std)


def _digits() -> tuple[Split, Split]:
    images, labels = load_digits(return_X_y=True)
    images = np.round(images * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    return _divide(Split(images, labels.astype(np.int32)), test_size=0.2, seed=HOLD_OUT_SEED)


def _divide(split: Split, test_size: float | int, seed: int) -> tuple[Split, Split]:
    """Two parts with the classes in the same shares, always the same for a seed."""
    indices = np.arange(len(split.labels))
    first, second = train_test_split(
        indices, test_size=test_size, random_state=seed, stratify=split.labels
    )
    one, other = (Split(split.images[i], split.labels[i]) for i in (first, second))
    return one, other


def _subset(key: str, split: Split, size: int) -> Split:
    count, classes = len(split.labels), len(np.unique(split.labels))
    if size in (0, count):
        return split
    if not classes <= size <= count - classes:
        raise DataError(
            f"config.{key} = {size}: must be 0 or {count} for all images, or from {classes} to "
            f"{count - classes}"
        )
    return _divide(split, test_size=size, seed=SUBSET_SEED)[1]


def _cifar(dataset: str, data_dir: str) -> tuple[Split, Split]:
    """CIFAR from a directory that tensorflow_datasets has prepared as array_record."""
    # TFDS takes half a second to import, and warns of an image decoder that it can do without.
    verbosity = absl_logging.get_verbosity()
    absl_logging.set_verbosity(absl_logging.ERROR)
    try:
        import tensorflow_datasets as tfds

        folder = Path(data_dir or os.environ.get("TFDS_DATA_DIR") or tfds.core.constants.DATA_DIR)
        _must_exist(dataset, folder)
        # download=False: without it a missing set would be downloaded here and now.
        sources = tfds.data_source(
            dataset,
            data_dir=str(folder),
            download=False,
            decoders={"image": tfds.decode.SkipDecoding()},
        )
        return _decode(sources["train"]), _decode(sources["test"])
    except DataError:
        raise
    except Exception as error:  # whatever a damaged directory makes TFDS or its readers raise
        text = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise DataError(f"{dataset} in {folder} cannot be read: {text}") from error
    finally:
        absl_logging.set_verbosity(verbosity)


def _must_exist(dataset: str, folder: Path) -> None:
    if any((folder / dataset).glob("*/*.array_record*")):
        return
    state, place = "is not there", str(folder)
    if any((folder / dataset).glob("*/dataset_info.json")):
        # TFDS prepares no second format beside a first one.
        state, place = "is there, but not as array_record", f"{folder}-array_record"
    prepare = (
        f"import tensorflow_datasets as tfds; tfds.builder('{dataset}', data_dir='{place}', "
        "file_format='array_record').download_and_prepare()"
    )
    raise DataError(
        f"{dataset} was looked for in {folder} and {state} (config.data_dir or "
        f"$TFDS_DATA_DIR name another place); to prepare it: pip install 'jaxep[datasets]' && "
        f'python -c "{prepare}"'
    )


def _decode(source: Any) -> Split:
    """All records of a source that skips decoding, as two arrays in the order of the records."""

    def decode(indices: np.ndarray) -> list[tuple[np.ndarray, int]]:
        return [
            # Decoding here, not in TFDS, saves 40 us of 190 per image, and naming the formats 40
            # more for WebP (PIL tries six others before it; PNG is among its first).
            (np.asarray(Image.open(io.BytesIO(record["image"]), formats=FORMATS)), record["label"])
            for record in source.__getitems__(indices.tolist())
        ]

    chunks = np.array_split(np.arange(len(source)), max(1, len(source) // 500))
    with ThreadPoolExecutor() as pool:
        pairs = [pair for part in pool.map(decode, chunks) for pair in part]
    images, labels = zip(*pairs, strict=True)
    return Split(np.stack(images), np.asarray(labels, np.int32))


def _checked(dataset: str, split: Split) -> Split:
    shape = (8, 8, 1) if dataset == "digits" else (32, 32, 3)
    if split.images.shape[1:] != shape or split.images.dtype != np.uint8:
        found = f"{split.images.dtype} {split.images.shape[1:]}"
        raise DataError(f"images of {dataset} must be uint8 {shape}, are {found}")
    if not len(split.labels):
        raise DataError(f"{dataset} has no images in one of its parts")
    low, high = int(split.labels.min()), int(split.labels.max())
    if low < 0 or high >= CLASSES[dataset]:
        allowed = CLASSES[dataset] - 1
        raise DataError(f"labels of {dataset} must be in 0..{allowed}, are in {low}..{high}")
    return split


def augment(key: jax.Array, images: jax.Array, padding: int = 4, flip: bool = True) -> jax.Array:
    """A random crop of the edge-padded image, and a random horizontal flip, for each image.

    Args:
        key: random key.
        images: uint8 [batch, height, width, channels].
        padding: pixels; offsets are uniform in -padding..padding.
        flip: mirror half of the images.

    Returns:
        As `images`.
    """
    batch, height, width, _ = images.shape
    offset_key, flip_key = jax.random.split(key)
    offsets = jax.random.randint(offset_key, (batch, 2), -padding, padding + 1)
    # Clipped indices are an edge padding without the padded copy.
    rows = jnp.clip(jnp.arange(height) + offsets[:, :1], 0, height - 1)
    columns = jnp.clip(jnp.arange(width) + offsets[:, 1:], 0, width - 1)
    if flip:
        mirrored = jax.random.bernoulli(flip_key, 0.5, (batch, 1))
        columns = jnp.where(mirrored, columns[:, ::-1], columns)
    return images[jnp.arange(batch)[:, None, None], rows[:, :, None], columns[:, None, :]]


def normalise(images: jax.Array, mean: tuple[float, ...], std: tuple[float, ...]) -> jax.Array:
    """uint8 [..., channels] -> (pixel / 255 - mean) / std, float32."""
    pixels = images.astype(jnp.float32) / 255
    return (pixels - jnp.asarray(mean, jnp.float32)) / jnp.asarray(std, jnp.float32)
