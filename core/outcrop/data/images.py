"""Image files and arrays as RGB pictures, and pictures as thumbnails."""

import functools
import io
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

# What Pillow's decoders raise on files that are cut short or garbled.
DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)

# Formats that Pillow recognises and cannot decode by itself, or hands to another program (EPS to Ghostscript).
_LEFT_OUT = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
_LARGEST_16_BIT = 65535
_SMALLEST_PICTURE = 8
_LARGEST_NORMALISED = 10.0


@functools.cache
def readable_formats() -> tuple[str, ...]:
    """Return the formats that the installed Pillow decodes."""
    Image.init()
    return tuple(name for name in Image.ID if name not in _LEFT_OUT)


@functools.cache
def readable_extensions() -> frozenset[str]:
    """Return the file extensions, in lower case and with their dot, of the formats that Pillow decodes."""
    formats = set(readable_formats())
    return frozenset(end for end, name in Image.registered_extensions().items() if name in formats)


def decode(content: bytes, *, at_least: int | None = None) -> Image.Image:
    """Return a file's content as an upright RGB image, its first frame.

    Transparency is dropped, as torchvision and timm do; 16 bits become 8 by scale; EXIF orientation is applied.

    Args:
        content: The bytes of the file.
        at_least: Smallest side needed; lets JPEG decode faster at a fraction of its size. All is read even so.

    Raises:
        One of DECODE_ERRORS.
    """
    with Image.open(io.BytesIO(content), formats=readable_formats()) as image:
        if at_least is not None:
            image.draft(None, (at_least, at_least))
        image.load()
        try:
            upright = ImageOps.exif_transpose(image)
        except DECODE_ERRORS:
            # Garbled EXIF says nothing about the pixels, which are whole.
            upright = image
        return to_rgb(upright)


def to_rgb(image: Image.Image) -> Image.Image:
    """Return an image of any mode as RGB, 8 bits a channel.

    Raises:
        ValueError: A 32-bit image whose values fit neither 16 bits nor (floats) the range 0 to 1.
    """
    if image.mode.startswith("I;16") or image.mode in {"I", "F"}:
        values = np.asarray(image).astype(np.float64)
        largest = 1.0 if image.mode == "F" else _LARGEST_16_BIT
        if not (values.min() >= 0 and values.max() <= largest):
            raise ValueError(
                f"pixels from {values.min():g} to {values.max():g}; expected 0 to {largest:g} in mode {image.mode!r}"
            )
        image = Image.fromarray(np.round(values * (255 / largest)).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        # Pillow warns on the direct way.
        image = image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")


def reason_of(error: BaseException) -> str:
    """Return an error as a few words without the address of a buffer."""
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    return str(error).partition("\n")[0].rstrip(".") or type(error).__name__


def picture_of(array: NDArray[Any]) -> NDArray[np.uint8] | None:
    """Return an array of one sample as uint8 (y, x, channel) to look at, or None where it is no picture.

    Floats shaped (1 or 3, y, x) are taken as pictures: within 0 to 1 as they are, otherwise, if roughly normalised,
    stretched from their least to their greatest value.
    """
    if array.ndim != 3 or array.shape[0] not in {1, 3} or min(array.shape[1:]) < _SMALLEST_PICTURE:
        return None
    if array.dtype.kind != "f" or not np.isfinite(array).all():
        return None
    values = array.astype(np.float64)
    low, high = values.min(), values.max()
    if max(-low, high) > _LARGEST_NORMALISED:
        return None
    if low < 0 or high > 1:
        values = (values - low) / ((high - low) or 1.0)
    pixels = np.round(values * 255).astype(np.uint8)
    return np.broadcast_to(pixels.transpose(1, 2, 0), (*array.shape[1:], 3))


def thumbnail_of(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """Return the centre square of an image, (size, size, 3)."""
    return np.asarray(ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC))
