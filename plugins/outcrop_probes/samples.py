"""Between the samples of data and what stimuli are: pictures, tokens and arrays, and stimuli as data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from outcrop.data import ContentData
from outcrop.data.content import array_digest
from outcrop.data.images import thumbnail_of
from outcrop.errors import AnalysisError
from outcrop.stimuli import SampleKind, Stimulus

if TYPE_CHECKING:
    from outcrop.data import Data

LARGEST_SIDE = 320
"""Shorter side of the largest pictures that stimuli are made of; larger ones are made smaller."""

LOOKED_AT = 256
"""Samples that are read, evenly spaced, to learn what the data's are like."""

_SMALLEST_PICTURE = 8
_GREY_MODES = ("1", "L", "LA")


@dataclass(frozen=True)
class SampleForm:
    """How samples of data become what families of stimuli work with, and stimuli become samples.

    Attributes:
        takes: What samples are.
        shape: Of a stimulus.
        decode: Returns a sample as uint8 (y, x, 3), as tokens, or as an array.
        encode: Returns what a model takes for a stimulus: an image, an array, or arrays by input name.
        weight: Returns how often each token of a sample counts: padding does not.
        grey: Whether samples are pictures without colour, so that stimuli have none either.
    """

    takes: SampleKind
    shape: tuple[int, ...]
    decode: Callable[[Any], NDArray[Any]]
    encode: Callable[[NDArray[Any]], Any]
    weight: Callable[[Any], NDArray[np.bool_]] | None = None
    grey: bool = False


class StimulusData(ContentData):
    """Stimuli as the samples of data.

    Args:
        stimuli: What is shown.
        form: Of the data whose models see them.
        names: Unique names; by default positions.
    """

    def __init__(self, stimuli: Sequence[Stimulus], form: SampleForm, names: Sequence[str] | None = None) -> None:
        self.name, self.source = "stimuli", "stimuli"
        self.sample_ids = tuple(names if names is not None else map(str, range(len(stimuli))))
        self._stimuli = tuple(stimuli)
        self._form = form

    def read(self, index: int) -> Any:
        """Return one stimulus as a sample."""
        return self._form.encode(self._stimuli[index].sample)

    def digest(self, index: int) -> bytes:
        """Return a hash of one stimulus."""
        return array_digest(self._stimuli[index].sample)

    def thumbnail(self, index: int, size: int = 48) -> NDArray[np.uint8] | None:
        """Return a small square picture of a stimulus, or None where it is no image."""
        if self._form.takes != "image":
            return None
        return thumbnail_of(Image.fromarray(np.ascontiguousarray(self._stimuli[index].sample)), size)


def looked_at(data: "Data") -> NDArray[np.int64]:
    """Return the positions of the samples that tell what the data is like."""
    count = min(LOOKED_AT, len(data))
    return np.linspace(0, len(data) - 1, count).round().astype(np.int64)


def find_form(data: "Data") -> SampleForm:
    """Return how samples of data and stimuli become each other.

    Of samples with several arrays, one is varied: a sequence of tokens, else the first of real numbers. Masks of it are
    all ones, and any other is that of the first sample.

    Raises:
        AnalysisError: Stimuli of such samples are not known.
    """
    first = data.read(0)
    if isinstance(first, Image.Image):
        picture = _picture(first)
        # Of the mode that the models know from the data: what takes grey pictures may not take others.
        grey = first.mode in _GREY_MODES
        mode = "L" if grey else "RGB"
        return SampleForm(
            "image",
            picture.shape,
            _picture,
            lambda sample: Image.fromarray(np.ascontiguousarray(sample)).convert(mode),
            grey=grey,
        )
    if isinstance(first, Mapping):
        return _form_of_several(first, data)
    return _form_of_array(first, _read(data), data.name)


def _read(data: "Data") -> list[Any]:
    return [data.read(position) for position in looked_at(data).tolist()]


def _form_of_several(first: Mapping[str, NDArray[Any]], data: "Data") -> SampleForm:
    read = _read(data)
    masks = [key for key in first if all(_is_mask(sample[key]) for sample in read)]
    tokens = [key for key, array in first.items() if _are_tokens(array) and key not in masks]
    floats = [key for key, array in first.items() if array.dtype.kind == "f" and array.size > 1]
    varied = next(iter([*tokens, *floats]), None)
    if varied is None:
        raise _unknown(", ".join(f"{key} {array.dtype} {array.shape}" for key, array in first.items()), data.name)
    key = varied
    form = _form_of_array(first[key], [sample[key] for sample in read], data.name)
    fixed = {name: np.ones_like(array) if name in masks else array for name, array in first.items() if name != key}
    mask = next((name for name in masks if first[name].shape == first[key].shape), None)
    return SampleForm(
        form.takes,
        form.shape,
        lambda sample: form.decode(sample[key]),
        lambda sample: {**fixed, key: form.encode(sample)},
        None if mask is None else lambda sample: np.asarray(sample[mask]) != 0,
    )


def _form_of_array(first: NDArray[Any], read: Sequence[NDArray[Any]], name: str) -> SampleForm:
    if _are_tokens(first):
        return SampleForm("tokens", first.shape, np.asarray, lambda sample: np.asarray(sample, dtype=first.dtype))
    if first.dtype.kind != "f" or first.size < 2:
        raise _unknown(f"{first.dtype} of shape {first.shape}", name)
    if first.ndim == 3 and first.shape[0] in (1, 3) and min(first.shape[1:]) >= _SMALLEST_PICTURE:
        return _form_of_pixels(first, read)
    return SampleForm("array", first.shape, np.asarray, lambda sample: np.asarray(sample, dtype=first.dtype))


def _form_of_pixels(first: NDArray[Any], read: Sequence[NDArray[Any]]) -> SampleForm:
    """Return the form of pictures that come as floats (channel, y, x).

    Where all values lie from 0 to 1, these are black and white; otherwise the least and the greatest value of each
    channel are, as for pixels that were normalised by channel.
    """
    values = np.stack(read).astype(np.float64)
    values[~np.isfinite(values)] = 0
    low, high = values.min(axis=(0, 2, 3))[:, None, None], values.max(axis=(0, 2, 3))[:, None, None]
    if low.min() >= 0 and high.max() <= 1:
        low, high = np.zeros_like(low), np.ones_like(high)
    span = np.where(high > low, high - low, 1.0)

    def decode(sample: NDArray[Any]) -> NDArray[np.uint8]:
        pixels = np.nan_to_num(255 * (np.asarray(sample, dtype=np.float64) - low) / span)
        whole = np.round(np.clip(pixels, 0, 255)).astype(np.uint8).transpose(1, 2, 0)
        return np.repeat(whole, 3, axis=2) if whole.shape[2] == 1 else whole

    def encode(sample: NDArray[Any]) -> NDArray[Any]:
        pixels = np.asarray(sample, dtype=np.float64).transpose(2, 0, 1) / 255
        pixels = pixels.mean(axis=0, keepdims=True) if first.shape[0] == 1 else pixels
        return np.asarray(low + span * pixels, dtype=first.dtype)

    return SampleForm("image", (first.shape[1], first.shape[2], 3), decode, encode, grey=first.shape[0] == 1)


def _picture(image: Image.Image) -> NDArray[np.uint8]:
    shorter = min(image.size)
    if shorter > LARGEST_SIDE:
        width, height = (round(side * LARGEST_SIDE / shorter) for side in image.size)
        image = image.resize((width, height))
    return np.asarray(image.convert("RGB"))


def _are_tokens(array: NDArray[Any]) -> bool:
    return array.dtype.kind in "iu" and array.ndim == 1 and len(array) > 1


def _is_mask(array: NDArray[Any]) -> bool:
    return array.dtype.kind in "iub" and array.ndim > 0 and bool(np.isin(array, (0, 1)).all())


def _unknown(found: str, name: str) -> AnalysisError:
    return AnalysisError(
        f"Samples of data {name!r} are {found}; stimuli are known for images, sequences of tokens and arrays of real "
        "numbers. Give data of one of these kinds."
    )
