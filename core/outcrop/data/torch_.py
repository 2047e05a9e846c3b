"""A torch dataset, or any object with a length and items, as data."""

import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from outcrop.data.array_files import LABEL_KEYS
from outcrop.data.arrays import image_of, is_image
from outcrop.data.content import ContentData, array_digest, refuse_empty, refuse_or_warn
from outcrop.data.dataset import Skipped
from outcrop.data.images import picture_of, reason_of, thumbnail_of, to_rgb
from outcrop.data.selection import evenly_chosen
from outcrop.errors import DataReadError
from outcrop.progress import Progress, silent

# An item that cannot be read, as opposed to a mistake in the dataset's code.
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)


class MapStyle(Protocol):
    """What ``torch.utils.data.Dataset`` with a length is."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Any: ...


Value = Image.Image | NDArray[Any] | Mapping[str, NDArray[Any]]


class TorchDataset(ContentData):
    """The items of a map-style dataset.

    An item is ``x``, ``(x, y)`` or a mapping. ``x`` is an image (PIL, or uint8 in the shape of one) or an array or
    tensor; a whole number ``y`` is the label, anything else beside ``x`` is left out. Every item is read once, here,
    for its label and its digest, and items must not change from one reading to the next.

    Args:
        dataset: What to read.
        name: Short name, unique in a study; the class's by default.
        limit: How many items at most, spaced evenly; evenly by class where the dataset knows its ``targets``.
        strict: Whether an unreadable item is an error.
        progress: Told of every item read.

    Raises:
        DataNotFoundError: No item.
        DataReadError: Items that are no samples or change from reading to reading; an unreadable one, and ``strict``.
    """

    # A dataset may share one open file among its items.
    concurrent = False

    def __init__(
        self,
        dataset: MapStyle,
        *,
        name: str | None = None,
        limit: int | None = None,
        strict: bool = False,
        progress: Progress = silent,
    ) -> None:
        kind = type(dataset).__name__
        self.name = name or kind
        self.source = f"{type(dataset).__module__}.{kind}"
        self._dataset = dataset
        refuse_empty(len(dataset), self.name)
        chosen = evenly_chosen(len(dataset), len(dataset) if limit is None else limit, _targets(dataset))
        self._positions: list[int] = []
        self._digests: list[bytes] = []
        labels: list[int | None] = []
        skipped = []
        with progress("reading samples", len(chosen)) as advance:
            for position in map(int, chosen):
                try:
                    sample, label = self._item(position)
                    digest = _digest(sample)
                except DataReadError:
                    raise
                except _UNREADABLE as error:
                    skipped.append(Skipped(str(position), reason_of(error)))
                else:
                    self._positions.append(position)
                    self._digests.append(digest)
                    labels.append(label)
                    if len(self._positions) == 1:
                        # Says so at once where items are augmented at random.
                        self.read(0)
                advance(1)
        self.skipped = tuple(skipped)
        refuse_or_warn(self.skipped, len(chosen), self.name, strict=strict, what="samples")
        self.sample_ids = tuple(map(str, self._positions))
        whole = [label for label in labels if label is not None]
        self.labels = np.array(whole, dtype=np.int64) if len(whole) == len(labels) else None
        self.classes = _classes(dataset, self.labels)

    def _item(self, position: int) -> tuple[Value, int | None]:
        item = self._dataset[position]
        label = None
        if _is_pair(item):
            label = _label(item[1]) if len(item) > 1 else None
            item = item[0]
        elif isinstance(item, Mapping):
            item = dict(item)
            labels = [key for key in LABEL_KEYS if key in item and _label(item[key]) is not None]
            label = _label(item.pop(labels[0])) if labels else None
        return self._sample(item, position), label

    def _sample(self, item: Any, position: int) -> Value:
        if isinstance(item, Mapping):
            pictures = [value for value in item.values() if isinstance(value, Image.Image)]
            if len(pictures) == 1:
                return to_rgb(pictures[0])
            return {str(key): self._array(value, position) for key, value in item.items()}
        if isinstance(item, Image.Image):
            return to_rgb(item)
        array = self._array(item, position)
        return image_of(array) if is_image(array.dtype, array.shape) else array

    def _array(self, value: Any, position: int) -> NDArray[Any]:
        if isinstance(value, torch.Tensor):
            value = array_of(value)
        elif isinstance(value, list | tuple | int | float) and not isinstance(value, bool):
            value = _listed(value)
        if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "fiub":
            return np.asarray(value)
        raise DataReadError(
            f"Sample {position} of {self.name!r} is a {type(value).__name__}; expected an image, an array or tensor of "
            f"numbers, a pair of one of these and a label, or a mapping of arrays by input name."
        )

    def read(self, index: int) -> Value:
        sample, _ = self._item(self._positions[index])
        if _digest(sample) != self._digests[index]:
            raise DataReadError(
                f"Sample {self._positions[index]} of {self.name!r} differs from one reading to the next; "
                f"take random transforms out of the dataset."
            )
        return sample

    def digest(self, index: int) -> bytes:
        return self._digests[index]

    def thumbnail(self, index: int, size: int = 48) -> NDArray[np.uint8] | None:
        sample = self.read(index)
        if isinstance(sample, Image.Image):
            return thumbnail_of(sample, size)
        for array in sample.values() if isinstance(sample, Mapping) else [sample]:
            picture = picture_of(array)
            if picture is not None:
                return thumbnail_of(Image.fromarray(picture), size)
        return None


def array_of(tensor: torch.Tensor) -> NDArray[Any]:
    """Return a tensor as an array, bfloat16 as float32."""
    tensor = tensor.detach().cpu()
    return np.asarray((tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy())


def _listed(value: Any) -> Any:
    try:
        return np.array(value)
    except ValueError:
        return value


def _is_pair(item: Any) -> bool:
    # Collating turns pairs into lists; a list of lists is an array, and so is a row of numbers.
    if not isinstance(item, tuple | list) or len(item) == 0 or isinstance(item[0], int | float):
        return False
    return isinstance(item, tuple) or not isinstance(item[0], list)


def _label(value: Any) -> int | None:
    if isinstance(value, torch.Tensor | np.ndarray) and value.ndim == 0:
        value = value.item()
    return int(value) if isinstance(value, int | np.integer) and not isinstance(value, bool) else None


def _classes(dataset: MapStyle, labels: NDArray[np.int64] | None) -> tuple[str, ...] | None:
    names = getattr(dataset, "classes", None)
    if labels is None or not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        return None
    return tuple(names) if labels.min() >= 0 and labels.max() < len(names) else None


def _targets(dataset: MapStyle) -> NDArray[np.int64] | None:
    """Return the labels that a dataset keeps, to choose by; what its items say is what counts."""
    targets = getattr(dataset, "targets", None)
    if not isinstance(targets, Sequence | np.ndarray | torch.Tensor) or len(targets) != len(dataset):
        return None
    values = np.asarray(_listed(targets))
    return values.astype(np.int64) if values.ndim == 1 and values.dtype.kind in "iu" else None


def _digest(sample: Value) -> bytes:
    return array_digest(np.asarray(sample) if isinstance(sample, Image.Image) else sample)
