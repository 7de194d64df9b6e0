"""The data sets that a run can name: one record each, and how their arrays are read.

A new data set of tensorflow_datasets is one more line of `SPECS`.
"""

import functools
import io
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import logging as absl_logging

from jaxep.run.errors import DataError, reason

Arrays = tuple[np.ndarray, np.ndarray]
# TFDS writes PNG; WebP is the other lossless format met in prepared directories.
FORMATS = ("PNG", "WEBP")


class DataSpec(NamedTuple):
    """One data set.

    Attributes:
        name: as `config.dataset` has it.
        load: config.data_dir -> ((images, labels) of the training part, the same of the test part);
            where there is no test part, None in its place: a fixed fifth is held out.
        image_shape: (height, width, channels); None: whatever the file has.
        classes: their number; None: the labels tell.
        mean: per channel, of pixels in [0, 1]; None: of the training part.
        std: the same.
        std_scaled: whether `config.std_scale` multiplies the std.
        padding: pixels by which a training image is moved at most, by a crop with edge padding.
        flip: whether half of the training images are mirrored.
    """

    name: str
    load: Callable[[str], tuple[Arrays, Arrays | None]]
    image_shape: tuple[int, int, int] | None
    classes: int | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    std_scaled: bool
    padding: int
    flip: bool


def spec_of(dataset: str) -> DataSpec:
    """The record of a named data set, or of the file of a path that ends in .npz.

    Raises:
        DataError: there is neither.
    """
    if dataset in SPECS:
        return SPECS[dataset]
    if dataset.endswith(".npz"):
        load = functools.partial(_npz, Path(dataset).expanduser())
        return DataSpec(dataset, load, None, None, None, None, False, padding=0, flip=False)
    hint = "" if dataset else "; where it is empty the data are given to fit(..., data=...)"
    raise DataError(f"config.dataset = {dataset!r}: must be {ALLOWED}{hint}")


def _digits(data_dir: str) -> tuple[Arrays, None]:
    """The 8x8 digits of scikit-learn; its 16 levels become the 256 of other images."""
    from sklearn.datasets import load_digits  # takes a second to import

    images, labels = load_digits(return_X_y=True)
    images = np.round(images * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    return (images, labels.astype(np.int32)), None


NPZ_NAMES = (("train_images", "train_labels", "test_images", "test_labels"), ("images", "labels"))


def _npz(path: Path, data_dir: str) -> tuple[Arrays, Arrays | None]:
    """A file of arrays under the names `NPZ_NAMES`."""
    try:
        with np.load(path, allow_pickle=False) as file:
            names = next((names for names in NPZ_NAMES if set(names) <= set(file.files)), None)
            arrays = [file[name] for name in names or ()]
            there = ", ".join(file.files)
    except FileNotFoundError as error:
        raise DataError(f"config.dataset = {str(path)!r}: there is no such file") from error
    except Exception as error:  # whatever a damaged archive makes numpy, zipfile or zlib raise
        raise DataError(
            f"config.dataset = {str(path)!r} cannot be read as .npz: {reason(error)}"
        ) from error
    if names is None:
        raise DataError(
            f"config.dataset = {str(path)!r} holds {there or 'nothing'}: its arrays must be named "
            f"{' and '.join(NPZ_NAMES[1])} (a fixed fifth is held out as test part), or "
            f"{', '.join(NPZ_NAMES[0])}"
        )
    return (arrays[0], arrays[1]), (arrays[2], arrays[3]) if len(arrays) == 4 else None


def _prepared(dataset: str, data_dir: str) -> tuple[Arrays, Arrays]:
    """A data set from a directory that tensorflow_datasets has prepared as array_record."""
    # TFDS takes half a second to import, and warns of an image decoder that it can do without.
    verbosity = absl_logging.get_verbosity()
    absl_logging.set_verbosity(absl_logging.ERROR)
    folder = Path()
    try:
        import tensorflow_datasets as tfds

        folder = Path(data_dir or os.environ.get("TFDS_DATA_DIR") or tfds.core.constants.DATA_DIR)
        folder = folder.expanduser()
        _must_be_prepared(dataset, folder, str(tfds.builder_cls(dataset).VERSION))
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
        raise DataError(f"{dataset} in {folder} cannot be read: {reason(error)}") from error
    finally:
        absl_logging.set_verbosity(verbosity)


def _must_be_prepared(dataset: str, folder: Path, version: str) -> None:
    """Says what is wrong with a directory that TFDS could not read, or would read as another's.

    Its own words for all of these are that some file format is not supported.
    """
    place, state, more = folder / dataset, "", str(folder)
    here = place / version
    if not (here / "dataset_info.json").exists():
        there = sorted(path.name for path in place.glob("*") if path.is_dir())
        others = [name for name in there if name[:1].isdigit() and name != version]
        if any(here.glob("*")):
            state = f"is there without its dataset_info.json: {here} was not prepared to its end"
        elif any("incomplete" in name for name in there):
            state = f"was only prepared in part: {place} holds {', '.join(there)}"
        elif others:
            state = f"is there in version {', '.join(others)}, where {version} is read"
        else:
            state = "is not there"
    elif not any(here.glob("*.array_record*")):
        # TFDS prepares no second format beside a first one.
        state, more = "is there, but not as array_record", f"{folder}-array_record"
    if state:
        prepare = (
            f"import tensorflow_datasets as tfds; tfds.builder('{dataset}', data_dir='{more}', "
            "file_format='array_record').download_and_prepare()"
        )
        raise DataError(
            f"{dataset} was looked for in {folder} and {state} (config.data_dir or "
            f"$TFDS_DATA_DIR name another place); to prepare it: pip install 'jaxep[datasets]' && "
            f'python -c "{prepare}"'
        )
    _must_be_named(dataset, here)


def _must_be_named(dataset: str, here: Path) -> None:
    """The files in a data set's directory are of that data set, by their own description."""
    try:
        name = json.loads((here / "dataset_info.json").read_text(encoding="utf-8")).get("name")
    except (ValueError, AttributeError) as error:
        raise DataError(
            f"{dataset} in {here} cannot be read: its dataset_info.json is damaged "
            f"({reason(error)})"
        ) from error
    if name != dataset:
        raise DataError(f"{here} holds {name}, by its dataset_info.json, and not {dataset}")


def _decode(source: Any) -> Arrays:
    """All records of a source that skips decoding, as two arrays in the order of the records."""
    from PIL import Image

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
    return np.stack(images), np.asarray(labels, np.int32)


def _tfds(
    name: str, size: int, channels: int, classes: int, mean: Any, std: Any, **others: Any
) -> DataSpec:
    load = functools.partial(_prepared, name)
    return DataSpec(name, load, (size, size, channels), classes, mean, std, **others)


# CIFAR's moments are the usual ones, and CIFAR-10's serve both sets; those of digits are of its
# training part. In the EP codebases CIFAR's std, and no other, is multiplied by 3. A mirrored digit
# is another sign, and 8x8 leaves no room to move one.
_CIFAR = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
_SVHN = ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970))
_SPECS = (
    DataSpec("digits", _digits, (8, 8, 1), 10, (0.305,), (0.376,), False, padding=1, flip=False),
    _tfds("cifar10", 32, 3, 10, *_CIFAR, std_scaled=True, padding=4, flip=True),
    _tfds("cifar100", 32, 3, 100, *_CIFAR, std_scaled=True, padding=4, flip=True),
    _tfds("mnist", 28, 1, 10, (0.1307,), (0.3081,), std_scaled=False, padding=2, flip=False),
    _tfds("fashion_mnist", 28, 1, 10, (0.286,), (0.353,), std_scaled=False, padding=2, flip=True),
    _tfds("svhn_cropped", 32, 3, 10, *_SVHN, std_scaled=False, padding=4, flip=False),
)
SPECS = {spec.name: spec for spec in _SPECS}
ALLOWED = f"one of {', '.join(SPECS)}, or the path of an .npz file"
