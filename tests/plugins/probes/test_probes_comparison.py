"""The comparison of stimuli with as many others, and with real samples."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outcrop_probes.comparison import Comparison, compare, expected_maximum


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=8), st.integers(1, 8))
def test_the_expected_maximum_is_the_mean_over_all_draws(values, count):
    count = min(count, len(values))
    expected = np.mean([max(drawn) for drawn in combinations(values, count)])
    assert expected_maximum(np.array(values), count) == pytest.approx(expected, abs=1e-9)


def test_of_many_it_is_that_of_uniform_numbers():
    values = (np.arange(20_000) + 0.5) / 20_000
    assert expected_maximum(values, 9) == pytest.approx(0.9, abs=1e-3)
    assert expected_maximum(values, 19_999) == pytest.approx(values[-1], abs=1e-4)
    assert expected_maximum(values, 10**9) == values[-1]
    assert np.isnan(expected_maximum(values[:0], 3))
    assert np.isnan(expected_maximum(values, 0))


def test_groups_of_different_sizes_are_compared_over_as_many():
    rng = np.random.default_rng(0)
    real = rng.uniform(-1, 1, 50)
    few, many = rng.uniform(0, 1.2, 10), rng.uniform(0, 1.2, 1000)
    found = compare(few, many, real)
    assert (found.carrying_count, found.control_count, found.count) == (10, 1000, 10)
    # The largest of many is larger; of as many, it is what chance makes of it.
    assert many.max() > few.max()
    assert found.carrying == few.max()
    assert found.control == pytest.approx(1.2 * 10 / 11, abs=0.05)
    assert found.reaching == (few >= 1).sum()
    assert found.control_reaching == (many >= 1).sum()
    # More stimuli than real samples: the farthest of as many as these.
    assert compare(many, few, real).carrying_reach == expected_maximum(many, 50) < many.max()


def test_what_follows_from_it():
    assert not Comparison().possible
    assert not Comparison().reaches
    empty = np.empty(0)
    assert not compare(np.array([2.0]), empty, np.array([1.0])).possible
    found = compare(np.array([2.0]), np.array([0.5]), np.array([1.0, np.nan]))
    assert (found.possible, found.reaches, found.specific, found.real) == (True, True, True, 1)
    assert not compare(np.array([2.0]), np.array([1.5]), np.array([1.0])).specific
