"""Data sets as arrays, and what happens to a batch of them on the device.

Images stay as they are stored until a step needs them: the whole set lies on the device, uint8 at a
quarter of the size, and cropping, flipping and normalising are jitted functions of one batch.
"""

import zlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxep.run.errors import DataError, reason
from jaxep.training import arrays
from jaxep.training.sources import DataSpec, spec_of

# Which images are held out must not change with the seed of a run: results would not compare.
HOLD_OUT_SEED, VALIDATION_SEED, SUBSET_SEED = 0, 1, 2
# Labels become int32, and an output has a neuron for each class.
LARGEST_CLASSES = 2**20


class Split(NamedTuple):
    """images: uint8 or float32 [n, height, width, channels]; labels: int32 [n]."""

    images: Any
    labels: Any


class Dataset(NamedTuple):
    """A training and a test part, and what a run does with their images.

    Attributes:
        train: to learn from.
        test: to judge by.
        num_classes: labels are in 0, ..., num_classes - 1.
        mean: per channel; of uint8 images, of pixels in [0, 1].
        std: the same.
        padding: pixels by which augmentation moves an image at most.
        flip: whether augmentation mirrors half of the images.
    """

    train: Split
    test: Split
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    padding: int = 0
    flip: bool = False

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
        dataset: a name of `sources.SPECS`, or the path of an .npz file.
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
    spec = spec_of(dataset)
    _check_split(split)
    mean, std = moments(dataset, std_scale)
    train, test = spec.load(data_dir)
    whole = from_arrays(
        *(*train, *(test or (None, None))),
        name=dataset,
        num_classes=spec.classes,
        mean=mean,
        std=std,
        padding=spec.padding,
        flip=spec.flip,
    )
    _check_promised(spec, whole)
    return select(whole, train_size=train_size, test_size=test_size, split=split)


def _check_promised(spec: DataSpec, whole: Dataset) -> None:
    """The files of a named data set hold what its record promises."""
    if spec.image_shape not in (None, whole.image_shape) or (
        spec.image_shape is not None and whole.train.images.dtype != np.uint8
    ):
        found = f"{whole.train.images.dtype} {whole.image_shape}"
        raise DataError(f"images of {spec.name} must be uint8 {spec.image_shape}, are {found}")
    classes = len(np.unique(whole.train.labels))
    if spec.classes not in (None, classes):
        raise DataError(
            f"the training part of {spec.name} has images of {classes} classes, not of "
            f"{spec.classes}: these are the files of another data set, or not all of its files"
        )


def moments(dataset: str, std_scale: float) -> tuple[Any, Any]:
    """(mean, std) per channel by which a run normalises; None where the training part tells."""
    spec = spec_of(dataset)
    if spec.std is None or not spec.std_scaled:
        return spec.mean, spec.std
    return spec.mean, tuple(std_scale * value for value in spec.std)


def from_arrays(
    train_images: Any,
    train_labels: Any,
    test_images: Any = None,
    test_labels: Any = None,
    *,
    num_classes: int | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    padding: int = 0,
    flip: bool = False,
    name: str = "the data given",
) -> Dataset:
    """Data of one's own, for `fit(settings, workdir, data=from_arrays(...))`.

    Args:
        train_images: [n, height, width, channels] or [n, height, width], integers in 0..255, or
            finite floats, which are normalised as they are.
        train_labels: integers [n], from 0.
        test_images: of the same shape and type; None: a fixed fifth of the training images is held
            out, the same for ever.
        test_labels: integers.
        num_classes: None: one more than the largest training label.
        mean: per channel; None: of the training images.
        std: per channel; None: of the training images.
        padding: pixels by which `config.augment` moves an image at most.
        flip: whether `config.augment` mirrors half of the images.
        name: of the data, for the sentences of errors.

    Raises:
        DataError: what is given is not that.
    """
    train = Split(arrays.images_of(name, train_images), arrays.labels_of(name, train_labels))
    if test_images is None:
        arrays.must_pair(name, "training", *train)
        train, test = _divide(train, test_size=0.2, seed=HOLD_OUT_SEED)
    else:
        test = Split(arrays.images_of(name, test_images), arrays.labels_of(name, test_labels))
    here, there = (f"{p.images.dtype} {p.images.shape[1:]}" for p in (train, test))
    if here != there:
        raise DataError(f"images of {name} are {here} in the training part, {there} in the test")
    classes = num_classes or int(train.labels.max(initial=0)) + 1
    if classes > LARGEST_CLASSES:
        raise DataError(f"labels of {name} must be under {LARGEST_CLASSES}, go to {classes - 1}")
    for part, words in ((train, "training"), (test, "test")):
        arrays.must_pair(name, words, *part)
        arrays.must_be_classes(name, part.labels, classes)
    if mean is None or std is None:
        mean, std = arrays.moments_of(train.images)
    return Dataset(train, test, classes, tuple(mean), tuple(std), padding, flip)


def select(whole: Dataset, *, train_size: int = 0, test_size: int = 0, split: str) -> Dataset:
    """The part of a data set that a run uses; arguments as of `load`."""
    _check_split(split)
    train, test = whole.train, whole.test
    if split == "validation":
        train, test = _divide(train, test_size=0.2, seed=VALIDATION_SEED)
    train = _subset("train_size", train, train_size)
    return whole._replace(train=train, test=_subset("test_size", test, test_size))


def _check_split(split: str) -> None:
    if split not in ("test", "validation"):
        raise DataError(f"split = {split!r}: must be one of test, validation")


def _divide(split: Split, test_size: float | int, seed: int) -> tuple[Split, Split]:
    """Two parts with the classes in the same shares, always the same for a seed."""
    from sklearn.model_selection import train_test_split  # takes a second to import

    indices = np.arange(len(split.labels))
    try:
        first, second = train_test_split(
            indices, test_size=test_size, random_state=seed, stratify=split.labels
        )
    except ValueError as error:  # a class of one image, or too few images for all classes
        raise DataError(f"the data cannot be divided by classes: {reason(error)}") from error
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


def facts(data: Dataset) -> dict[str, Any]:
    """What tells data from other data, and what a trained network must know of them: JSON values.

    A CRC-32 of all images and labels is among them.
    """
    crc = 0
    for array in (*data.train, *data.test):
        crc = zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data, crc)
    return {
        "image_shape": list(data.image_shape),
        "image_type": str(data.train.images.dtype),
        "num_classes": data.num_classes,
        "mean": list(data.mean),
        "std": list(data.std),
        "padding": data.padding,
        "flip": data.flip,
        "train_images": len(data.train.labels),
        "test_images": len(data.test.labels),
        "crc32": f"{crc:08x}",
    }


def augment(key: jax.Array, images: jax.Array, padding: int = 4, flip: bool = True) -> jax.Array:
    """A random crop of the edge-padded image, and a random horizontal flip, for each image.

    Args:
        key: random key.
        images: [batch, height, width, channels].
        padding: pixels; offsets are uniform in -padding..padding.
        flip: mirror half of the images.

    Returns:
        As `images`.
    """
    batch, height, width, _ = images.shape
    offset_key, flip_key = jax.random.split(key)
    offsets = jax.random.randint(offset_key, (batch, 2), -padding, padding + 1)
    # Clipped indices are an edge padding without the padded copy.
    rows = jnp.clip(jnp.arange(height)[None] + offsets[:, :1], 0, height - 1)
    columns = jnp.clip(jnp.arange(width)[None] + offsets[:, 1:], 0, width - 1)
    if flip:
        mirrored = jax.random.bernoulli(flip_key, 0.5, (batch, 1))
        columns = jnp.where(mirrored, columns[:, ::-1], columns)
    return images[jnp.arange(batch)[:, None, None], rows[:, :, None], columns[:, None, :]]


def normalise(images: jax.Array, mean: tuple[float, ...], std: tuple[float, ...]) -> jax.Array:
    """[..., channels] -> (pixel - mean) / std, float32; uint8 is pixel / 255 before."""
    pixels = images.astype(jnp.float32)
    pixels = pixels / 255 if images.dtype == jnp.uint8 else pixels
    shape = (1,) * (images.ndim - 1) + (-1,)
    center, scale = (jnp.asarray(values, jnp.float32).reshape(shape) for values in (mean, std))
    return (pixels - center) / scale
