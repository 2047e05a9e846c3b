import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from outcrop.data.statistics import array_statistics

FLOATS = st.floats(-1e4, 1e4, width=32)


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
