"""Images and labels as they are given, as arrays that a run can use, or refused with a sentence."""

from typing import Any

import numpy as np

from jaxep.run.errors import DataError, reason


def _array(words: str, value: Any) -> np.ndarray:
    try:
        return np.asarray(value)
    except ValueError as error:  # lists of unequal lengths
        raise DataError(f"{words} are no array: {reason(error)}") from error


def images_of(name: str, images: Any) -> np.ndarray:
    """uint8 or float32 [n, height, width, channels]; `name` is that of the data, for errors."""
    images = _array(f"images of {name}", images)
    images = images[..., None] if images.ndim == 3 else images
    if images.ndim != 4 or not all(images.shape[1:]):
        allowed = "[n, height, width] or [n, height, width, channels]"
        raise DataError(f"images of {name} must be {allowed}, are {list(images.shape)}")
    if images.dtype == np.uint8:
        return images
    if np.issubdtype(images.dtype, np.integer):
        low, high = int(images.min(initial=0)), int(images.max(initial=0))
        if low >= 0 and high <= 255:
            return images.astype(np.uint8)
        raise DataError(f"images of {name} must be integers in 0..255, are in {low}..{high}")
    if np.issubdtype(images.dtype, np.floating):
        with np.errstate(over="ignore"):
            images = images.astype(np.float32)
        if np.isfinite(images).all():
            return images
        raise DataError(f"images of {name} must be finite in float32, some are not")
    raise DataError(f"images of {name} must be uint8 or float32, are {images.dtype}")


def labels_of(name: str, labels: Any) -> np.ndarray:
    """int32 [n]."""
    labels = _array(f"labels of {name}", labels)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        found = f"{labels.dtype} {list(labels.shape)}"
        raise DataError(f"labels of {name} must be integers [n], are {found}")
    if labels.size and max(abs(int(labels.min())), abs(int(labels.max()))) >= 2**31:
        raise DataError(f"labels of {name} must be in int32")
    return labels.astype(np.int32)


def must_pair(name: str, words: str, images: np.ndarray, labels: np.ndarray) -> None:
    """As many images as labels, and not none; `words`: which part they are."""
    if len(images) != len(labels):
        raise DataError(
            f"the {words} part of {name} has {len(images)} images and {len(labels)} labels"
        )
    if not len(images):
        raise DataError(f"{name} has no images in its {words} part")


def must_be_classes(name: str, labels: np.ndarray, classes: int) -> None:
    """Labels are in 0, ..., classes - 1."""
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise DataError(f"labels of {name} must be in 0..{classes - 1}, are in {low}..{high}")


def moments_of(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std) per channel; 1 in the place of the std of a constant channel."""
    scale = 255 if images.dtype == np.uint8 else 1
    mean = images.mean((0, 1, 2), dtype=np.float64) / scale
    std = images.std((0, 1, 2), dtype=np.float64) / scale
    return tuple(mean.tolist()), tuple(np.where(std > 1e-12, std, 1.0).tolist())
