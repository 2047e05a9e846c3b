"""Samples held in arrays: images, which a model preprocesses, and numbers, which are taken as they are."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from outcrop.data.content import ContentData, array_digest, checked_ids, checked_labels, refuse_empty
from outcrop.data.images import picture_of, thumbnail_of, to_rgb
from outcrop.errors import DataReadError

_CHANNELS = {1, 3, 4}


class ArrayData(ContentData):
    """Arrays that are given to a model as they are: floats, tokens, several inputs by name.

    The arrays are referred to, not copied: do not change them afterwards. Memory maps stay on disk.

    Args:
        arrays: (sample, ...), or such arrays by input name.
        name: Short name, unique in a study.
        source: Where they come from.
        sample_ids: (sample,), unique; decimal positions by default.
        labels: (sample,), positions in ``classes``, or names.
        classes: Names of the classes.

    Raises:
        DataReadError: Values that are no numbers, arrays of different lengths, or ids or labels that do not fit.
        DataNotFoundError: No sample.
    """

    def __init__(
        self,
        arrays: NDArray[Any] | Mapping[str, NDArray[Any]],
        *,
        name: str = "array",
        source: str = "array",
        sample_ids: Sequence[Any] | NDArray[Any] | None = None,
        labels: Sequence[Any] | NDArray[Any] | None = None,
        classes: Sequence[Any] | NDArray[Any] | None = None,
    ) -> None:
        named = dict(arrays) if isinstance(arrays, Mapping) else {"": arrays}
        for key, array in named.items():
            if array.dtype.kind not in "fiub" or array.ndim == 0:
                what = f"array {key!r}" if key else "array"
                raise DataReadError(
                    f"Data {name!r} has an {what} of type {array.dtype} and shape {array.shape}; "
                    f"expected real numbers with a sample dimension first."
                )
        count = one_length(named, name)
        refuse_empty(count, name)
        self.name, self.source = name, source
        self.sample_ids = checked_ids(sample_ids, count, name)
        self.labels, self.classes = checked_labels(labels, classes, count, name)
        self._arrays = {key: _read_only(array) for key, array in named.items()}
        self._single = not isinstance(arrays, Mapping)

    def read(self, index: int) -> NDArray[Any] | Mapping[str, NDArray[Any]]:
        sample = {key: np.asarray(array[index]) for key, array in self._arrays.items()}
        return sample[""] if self._single else sample

    def digest(self, index: int) -> bytes:
        return array_digest(self.read(index))

    def thumbnail(self, index: int, size: int = 48) -> NDArray[np.uint8] | None:
        for array in self._arrays.values():
            picture = picture_of(np.asarray(array[index]))
            if picture is not None:
                return thumbnail_of(Image.fromarray(picture), size)
        return None


class ImageArray(ContentData):
    """Images held in one array; the model's preprocessing is applied to each.

    Args:
        images: uint8, (sample, y, x, channel) with 1, 3 or 4 channels, (sample, y, x), or (sample, channel, y, x).
        name: Short name, unique in a study.
        source: Where they come from.
        sample_ids: (sample,), unique; decimal positions by default.
        labels: (sample,), positions in ``classes``, or names.
        classes: Names of the classes.

    Raises:
        DataReadError: Another shape or dtype, or ids or labels that do not fit.
        DataNotFoundError: No sample.
    """

    def __init__(
        self,
        images: NDArray[np.uint8],
        *,
        name: str = "images",
        source: str = "array",
        sample_ids: Sequence[Any] | NDArray[Any] | None = None,
        labels: Sequence[Any] | NDArray[Any] | None = None,
        classes: Sequence[Any] | NDArray[Any] | None = None,
    ) -> None:
        if not are_images(images):
            raise DataReadError(
                f"Data {name!r} has images of type {images.dtype} and shape {images.shape}; "
                f"expected uint8 (sample, y, x, channel) or (sample, y, x)."
            )
        refuse_empty(len(images), name)
        self.name, self.source = name, source
        self.sample_ids = checked_ids(sample_ids, len(images), name)
        self.labels, self.classes = checked_labels(labels, classes, len(images), name)
        self._images = _read_only(images)

    def read(self, index: int) -> Image.Image:
        return image_of(self._images[index])

    def digest(self, index: int) -> bytes:
        return array_digest(self._images[index])

    def thumbnail(self, index: int, size: int = 48) -> NDArray[np.uint8]:
        return thumbnail_of(self.read(index), size)


def are_images(array: NDArray[Any]) -> bool:
    """Return whether an array holds images: uint8 (sample, y, x), or with 1, 3 or 4 channels last or second."""
    return array.ndim > 0 and is_image(array.dtype, array.shape[1:])


def is_image(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bool:
    """Return whether an array of one sample is an image."""
    if dtype != np.uint8 or min(shape, default=0) == 0:
        return False
    return len(shape) == 2 or (len(shape) == 3 and bool({shape[0], shape[2]} & _CHANNELS))


def image_of(array: NDArray[np.uint8]) -> Image.Image:
    """Return the array of one image as RGB."""
    if array.ndim == 3 and array.shape[2] not in _CHANNELS:
        array = array.transpose(1, 2, 0)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    return to_rgb(Image.fromarray(np.ascontiguousarray(array)))


def one_length(arrays: Mapping[str, NDArray[Any]], name: str) -> int:
    """Return the number of samples of arrays that belong together.

    Raises:
        DataReadError: There is none, or they differ.
    """
    lengths = {key: len(array) for key, array in arrays.items()}
    if len(set(lengths.values())) != 1:
        found = ", ".join(f"{key} {length}" for key, length in lengths.items()) or "no array"
        raise DataReadError(f"Data {name!r} must hold arrays of one length, one row a sample; found {found}.")
    return next(iter(lengths.values()))


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    view = array.view()
    view.flags.writeable = False
    return view
