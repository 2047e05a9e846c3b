"""Some of the samples of data: chosen by position, or spread evenly over classes."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from outcrop.data.content import ContentData
from outcrop.data.dataset import Data
from outcrop.errors import DataNotFoundError, ParameterError

if TYPE_CHECKING:
    from PIL.Image import Image


def subset(data: Data, indices: Sequence[int] | NDArray[Any]) -> Data:
    """Return some samples of data, in the order given.

    Args:
        data: What to choose from.
        indices: Positions, each at most once; or one truth value a sample.

    Raises:
        ParameterError: A position that does not exist or occurs twice, or no whole numbers.
        DataNotFoundError: Nothing chosen.
    """
    positions = np.asarray(indices)
    if positions.size == 0:
        raise DataNotFoundError(f"A subset of data {data.name!r} must hold at least one sample; none is chosen.")
    if positions.dtype == np.bool_ and positions.shape == (len(data),):
        return subset(data, np.flatnonzero(positions))
    if positions.ndim != 1 or positions.dtype.kind not in "iu":
        raise ParameterError(
            f"A subset takes whole positions, or one truth value for each of {len(data)} samples; "
            f"found {positions.dtype} of shape {positions.shape}."
        )
    positions = checked_positions(positions, len(data), f"data {data.name!r}")
    if len(np.unique(positions)) != len(positions):
        raise ParameterError(f"A subset of data {data.name!r} takes each position at most once; some occur twice.")
    return Subset(data, positions)


def checked_positions(positions: NDArray[Any], count: int, what: str) -> NDArray[np.int64]:
    """Return positions as int64.

    Raises:
        ParameterError: One does not exist.
    """
    outside = positions[(positions < 0) | (positions >= count)]
    if outside.size:
        raise ParameterError(f"There is no sample {outside[0]} in {what}; expected 0 to {count - 1}.")
    return positions.astype(np.int64)


class Subset(ContentData):
    """Some samples of other data; its fingerprint is that of the same samples on their own."""

    def __init__(self, data: Data, positions: NDArray[np.int64]) -> None:
        self.name, self.source = data.name, data.source
        self.sample_ids = tuple(data.sample_ids[position] for position in positions.tolist())
        self.labels = None if data.labels is None else data.labels[positions]
        self.classes, self.skipped = data.classes, data.skipped
        self.concurrent = bool(getattr(data, "concurrent", False))
        self._data, self._positions = data, positions

    def read(self, index: int) -> "Image | NDArray[Any] | Mapping[str, NDArray[Any]]":
        return self._data.read(int(self._positions[index]))

    def digest(self, index: int) -> bytes:
        position = int(self._positions[index])
        if isinstance(self._data, ContentData):
            return self._data.digest(position)
        # Other data knows its content as a whole only.
        return hashlib.sha256(f"{self._data.fingerprint}:{position}".encode()).digest()

    def thumbnail(self, index: int, size: int = 48) -> NDArray[np.uint8] | None:
        return self._data.thumbnail(int(self._positions[index]), size)


def evenly_chosen(count: int, limit: int, labels: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """Return positions of at most ``limit`` of ``count`` samples, in order and without a random number.

    With labels, every class gives the same number, plus or minus one, as far as it has that many; within a class,
    or without labels, positions are spaced evenly.
    """
    if limit >= count:
        return np.arange(count)
    if labels is None:
        return _spaced(count, limit)
    _, inverse, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    by_class = np.split(np.argsort(inverse, kind="stable"), np.cumsum(sizes)[:-1])
    shares = _shares(sizes, limit)
    chosen = [members[_spaced(len(members), share)] for members, share in zip(by_class, shares.tolist(), strict=True)]
    return np.sort(np.concatenate(chosen))


def _spaced(count: int, number: int) -> NDArray[np.int64]:
    # Centres of equal intervals: distinct for number <= count.
    return (2 * np.arange(number, dtype=np.int64) + 1) * count // (2 * max(number, 1))


def _shares(sizes: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    shares = np.zeros(len(sizes), dtype=np.int64)
    while (left := limit - int(shares.sum())) > 0:
        open_ = np.flatnonzero(shares < sizes)
        if left < len(open_):
            shares[open_[_spaced(len(open_), left)]] += 1
        else:
            shares[open_] = np.minimum(shares[open_] + left // len(open_), sizes[open_])
    return shares
