"""What can be said of a sample by itself: how bright a picture is, how large the values of an array are."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from outcrop.data.images import picture_of, thumbnail_of
from outcrop.data.threads import map_in_threads

if TYPE_CHECKING:
    from outcrop.data.dataset import Data
    from outcrop.progress import Progress

PICTURE_SIDE = 96
"""Pictures are looked at as squares of at most this side, so that those of different sizes compare."""

_LUMA = np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)  # of ITU-R BT.709
_EDGE = 0.1
_THUMBNAIL = 48
_SMALLEST_SIDE = 16


@dataclass(frozen=True)
class Statistic:
    """One number of every sample.

    Attributes:
        name: As a variable.
        long_name: For people.
        units: ``1`` for what has none.
    """

    name: str
    long_name: str
    units: str = "1"


PICTURE_STATISTICS = (
    Statistic("brightness", "mean luma, 0 to 1"),
    Statistic("contrast", "standard deviation of luma"),
    Statistic("saturation", "mean saturation (HSV), 0 to 1"),
    Statistic("red", "mean red, 0 to 1"),
    Statistic("green", "mean green, 0 to 1"),
    Statistic("blue", "mean blue, 0 to 1"),
    Statistic("edge_density", f"share of pixels whose Sobel gradient of luma exceeds {_EDGE:g}"),
)
ARRAY_STATISTICS = (
    Statistic("value_mean", "mean of the values", ""),
    Statistic("value_standard_deviation", "standard deviation of the values", ""),
    Statistic("value_norm", "Euclidean norm of the values", ""),
)


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


def picture_statistics(picture: NDArray[np.uint8]) -> tuple[float, ...]:
    """Return :data:`PICTURE_STATISTICS` of a picture (y, x, channel).

    Luma is the sum of the encoded channels with the weights of ITU-R BT.709; contrast is its root mean square
    deviation (Peli, Contrast in complex images, 1990, doi:10.1364/JOSAA.7.002032).
    """
    from skimage.filters import sobel

    values = picture.astype(np.float32) / 255
    luma = values @ _LUMA
    largest = values.max(axis=2)
    saturation = np.divide(largest - values.min(axis=2), largest, out=np.zeros_like(largest), where=largest > 0)
    red, green, blue = values.mean(axis=(0, 1), dtype=np.float64).tolist()
    return (
        float(luma.mean()),
        float(luma.std()),
        float(saturation.mean()),
        red,
        green,
        blue,
        float((sobel(luma) > _EDGE).mean()),
    )


def array_statistics(array: NDArray[Any]) -> tuple[float, ...]:
    """Return :data:`ARRAY_STATISTICS` of an array of any shape; not finite where its values are not."""
    values = np.ascontiguousarray(array).reshape(-1)
    if values.dtype not in (np.float32, np.float64):
        values = values.astype(np.float32 if values.dtype == np.float16 else np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = float(values.mean())  # summed in pairs, which loses no digit that counts
        squares = float(np.dot(values, values))
        spread = squares - values.size * mean * mean
        # What exceeds the range of float32 when squared is rare, and so are values far from zero for their spread.
        if not (np.isfinite(squares) and squares > np.finfo(values.dtype).tiny * values.size):
            wide = values.astype(np.float64)
            squares, spread = float(np.dot(wide, wide)), float(np.square(wide - mean).sum())
        elif spread < squares / 4:
            deviations = values - values.dtype.type(mean)
            spread = float(np.dot(deviations, deviations))
        return mean, float(np.sqrt(spread / values.size)), float(np.sqrt(squares))


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
