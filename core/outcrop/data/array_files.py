"""Arrays by name, from ``.npy`` and ``.npz`` files, mappings and single arrays, as data."""

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outcrop.data.arrays import ArrayData, ImageArray, are_images
from outcrop.errors import DataReadError

LABEL_KEYS = ("labels", "label", "y")
ID_KEYS = ("ids", "sample_ids")
CLASS_KEY = "classes"

# What numpy raises on files that are cut short, garbled, or hold pickled objects.
_BROKEN = (OSError, ValueError, EOFError, KeyError, TypeError, zipfile.BadZipFile, zlib.error)


def data_from_file(path: Path) -> ArrayData | ImageArray:
    """Return the data of a ``.npy`` file, mapped into memory, or of a ``.npz`` file; nothing is unpickled.

    Raises:
        DataReadError: The file is broken, or holds no arrays of numbers.
    """
    try:
        if path.suffix.lower() == ".npy":
            arrays = {"": np.load(path, mmap_mode="r", allow_pickle=False)}
        else:
            # Opened here, as numpy leaves the file open when it is no archive.
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                arrays = {key: archive[key] for key in archive.files}
    except _BROKEN as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise DataReadError(
            f"File {str(path)!r} cannot be read as {path.suffix.lower()}: {reason}. Expected what numpy.save or "
            f"numpy.savez writes of arrays of numbers."
        ) from error
    return data_from_arrays(arrays, name=path.stem, source=str(path))


def data_from_arrays(arrays: Mapping[str, NDArray[Any]], *, name: str, source: str) -> ArrayData | ImageArray:
    """Return arrays (sample, ...) by name as data.

    ``labels``, ``label`` or ``y``, if one whole number or name a sample, become the labels (one real number a sample
    is a target of regression, and left out); ``ids`` or ``sample_ids`` the ids; ``classes`` the names of classes. Of
    what remains, a single array is the samples, whatever its name; several are a model's inputs by name. A single
    array of uint8 in the shape of images is preprocessed by the model; all else is taken as it is.

    Raises:
        DataReadError: No array, or arrays that do not belong together.
    """
    inputs = dict(arrays)
    ids = next((inputs.pop(key) for key in ID_KEYS if key in inputs and inputs[key].ndim == 1), None)
    classes = inputs.pop(CLASS_KEY) if CLASS_KEY in inputs and inputs[CLASS_KEY].dtype.kind in "UT" else None
    labels = None
    for key in LABEL_KEYS:
        if len(inputs) > 1 and key in inputs and (inputs[key].ndim == 1 or inputs[key].shape[1:] == (1,)):
            found = inputs.pop(key)
            real = found.dtype.kind == "f" and not bool(np.all(found == np.round(found)))
            labels = None if real else found
            break
    if not inputs:
        raise DataReadError(f"Data {name!r} holds no array of samples; found {', '.join(arrays) or 'nothing'}.")
    if len(inputs) > 1:
        return ArrayData(inputs, name=name, source=source, sample_ids=ids, labels=labels, classes=classes)
    array = next(iter(inputs.values()))
    if are_images(array):
        return ImageArray(array, name=name, source=source, sample_ids=ids, labels=labels, classes=classes)
    return ArrayData(array, name=name, source=source, sample_ids=ids, labels=labels, classes=classes)
