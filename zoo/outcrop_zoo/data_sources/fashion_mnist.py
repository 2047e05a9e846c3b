"""Fashion-MNIST (arXiv 1708.07747) from the four gzip-compressed IDX files that it is distributed as."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from outcrop.errors import DataNotFoundError, DataReadError, ParameterError
from outcrop_zoo.data_sources.class_folders import LabelledImages, Split
from outcrop_zoo.data_sources.locations import VARIABLE, find_dataset

FASHION_MNIST = "fashion-mnist"
CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
BORDER = 2
"""Black pixels put around each image, so that 28 x 28 become the 32 x 32 that the zoo's networks take."""

_PREFIXES = {"train": "train", "test": "t10k"}
_ADVICE = (
    "Install Debian's package dataset-fashion-mnist, or put the files *-ubyte.gz of "
    f"https://github.com/zalandoresearch/fashion-mnist into a folder {FASHION_MNIST} and set {VARIABLE} to its parent."
)
_UNSIGNED_BYTE = 0x08


def load_fashion_mnist(split: Split, *, per_class: int | None = None) -> LabelledImages:
    """Return Fashion-MNIST, 32 x 32 with a black border of 2.

    Args:
        split: ``train`` (60,000 images) or ``test`` (10,000).
        per_class: The first so many of each class, class after class; by default all, as they come.

    Raises:
        DataNotFoundError: It is not on this machine, or a class has fewer images.
        DataReadError: A file is broken, or images and labels do not fit.
    """
    folder = find_dataset(FASHION_MNIST, _ADVICE)
    images = read_idx(folder / f"{_PREFIXES[split]}-images-idx3-ubyte.gz")
    labels = read_idx(folder / f"{_PREFIXES[split]}-labels-idx1-ubyte.gz").astype(np.int64)
    if images.ndim != 3 or labels.shape != (len(images),) or labels.max(initial=0) >= len(CLASSES):
        raise DataReadError(
            f"The files of {split!r} in {folder} hold images {images.shape} and labels {labels.shape} up to "
            f"{labels.max(initial=0)}; expected (sample, y, x) and (sample,) up to 9. Replace them."
        )
    positions = np.arange(len(labels)) if per_class is None else first_of_each_class(labels, CLASSES, per_class)
    padded = np.pad(images[positions], ((0, 0), (BORDER, BORDER), (BORDER, BORDER)))
    return LabelledImages(
        images=padded,
        labels=labels[positions],
        ids=[f"{position:05d}" for position in positions],
        classes=CLASSES,
    )


def first_of_each_class(
    labels: NDArray[np.int64], classes: tuple[str, ...], count: int, *, skip: int = 0
) -> NDArray[np.int64]:
    """Return the positions of so many samples of each class, class after class, each in their order.

    Args:
        labels: (sample,), index into ``classes``.
        classes: Their names.
        count: How many of each.
        skip: How many of each come before.

    Raises:
        DataNotFoundError: A class has fewer.
        ParameterError: The count is below 1.
    """
    if count < 1:
        raise ParameterError(f"Images per class must be at least 1; got {count}.")
    chosen = [np.flatnonzero(labels == label)[skip : skip + count] for label in range(len(classes))]
    for name, positions in zip(classes, chosen, strict=True):
        if len(positions) < count:
            raise DataNotFoundError(
                f"Class {name!r} has fewer than the {skip + count} images of each class that are asked for; "
                "ask for fewer."
            )
    return np.concatenate(chosen)


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Return the array of a gzip-compressed IDX file of unsigned bytes.

    Raises:
        DataNotFoundError: There is no such file.
        DataReadError: It is cut short, or holds something else.
    """
    try:
        content = gzip.decompress(path.read_bytes())
        zeros, kind, dimensions = struct.unpack_from(">HBB", content)
        shape = struct.unpack_from(f">{dimensions}I", content, 4)
    except FileNotFoundError as error:
        raise DataNotFoundError(f"There is no file {str(path)!r}. {_ADVICE}") from error
    except (EOFError, OSError, struct.error, zlib.error) as error:
        raise DataReadError(f"The file {path} is no gzip-compressed IDX file ({error}). Replace it.") from error
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions)
    if (zeros, kind) != (0, _UNSIGNED_BYTE) or len(values) != math.prod(shape):
        raise DataReadError(
            f"The file {path} holds {len(values)} values of type {kind:#04x} for shape {shape}; expected unsigned "
            f"bytes ({_UNSIGNED_BYTE:#04x}), as many as the shape says. Replace it."
        )
    return values.reshape(shape)
