import colorsys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

import outcrop
from outcrop.data import ArrayData, ImageArray
from outcrop.data.statistics import (
    ARRAY_STATISTICS,
    PICTURE_STATISTICS,
    array_statistics,
    describe,
    picture_statistics,
)
from outcrop.progress import silent
from outcrop.testing import IndexData

FLOATS = st.floats(-1e4, 1e4, width=32)


def named(picture: np.ndarray) -> dict[str, float]:
    return dict(zip([statistic.name for statistic in PICTURE_STATISTICS], picture_statistics(picture), strict=True))


def test_a_plain_colour_has_its_own_channels_and_no_contrast() -> None:
    found = named(np.full((20, 30, 3), (51, 102, 255), dtype=np.uint8))
    assert found == pytest.approx(
        {
            "brightness": 0.2126 * 0.2 + 0.7152 * 0.4 + 0.0722,
            "contrast": 0.0,
            "saturation": colorsys.rgb_to_hsv(0.2, 0.4, 1.0)[1],
            "red": 0.2,
            "green": 0.4,
            "blue": 1.0,
            "edge_density": 0.0,
        },
        abs=1e-6,
    )


def test_black_is_not_saturated_and_white_is_bright() -> None:
    assert set(named(np.zeros((8, 8, 3), dtype=np.uint8)).values()) == {0.0}
    white = named(np.full((8, 8, 3), 255, dtype=np.uint8))
    assert white["brightness"] == pytest.approx(1.0, abs=1e-6)
    assert white["saturation"] == 0.0


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


@given(arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 40)), elements=FLOATS))
def test_arrays_are_measured_as_numpy_measures_them(array: np.ndarray) -> None:
    wide = array.astype(np.float64)
    scale = max(1.0, float(np.abs(wide).max()))
    mean, deviation, norm = array_statistics(array)
    assert mean == pytest.approx(wide.mean(), abs=1e-5 * scale)
    assert deviation == pytest.approx(wide.std(), abs=1e-5 * scale)
    assert norm == pytest.approx(np.linalg.norm(wide), rel=1e-5, abs=1e-30)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64", "uint8"])
def test_arrays_of_any_type_are_measured(dtype: str) -> None:
    array = np.arange(12).reshape(3, 4).astype(dtype)
    assert array_statistics(array.T) == pytest.approx((5.5, np.arange(12).std(), np.linalg.norm(np.arange(12.0))))


def test_values_near_the_ends_of_float32_do_not_overflow_and_what_is_not_finite_is_not_hidden() -> None:
    huge = np.array([1e30, -1e30], dtype=np.float32)
    assert array_statistics(huge) == pytest.approx((0.0, 1e30, np.sqrt(2) * 1e30))
    tiny = np.full(4, 1e-30, dtype=np.float32)
    assert array_statistics(tiny)[2] == pytest.approx(2e-30)
    assert np.isnan(array_statistics(np.array([np.nan, 1.0]))).all()
    assert array_statistics(np.array([np.inf, 1.0]))[2] == np.inf


def test_each_kind_of_data_is_described_by_what_suits_it() -> None:
    pictures = ImageArray(np.random.default_rng(0).integers(0, 255, (5, 40, 40, 3)).astype(np.uint8))
    found = describe(pictures, thumbnails=True, progress=silent)
    assert found.statistics == PICTURE_STATISTICS
    assert found.values.shape == (len(PICTURE_STATISTICS), 5)
    assert found.thumbnails is not None
    assert found.thumbnails.shape == (5, 48, 48, 3)
    floats = ArrayData(np.random.default_rng(0).random((4, 3, 200, 200)).astype(np.float32))
    found = describe(floats, thumbnails=True, progress=silent)
    assert found.statistics == ARRAY_STATISTICS
    assert found.thumbnails is not None
    assert describe(floats, thumbnails=False, progress=silent).thumbnails is None
    nothing = describe(IndexData(3), thumbnails=True, progress=silent)
    assert nothing.statistics == ()
    assert nothing.thumbnails is None
    tokens = ArrayData({"ids": np.ones((3, 7), dtype=np.int64)})
    assert describe(tokens, thumbnails=True, progress=silent).statistics == ()


def test_pictures_of_different_sizes_compare(tmp_path) -> None:  # type: ignore[no-untyped-def] # a path
    small = Image.fromarray(np.random.default_rng(0).integers(0, 255, (12, 12, 3)).astype(np.uint8))
    small.resize((96, 96), Image.Resampling.NEAREST).save(tmp_path / "a.png")
    small.resize((960, 960), Image.Resampling.NEAREST).save(tmp_path / "b.png")
    found = describe(outcrop.load_data(tmp_path), thumbnails=True, progress=silent)
    np.testing.assert_allclose(found.values[:, 0], found.values[:, 1], atol=0.03)


def test_data_that_one_thread_must_read_is_read_by_one() -> None:
    import threading

    names = set()

    class Single(ArrayData):
        concurrent = False

        def read(self, index):  # type: ignore[no-untyped-def] # the parent's
            names.add(threading.current_thread().name)
            return super().read(index)

    steps = []

    def progress(description, total, *, unit="samples"):  # type: ignore[no-untyped-def] # the protocol's
        import contextlib

        return contextlib.nullcontext(steps.append)

    describe(Single(np.ones((5, 4))), thumbnails=True, progress=progress)
    assert names == {threading.current_thread().name}
    assert sum(steps) == 5
