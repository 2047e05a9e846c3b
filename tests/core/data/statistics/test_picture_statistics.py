import colorsys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import gaussian_filter, uniform_filter
from skimage.filters import sobel
from skimage.measure import shannon_entropy
from skimage.morphology import black_tophat, footprint_rectangle

from outcrop.data.statistics import PICTURE_STATISTICS, picture_statistics

PLACES = ("border_", "corner_", "top_left_")


def noise(side: int) -> np.ndarray:
    return np.random.default_rng(side).integers(0, 256, (side, side, 3)).astype(np.uint8)


def named(picture: np.ndarray) -> dict[str, float]:
    return dict(zip([statistic.name for statistic in PICTURE_STATISTICS], picture_statistics(picture), strict=True))


def test_a_plain_colour_has_its_own_channels_and_no_contrast() -> None:
    found = named(np.full((20, 30, 3), (51, 102, 255), dtype=np.uint8))
    colour = {"red": 0.2, "green": 0.4, "blue": 1.0}
    everywhere = {f"{where}{name}": value for where in ("", *PLACES) for name, value in colour.items()}
    flat = ("contrast", "edge_density", "border_homogeneity", "dark_spot_share", "entropy")
    assert found == pytest.approx(
        {
            "brightness": 0.2126 * 0.2 + 0.7152 * 0.4 + 0.0722,
            "saturation": colorsys.rgb_to_hsv(0.2, 0.4, 1.0)[1],
            "red_minus_green": -0.2,
            "blue_minus_red": 0.8,
            "blue_minus_yellow": 0.7,
            "low_frequency_share": 1.0,
            **everywhere,
            **dict.fromkeys((*flat, *(f"standard_deviation_{name}" for name in colour)), 0.0),
        },
        abs=1e-6,
    )


def test_names_are_unique_and_those_of_older_studies_come_first() -> None:
    names = [statistic.name for statistic in PICTURE_STATISTICS]
    assert len(set(names)) == len(names)
    assert names[:7] == ["brightness", "contrast", "saturation", "red", "green", "blue", "edge_density"]


def test_black_is_not_saturated_and_white_is_bright() -> None:
    black = named(np.zeros((8, 8, 3), dtype=np.uint8))
    assert black.pop("low_frequency_share") == 1.0
    assert set(black.values()) == {0.0}
    white = named(np.full((8, 8, 3), 255, dtype=np.uint8))
    assert white["brightness"] == pytest.approx(1.0, abs=1e-6)
    assert white["saturation"] == 0.0
    assert white["low_frequency_share"] == 1.0


def test_half_black_half_white_has_the_contrast_and_the_edge_of_a_step() -> None:
    picture = np.zeros((16, 16, 3), dtype=np.uint8)
    picture[:, 8:] = 255
    found = named(picture)
    assert found["brightness"] == found["contrast"] == pytest.approx(0.5, abs=1e-6)
    assert found["edge_density"] == 2 / 16  # the two columns at the step


@given(arrays(np.uint8, (9, 7, 3)))
def test_pictures_are_measured_as_other_libraries_measure_them(picture: np.ndarray) -> None:
    found = named(picture)
    hsv = np.array([colorsys.rgb_to_hsv(*(pixel / 255)) for pixel in picture.reshape(-1, 3)])
    assert found["saturation"] == pytest.approx(hsv[:, 1].mean(), abs=1e-5)
    luma = picture.astype(float).reshape(-1, 3) / 255 @ [0.2126, 0.7152, 0.0722]
    assert found["contrast"] == pytest.approx(luma.std(), abs=1e-5)
    assert found["red"] == pytest.approx(picture[..., 0].mean() / 255, abs=1e-6)
    for channel, colour in enumerate(("red", "green", "blue")):
        deviation = picture[..., channel].astype(float).std() / 255
        assert found[f"standard_deviation_{colour}"] == pytest.approx(deviation, abs=1e-5)
    levels = np.round(luma.astype(np.float32) * 255).astype(np.uint8)
    assert found["entropy"] == pytest.approx(shannon_entropy(levels), abs=0.2)  # a level may round either way


@pytest.mark.parametrize("shape", [(32, 32), (96, 96), (5, 9), (1, 3)])
def test_edges_are_those_of_scikit_image(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    for width in (0.5, 1.5, 3.0):
        smooth = gaussian_filter(rng.random((*shape, 3)), (width, width, 0))
        picture = np.round(255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)
        luma = (picture.astype(np.float32) / 255) @ np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)
        assert named(picture)["edge_density"] == (sobel(luma) > 0.1).mean()


@pytest.mark.parametrize("level", [0, 1, 128, 255])
def test_entropy_is_that_of_scikit_image_where_no_level_can_round_either_way(level: int) -> None:
    grey = np.random.default_rng(level).integers(0, level + 1, (32, 32)).astype(np.uint8)
    assert named(np.dstack([grey] * 3))["entropy"] == pytest.approx(shannon_entropy(grey), abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(arrays(np.uint8, (17, 20, 3)))
def test_borders_corners_and_opponents_are_what_a_slow_look_at_every_pixel_finds(picture: np.ndarray) -> None:
    found = named(picture)
    height, width, _ = picture.shape
    border, corners = [], []
    for y in range(height):
        for x in range(width):
            near = (min(y, height - 1 - y) < 2, min(x, width - 1 - x) < 2)
            border += [picture[y, x] / 255] if any(near) else []
            corners += [picture[y, x] / 255] if all(near) else []
    assert len(corners) == 16
    for channel, colour in enumerate(("red", "green", "blue")):
        assert found[f"border_{colour}"] == pytest.approx(np.mean(border, axis=0)[channel], abs=1e-6)
        assert found[f"corner_{colour}"] == pytest.approx(np.mean(corners, axis=0)[channel], abs=1e-6)
        assert found[f"top_left_{colour}"] == pytest.approx(picture[0, 0, channel] / 255, abs=1e-6)
    assert found["border_homogeneity"] == pytest.approx(-np.sqrt(np.var(border, axis=0).mean()), abs=1e-5)
    red, green, blue = (found[colour] for colour in ("red", "green", "blue"))
    assert found["red_minus_green"] == red - green
    assert found["blue_minus_red"] == blue - red
    assert found["blue_minus_yellow"] == blue - (red + green) / 2


@pytest.mark.parametrize(("side", "wide"), [(16, 2), (32, 2), (48, 3), (64, 4), (96, 4), (224, 4)])
def test_a_border_is_two_to_four_pixels_wide(side: int, wide: int) -> None:
    picture = noise(side)
    inside = slice(wide, side - wide)
    framed = np.full_like(picture, (10, 200, 90))
    framed[inside, inside] = picture[inside, inside]
    found = named(framed)
    assert found["border_homogeneity"] == pytest.approx(0, abs=1e-6)
    assert found["border_green"] == found["corner_green"] == pytest.approx(200 / 255, abs=1e-6)
    framed[wide - 1, side // 2] = 0
    assert named(framed)["border_homogeneity"] < -1e-3


@given(arrays(np.uint8, (16, 16, 3)), st.integers(0, 7))
def test_turning_and_mirroring_change_the_top_left_pixel_only(picture: np.ndarray, turns: int) -> None:
    turned = np.rot90(picture, turns % 4)
    found, expected = named(turned.swapaxes(0, 1) if turns > 3 else turned), named(picture)
    for name, value in expected.items():
        if not name.startswith("top_left_"):
            assert found[name] == pytest.approx(value, abs=1e-5), name


@settings(max_examples=20, deadline=None)
@given(arrays(np.uint8, st.tuples(st.integers(1, 19), st.integers(1, 19), st.just(3))))
def test_pictures_of_any_size_have_every_statistic_within_its_range(picture: np.ndarray) -> None:
    found = named(picture)
    assert np.isfinite(list(found.values())).all()
    signed = {"red_minus_green", "blue_minus_red", "blue_minus_yellow", "border_homogeneity"}
    for name, value in found.items():
        low, high = (-1, 1) if name in signed else (0, 8) if name == "entropy" else (0, 1)
        assert low - 1e-6 <= value <= high + 1e-6, name


def grating(side: int, cycles: float) -> np.ndarray:
    return np.tile(np.sin(2 * np.pi * cycles * np.arange(side) / side + 0.3), (side, 1))


def grey(values: np.ndarray) -> np.ndarray:
    return np.dstack([np.round(127.5 + values).astype(np.uint8)] * 3)


@pytest.mark.parametrize("side", [32, 33, 96])
def test_low_frequencies_are_those_up_to_an_eighth_of_a_cycle_per_pixel(side: int) -> None:
    coarse, fine = grating(side, side // 8), grating(side, side // 4).T
    assert named(grey(100 * coarse))["low_frequency_share"] == pytest.approx(1, abs=1e-3)
    assert named(grey(100 * fine))["low_frequency_share"] == pytest.approx(0, abs=1e-3)
    # Variances of 1 and 3, up to whole levels.
    mixed = named(grey(30 * coarse + 30 * np.sqrt(3) * fine))
    assert mixed["low_frequency_share"] == pytest.approx(0.25, abs=5e-3)


@pytest.mark.parametrize("shape", [(32, 32), (15, 22), (22, 15), (7, 1)])
def test_the_low_frequency_share_is_that_of_the_whole_transform(shape: tuple[int, int]) -> None:
    values = np.random.default_rng(0).integers(0, 256, shape)
    power = np.abs(np.fft.fft2(values - values.mean())) ** 2
    frequency = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1]))
    expected = power[frequency <= 0.125].sum() / power.sum()
    found = named(np.dstack([values.astype(np.uint8)] * 3))["low_frequency_share"]
    assert found == pytest.approx(expected, abs=1e-5)


def test_smoothing_raises_the_low_frequency_share_and_lowers_edges_and_entropy() -> None:
    picture = noise(64)
    smooth = gaussian_filter(picture, (4, 4, 0))
    before, after = named(picture), named(smooth)
    assert before["low_frequency_share"] < 0.1 < 0.9 < after["low_frequency_share"]
    assert after["edge_density"] < before["edge_density"]
    assert after["entropy"] < before["entropy"]


@pytest.mark.parametrize("side", [32, 96])
def test_dark_spots_are_areas_darker_than_the_rest_and_noise_makes_none(side: int) -> None:
    y, x = np.mgrid[:side, :side] / side
    disc = np.hypot(y - 0.5, x - 0.4) < 0.15
    picture = np.where(disc[..., None], (60, 30, 80), (235, 190, 215)).astype(np.uint8)
    assert named(picture)["dark_spot_share"] == pytest.approx(np.pi * 0.15**2, rel=0.4)  # smoothing widens it
    speckled = np.full((side, side, 3), 200, dtype=np.uint8)
    speckled[np.random.default_rng(0).random((side, side)) < 0.01] = 0
    assert named(speckled)["dark_spot_share"] < 0.03
    assert named(picture // 8)["dark_spot_share"] == 0  # dark all over
    assert named(255 - picture)["dark_spot_share"] == 0  # a bright spot
    half = picture.copy()
    half[:, : side // 2] = 40
    assert named(half)["dark_spot_share"] < 0.03  # a dark side is no spot


@pytest.mark.parametrize("side", [32, 33, 96])
def test_dark_spots_are_those_of_scikit_images_black_top_hat(side: int) -> None:
    picture = gaussian_filter(noise(side), (side / 20, side / 20, 0))
    picture = np.clip(128.0 + 6 * (picture - 127.5), 0, 255).astype(np.uint8)
    luma = uniform_filter((picture / 255) @ [0.2126, 0.7152, 0.0722], side // 16 | 1, mode="nearest")
    expected = black_tophat(luma, footprint_rectangle((side // 3 | 1,) * 2), mode="nearest")
    found = named(picture)["dark_spot_share"]
    assert found == pytest.approx((expected >= 0.2).mean(), abs=2 / side**2)
    assert 0.01 < found < 0.6


def test_a_spot_as_dark_as_the_threshold_counts_however_it_is_rounded() -> None:
    for level in range(51, 256):
        picture = np.full((32, 32, 3), level, dtype=np.uint8)
        picture[8:16, 8:16] = level - 51
        assert named(picture)["dark_spot_share"] == pytest.approx(36 / 1024), level


def test_grey_pictures_have_no_colour() -> None:
    shades = np.random.default_rng(0).integers(0, 256, (32, 32, 1)).astype(np.uint8)
    found = named(np.repeat(shades, 3, axis=2))
    for name in ("saturation", "red_minus_green", "blue_minus_red", "blue_minus_yellow"):
        assert found[name] == 0
    assert found["brightness"] == pytest.approx(found["red"], abs=1e-6)
    assert found["contrast"] == pytest.approx(found["standard_deviation_blue"], abs=1e-6)
