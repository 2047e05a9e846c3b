"""Data sets of image files, ``NAME/{train,test}/CLASS/*.jpg``: CIFAR-10 as JPEGs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from outcrop.data.folder import natural_order
from outcrop.data.images import DECODE_ERRORS, decode, readable_extensions, reason_of
from outcrop.errors import DataNotFoundError, DataReadError, ParameterError
from outcrop_zoo.data_sources.locations import VARIABLE, find_dataset

Split = Literal["train", "test"]

CIFAR10_JPEG = "cifar10-jpeg"
_CIFAR10_ADVICE = (
    f"Set {VARIABLE} to the folder that holds {CIFAR10_JPEG}/train/CLASS/*.jpg and {CIFAR10_JPEG}/test/CLASS/*.jpg: "
    "CIFAR-10 written as JPEG files of quality 75. Of the original, which torchvision downloads, make a recipe with "
    "data='cifar10'."
)


@dataclass(frozen=True)
class LabelledImages:
    """Images of one size.

    Attributes:
        images: (sample, y, x, channel) or (sample, y, x), uint8.
        labels: (sample,), index into ``classes``.
        ids: (sample,), unique.
        classes: Names of the classes.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    ids: list[str]
    classes: tuple[str, ...]


def load_cifar10_jpeg(split: Split, *, per_class: int | None = None) -> LabelledImages:
    """Return CIFAR-10 (Krizhevsky, 2009) as JPEGs, class after class, each in the natural order of its files.

    Args:
        split: ``train`` or ``test``.
        per_class: The first so many of each class; by default all.

    Raises:
        DataNotFoundError: It is not on this machine, or a class has fewer images.
        DataReadError: An image cannot be read, or is of another size than the first.
    """
    return read_class_folders(find_dataset(CIFAR10_JPEG, _CIFAR10_ADVICE) / split, per_class=per_class)


def read_class_folders(folder: Path, *, per_class: int | None = None) -> LabelledImages:
    """Return the images in a folder's subfolders, which are the classes, in natural order.

    Raises:
        DataNotFoundError: No subfolder, one without images, or with fewer than asked for.
        DataReadError: An image cannot be read, or is of another size than the first.
    """
    subfolders = [entry for entry in folder.iterdir() if entry.is_dir()] if folder.is_dir() else []
    if not subfolders:
        raise DataNotFoundError(f"Folder {str(folder)!r} holds no classes; expected CLASS/*.jpg in it.")
    classes = sorted(subfolders, key=lambda entry: natural_order(entry.name))
    images: list[NDArray[np.uint8]] = []
    labels, ids = [], []
    for label, subfolder in enumerate(classes):
        for file in _chosen_files(subfolder, per_class):
            images.append(_pixels(file, images[0].shape if images else None))
            labels.append(label)
            ids.append(f"{subfolder.name}/{file.name}")
    return LabelledImages(
        images=np.stack(images), labels=np.array(labels), ids=ids, classes=tuple(entry.name for entry in classes)
    )


def _chosen_files(subfolder: Path, per_class: int | None) -> list[Path]:
    if per_class is not None and per_class < 1:
        raise ParameterError(f"Images per class must be at least 1; got {per_class}.")
    files = [entry for entry in subfolder.iterdir() if entry.suffix.lower() in readable_extensions()]
    wanted = 1 if per_class is None else per_class
    if len(files) < wanted:
        raise DataNotFoundError(
            f"Class folder {str(subfolder)!r} holds {len(files)} images; expected at least {wanted}. "
            "Complete it, or ask for fewer."
        )
    return sorted(files, key=lambda entry: natural_order(entry.name))[:per_class]


def _pixels(file: Path, shape: tuple[int, ...] | None) -> NDArray[np.uint8]:
    try:
        pixels = np.asarray(decode(file.read_bytes()))
    except DECODE_ERRORS as error:
        raise DataReadError(f"Image {file} cannot be read: {reason_of(error)}. Replace it.") from error
    if shape not in (None, pixels.shape):
        raise DataReadError(f"Image {file} is of shape {pixels.shape}; expected {shape}, that of the first image.")
    return pixels
