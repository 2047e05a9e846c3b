import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from outcrop.capture.finite import count_non_finite

SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0)


@settings(max_examples=200, deadline=None)
@given(arrays.arrays(st.sampled_from(["float16", "float32", "float64", "complex64"]), SHAPES))
def test_every_value_that_is_not_finite_is_counted_once(values: np.ndarray) -> None:
    expected = int((~np.isfinite(values)).sum())
    assert count_non_finite(values) == expected
    assert count_non_finite(values.T) == expected
    assert count_non_finite(values[::-1] if values.ndim else values) == expected


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f2", ">f4"])
def test_finite_values_whose_sum_overflows_are_not_counted(dtype: str) -> None:
    values = np.full(300_000, np.finfo(dtype).max, dtype=dtype)
    assert count_non_finite(values) == 0
    values[[0, 131_072, -1]] = np.inf, -np.inf, np.nan
    assert count_non_finite(values) == 3


def test_infinities_of_both_signs_do_not_cancel() -> None:
    assert count_non_finite(np.array([np.inf, -np.inf, 1.0])) == 2


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
def test_integers_are_finite(dtype: str) -> None:
    assert count_non_finite(np.ones((3, 4), dtype=dtype)) == 0
