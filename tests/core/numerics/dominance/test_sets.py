"""Sets of samples beside Python's own, probabilities beside an enumeration, ranks beside scipy's."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from outcrop.errors import ParameterError
from outcrop.numerics import jaccard, overlap_p_values, rank_correlation, ranks_of, shared_counts, top_members

MEMBERS = arrays(np.bool_, st.tuples(st.integers(1, 5), st.integers(1, 12)))


@settings(max_examples=30, deadline=None)
@given(MEMBERS)
def test_counts_and_jaccard_are_those_of_sets(members):
    sets = [set(np.flatnonzero(row)) for row in members]
    counts, indices = shared_counts(members), jaccard(members)
    for row, one in enumerate(sets):
        for column, other in enumerate(sets):
            assert counts[row, column] == len(one & other)
            expected = len(one & other) / len(one | other) if one and other else np.nan
            np.testing.assert_equal(indices[row, column], expected)


def test_p_values_are_the_share_of_all_sets_that_overlap_as_much():
    members = np.zeros((3, 8), bool)
    members[0, :3], members[1, 2:6] = True, True
    found = overlap_p_values(members)
    overlaps = [len({0, 1, 2} & set(chosen)) for chosen in combinations(range(8), 4)]
    assert found[0, 1] == found[1, 0] == pytest.approx(np.mean([count >= 1 for count in overlaps]))
    assert found[0, 0] == pytest.approx(1 / len(list(combinations(range(8), 3))))
    assert np.isnan(found[2]).all()
    assert np.isnan(found[:, 2]).all()


def test_random_sets_have_p_values_that_are_at_least_uniform():
    rng = np.random.default_rng(0)
    members = np.array([rng.permutation(200) < 40 for _ in range(40)])
    found = overlap_p_values(members)[np.triu_indices(40, 1)]
    for level in (0.01, 0.1, 0.5):
        assert (found <= level).mean() <= level + 0.02
    assert overlap_p_values(np.repeat(members[:1], 2, axis=0))[0, 1] < 1e-40


def test_the_largest_are_the_top_members():
    sizes = np.array([[3.0, 1.0, 2.0, 5.0, 4.0], [1.0, 1.0, 1.0, 1.0, 1.0], [1.0, np.nan, 2.0, 3.0, 4.0]])
    found = top_members(sizes, 0.4)
    assert found.tolist() == [[False, False, False, True, True], [True, True, False, False, False], [False] * 5]
    assert top_members(sizes, 1e-6).sum(axis=1).tolist() == [1, 1, 0]
    assert top_members(np.arange(10.0)[None], 0.3).sum() == 3
    with pytest.raises(ParameterError, match="must be above 0 and at most 1; got 1.5"):
        top_members(sizes, 1.5)


def test_ranks_begin_with_the_largest_and_are_shared():
    found = ranks_of(np.array([[3.0, 1.0, 3.0, 0.0], [1.0, np.nan, 2.0, 3.0]]))
    assert found[0].tolist() == [1.5, 3.0, 1.5, 4.0]
    assert np.isnan(found[1]).all()


@settings(max_examples=30, deadline=None)
@given(arrays(np.float64, (2, 9), elements=st.integers(-3, 3).map(float)))
def test_rank_correlation_is_spearmans(values):
    found = rank_correlation(values[:1], values[1:])
    if (np.ptp(values, axis=1) == 0).any():
        assert np.isnan(found).all()
    else:
        assert found[0] == pytest.approx(stats.spearmanr(values[0], values[1]).statistic)


def test_rows_that_are_constant_or_have_a_nan_touch_no_other():
    first = np.random.default_rng(0).standard_normal((3, 20))
    second = first**3
    first[0] = 1.0
    second[2, 4] = np.nan
    found = rank_correlation(first, second)
    assert np.isnan(found[[0, 2]]).all()
    assert found[1] == pytest.approx(1)


def test_rows_that_do_not_fit_are_refused():
    with pytest.raises(ParameterError, match=r"row by row; got shapes \(1, 3\) and \(1, 4\)"):
        rank_correlation(np.zeros((1, 3)), np.zeros((1, 4)))
