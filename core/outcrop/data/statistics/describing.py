"""Statistics and thumbnails of all samples of a data set."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from outcrop.data.images import picture_of, thumbnail_of
from outcrop.data.statistics.arrays import array_statistics
from outcrop.data.statistics.bank import ARRAY_STATISTICS, PICTURE_STATISTICS, Statistic
from outcrop.data.statistics.pictures import picture_statistics
from outcrop.data.threads import map_in_threads

if TYPE_CHECKING:
    from outcrop.data.dataset import Data
    from outcrop.progress import Progress

PICTURE_SIDE = 96
"""Pictures are looked at as squares of at most this side, so that those of different sizes compare."""

_THUMBNAIL = 48
_SMALLEST_SIDE = 16


@dataclass(frozen=True)
class Description:
    """What can be said of all samples.

    Attributes:
        statistics: Which numbers there are; empty for samples of which there is nothing to say.
        values: (statistic, sample).
        thumbnails: (sample, y, x, channel), or None where they cannot be shown or were not asked for.
    """

    statistics: tuple[Statistic, ...]
    values: NDArray[np.float64]
    thumbnails: NDArray[np.uint8] | None


def describe(data: "Data", *, thumbnails: bool, progress: "Progress") -> Description:
    """Return statistics and thumbnails of all samples, each of which is read once.

    Pictures are looked at as the centre square of :data:`PICTURE_SIDE` pixels at most: borders and corners are its own.

    Args:
        data: The samples.
        thumbnails: Whether to make them.
        progress: Told of every sample.

    Raises:
        DataReadError: A sample cannot be read.
    """
    from PIL.Image import Image

    first = data.read(0)
    statistics: tuple[Statistic, ...] = ()
    side = 0
    if isinstance(first, Image):
        statistics = PICTURE_STATISTICS
        side = min(PICTURE_SIDE, max(_SMALLEST_SIDE, min(first.size)))
    elif isinstance(first, np.ndarray) and first.size > 1:
        statistics = ARRAY_STATISTICS
    pictured = thumbnails and data.thumbnail(0) is not None
    if not statistics and not pictured:
        return Description((), np.empty((0, len(data))), None)

    def look(index: int) -> tuple[tuple[float, ...], NDArray[np.uint8] | None]:
        if side:
            return _look_at_picture(data, index, side, pictured)
        return _look_at_array(data.read(index), bool(statistics), pictured)

    with progress("describing samples", len(data)) as advance:
        if data.concurrent:
            found = map_in_threads(look, range(len(data)), advance=advance)
        else:
            found = []
            for index in range(len(data)):
                found.append(look(index))
                advance(1)
    values = np.array([numbers for numbers, _ in found], dtype=np.float64).reshape(len(data), len(statistics)).T
    return Description(statistics, values, _stack([picture for _, picture in found]) if pictured else None)


def _look_at_picture(
    data: "Data", index: int, side: int, pictured: bool
) -> tuple[tuple[float, ...], NDArray[np.uint8] | None]:
    from PIL import Image

    picture = data.thumbnail(index, side)
    if picture is None:
        return (np.nan,) * len(PICTURE_STATISTICS), None
    small = thumbnail_of(Image.fromarray(picture), _THUMBNAIL) if pictured else None
    return picture_statistics(picture), small


def _look_at_array(sample: Any, described: bool, pictured: bool) -> tuple[tuple[float, ...], NDArray[np.uint8] | None]:
    from PIL import Image

    small = None
    if pictured:
        for array in sample.values() if isinstance(sample, Mapping) else [sample]:
            picture = picture_of(_thinned(np.asarray(array)))
            if picture is not None:
                small = thumbnail_of(Image.fromarray(picture), _THUMBNAIL)
                break
    return array_statistics(sample) if described else (), small


def _thinned(array: NDArray[Any]) -> NDArray[Any]:
    """Return every second, third, ... pixel of a picture (channel, y, x) that is far larger than its thumbnail."""
    step = max(1, min(array.shape[1:]) // _THUMBNAIL) if array.ndim == 3 else 1
    return array[:, ::step, ::step] if step > 1 else array


def _stack(pictures: list[NDArray[np.uint8] | None]) -> NDArray[np.uint8]:
    made = np.zeros((len(pictures), _THUMBNAIL, _THUMBNAIL, 3), dtype=np.uint8)
    for index, picture in enumerate(pictures):
        if picture is not None:
            made[index] = picture
    return made
