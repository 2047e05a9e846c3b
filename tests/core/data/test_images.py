import contextlib
import io
import random

import numpy as np
import pytest
from PIL import Image

from outcrop.data.images import (
    DECODE_ERRORS,
    decode,
    picture_of,
    readable_extensions,
    readable_formats,
    thumbnail_of,
    to_rgb,
)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(height: int = 24, width: int = 16, channels: int = 3) -> np.ndarray:
    values = np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return values[:, :, 0] if channels == 1 else values


def test_every_mode_becomes_eight_bit_rgb():
    pixels = noise()
    rgb = Image.fromarray(pixels)
    for mode in ("1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "HSV"):
        assert to_rgb(rgb.convert(mode)).mode == "RGB"


def test_transparency_is_dropped_and_the_colours_stay():
    pixels = noise(channels=4)
    image = decode(encoded(Image.fromarray(pixels), "PNG"))
    np.testing.assert_array_equal(np.asarray(image), pixels[:, :, :3])


def test_a_palette_with_transparency_is_read_without_a_warning():
    palette = Image.fromarray(noise()).convert("P")
    image = decode(encoded(palette, "PNG", transparency=bytes(range(256))))
    np.testing.assert_array_equal(np.asarray(image), np.asarray(palette.convert("RGB")))


def test_sixteen_bits_are_scaled_and_not_clipped():
    values = np.array([[0, 257, 128 * 257], [65535, 255 * 257, 1]], dtype=np.uint16)
    image = decode(encoded(Image.fromarray(values), "PNG"))
    np.testing.assert_array_equal(np.asarray(image)[:, :, 1], [[0, 1, 128], [255, 255, 0]])


def test_floats_from_0_to_1_are_scaled_and_others_refused():
    values = np.array([[0.0, 0.5, 1.0]], dtype=np.float32)
    assert np.asarray(to_rgb(Image.fromarray(values)))[0, :, 0].tolist() == [0, 128, 255]
    with pytest.raises(ValueError, match=r"pixels from 0 to 7; expected 0 to 1 in mode 'F'"):
        to_rgb(Image.fromarray(values * 7))
    with pytest.raises(ValueError, match=r"pixels from -1 to 3; expected 0 to 65535 in mode 'I'"):
        to_rgb(Image.fromarray(np.array([[-1, 3]], dtype=np.int32)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_turns_the_picture_upright(orientation):
    upright = noise()
    undo = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a.transpose(1, 0, 2), 2),
        8: lambda a: np.rot90(a, -1),
    }
    stored = Image.fromarray(np.ascontiguousarray(undo[orientation](upright)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(np.asarray(decode(encoded(stored, "PNG", exif=exif))), upright)


def test_a_decode_at_reduced_size_still_finds_every_cut_in_a_jpeg():
    content = encoded(Image.fromarray(noise(200, 300)), "JPEG", quality=95)
    assert min(decode(content, at_least=48).size) in range(48, 100)
    for share in (0.3, 0.6, 0.9, 0.99):
        with pytest.raises(DECODE_ERRORS):
            decode(content[: int(len(content) * share)], at_least=1)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "TGA", "ICO", "PCX"])
@pytest.mark.filterwarnings("ignore::UserWarning:PIL.*")
def test_garbled_files_raise_only_what_is_caught(kind):
    content = encoded(Image.fromarray(noise(40, 40)), kind)
    chance = random.Random(1)
    for _ in range(40):
        garbled = bytearray(content[: chance.randrange(1, len(content))] if chance.random() < 0.5 else content)
        for _ in range(chance.randrange(4)):
            garbled[chance.randrange(len(garbled))] = chance.randrange(256)
        with contextlib.suppress(*DECODE_ERRORS):
            assert decode(bytes(garbled)).mode == "RGB"


def test_formats_that_start_another_program_are_left_out():
    assert "EPS" not in readable_formats()
    assert not {".eps", ".ps", ".wmf"} & readable_extensions()
    assert {".jpg", ".jpeg", ".png", ".webp", ".tif", ".bmp", ".gif"} <= readable_extensions()


def test_a_thumbnail_is_the_square_centre():
    wide = np.zeros((48, 144, 3), dtype=np.uint8)
    wide[:, 48:96] = (10, 200, 30)
    np.testing.assert_array_equal(thumbnail_of(Image.fromarray(wide), 48)[:, 8:40], wide[:, 56:88])
    assert thumbnail_of(Image.fromarray(noise(5, 7)), 48).shape == (48, 48, 3)


def test_floats_in_0_to_1_are_shown_as_they_are_and_normalised_ones_stretched():
    values = np.linspace(0.2, 0.4, 3 * 64).reshape(3, 8, 8)
    picture = picture_of(values)
    assert picture is not None
    np.testing.assert_array_equal(picture, np.round(values * 255).transpose(1, 2, 0))
    stretched = picture_of(values * 10 - 3)
    assert stretched is not None
    assert (stretched.min(), stretched.max()) == (0, 255)
    grey = picture_of(values[:1].astype(np.float32))
    assert grey is not None
    assert grey.shape == (8, 8, 3)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((3, 8)),
        np.zeros((4, 8, 8)),
        np.zeros((3, 4, 4)),
        np.zeros((3, 8, 8), dtype=np.int64),
        np.full((3, 8, 8), np.nan),
        np.full((3, 8, 8), 300.0),
    ],
)
def test_other_arrays_are_no_picture(array):
    assert picture_of(array) is None
