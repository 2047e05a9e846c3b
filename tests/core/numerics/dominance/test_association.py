import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import kstest, norm
from sklearn.metrics import roc_auc_score

from outcrop.errors import InputError, ParameterError
from outcrop.numerics import (
    adjusted_p_values,
    auroc,
    group_means,
    permutation_test,
    standardised_effect,
    strength_ranks,
)

WITH_TIES = st.integers(-3, 3).map(float)


def few(samples: int, members: int) -> np.ndarray:
    return np.arange(samples) < members


def test_it_is_the_area_of_scikit_learn_and_the_count_of_pairs():
    rng = np.random.default_rng(0)
    members = rng.random(80) < 0.2
    values = np.stack([rng.normal(size=80), rng.integers(0, 4, 80), rng.normal(size=80) + 2 * members])
    found = auroc(values, members)
    for row, own in enumerate(values):
        assert found[row] == pytest.approx(roc_auc_score(members, own), abs=1e-12)
        pairs = [(a > b) + (a == b) / 2 for a, b in itertools.product(own[members], own[~members])]
        assert found[row] == pytest.approx(np.mean(pairs), abs=1e-12)


def test_it_is_that_of_two_normal_distributions():
    rng = np.random.default_rng(1)
    members = few(40_000, 4_000)
    values = rng.normal(size=(1, 40_000)) + 1.5 * members
    assert auroc(values, members)[0] == pytest.approx(norm.cdf(1.5 / math.sqrt(2)), abs=0.01)
    assert standardised_effect(values, members)[0] == pytest.approx(1.5, abs=0.05)


@given(arrays(float, (2, 12), elements=WITH_TIES), arrays(bool, 12))
def test_order_alone_matters_and_members_and_rest_change_places(values, members):
    found = auroc(values, members)
    np.testing.assert_array_equal(auroc(np.exp(values) * 3 - 2, members), found)
    np.testing.assert_allclose(auroc(-values, members), 1 - found, atol=1e-12)
    np.testing.assert_allclose(auroc(values, ~members), 1 - found, atol=1e-12)
    assert np.isnan(found).tolist() == [not 0 < members.sum() < 12 or np.ptp(own) == 0 for own in values]


@given(arrays(float, (2, 12), elements=WITH_TIES), arrays(bool, 12), st.floats(0.1, 10), st.floats(-5, 5))
def test_effects_do_not_change_with_units_and_are_the_pooled_ones(values, members, factor, shift):
    found = standardised_effect(values, members)
    np.testing.assert_allclose(standardised_effect(factor * values + shift, members), found, atol=1e-9)
    np.testing.assert_allclose(standardised_effect(values, ~members), -found, atol=1e-12)
    one, other = values[:, members], values[:, ~members]
    if min(one.shape[1], other.shape[1]) >= 2:
        spread = ((one.shape[1] - 1) * one.var(1, ddof=1) + (other.shape[1] - 1) * other.var(1, ddof=1)) / 10
        for row in np.flatnonzero(spread > 0):
            expected = (one[row].mean() - other[row].mean()) / math.sqrt(spread[row])
            assert found[row] == pytest.approx(expected, abs=1e-9)
        assert np.isnan(found[spread == 0]).all()


def test_values_that_separate_without_spread_have_an_area_and_no_effect():
    members = few(10, 3)
    values = np.where(members, 0.3, 0.1)[np.newaxis]
    assert auroc(values, members)[0] == 1
    assert np.isnan(standardised_effect(values, members)[0])
    assert group_means(values, members)[0][0] == pytest.approx(0.3)
    assert group_means(values, members)[1][0] == pytest.approx(0.1)


def test_missing_values_leave_their_sample_out_of_that_statistic_only():
    rng = np.random.default_rng(2)
    members = rng.random(60) < 0.3
    values = rng.normal(size=(3, 60)) + members
    holed = values.copy()
    holed[1, ::7] = np.nan
    holed[2] = np.inf
    there = np.isfinite(holed[1])
    for function in (auroc, standardised_effect, lambda *given: group_means(*given)[0]):
        found = function(holed, members)
        assert found[0] == function(values, members)[0]
        assert found[1] == pytest.approx(function(values[1:2, there], members[there])[0], abs=1e-12)
        assert np.isnan(found[2])


def test_the_permutation_test_is_that_of_every_choice_of_members():
    rng = np.random.default_rng(3)
    values = np.round(rng.normal(size=(3, 9)), 1)
    members = few(9, 4)
    values[0, :4] += 1
    values[2] = -values[0]
    found = permutation_test(values, members, permutations=20_000)
    distances = []
    for chosen in itertools.combinations(range(9), 4):
        mask = np.isin(np.arange(9), chosen)
        distances.append(np.abs(auroc(values, mask) - 0.5))
    own = np.abs(found.auroc - 0.5) - 1e-12
    np.testing.assert_array_equal(found.auroc, auroc(values, members))
    np.testing.assert_allclose(found.p_value, (np.array(distances) >= own).mean(axis=0), atol=0.015)
    largest = np.max(distances, axis=1)[:, np.newaxis]
    np.testing.assert_allclose(found.familywise_p, (largest >= own).mean(axis=0), atol=0.015)
    assert found.p_value[0] == found.p_value[2]  # the same draws for all


def test_without_a_difference_p_values_are_uniform():
    rng = np.random.default_rng(4)
    members = few(200, 20)
    found = permutation_test(rng.normal(size=(300, 200)), members, permutations=499)
    assert kstest(found.p_value, "uniform").pvalue > 0.01
    assert (found.familywise_p >= found.p_value).all()
    # In 30 families of 10, at most a few have any false finding.
    families = [
        permutation_test(rng.normal(size=(10, 100)), few(100, 10), permutations=199, seed=seed).familywise_p.min()
        for seed in range(30)
    ]
    assert np.mean(np.array(families) <= 0.05) < 0.2


def test_a_planted_difference_is_found_among_many_statistics():
    rng = np.random.default_rng(5)
    members = few(300, 15)
    values = rng.normal(size=(30, 300))
    values[7] -= 1.5 * members
    found = permutation_test(values, members)
    adjusted = adjusted_p_values(found.p_value)
    assert found.auroc[7] < 0.3
    assert adjusted[7] < 0.05
    assert found.familywise_p[7] < 0.05
    assert (np.delete(found.familywise_p, 7) > 0.05).all()
    assert strength_ranks(found.auroc, standardised_effect(values, members))[7] == 1


def test_the_seed_decides_the_draws_and_missing_values_take_part():
    rng = np.random.default_rng(6)
    values, members = rng.normal(size=(4, 50)), few(50, 10)
    first, again = (permutation_test(values, members, permutations=99, seed=1) for _ in range(2))
    np.testing.assert_array_equal(first.p_value, again.p_value)
    assert (permutation_test(values, members, permutations=99, seed=2).p_value != first.p_value).any()
    values[0, 5:] = np.nan  # the members alone have values
    values[1, 12:] = np.nan  # draws without one on a side
    values[2] = 1.0
    found = permutation_test(values, members, permutations=99)
    assert np.isnan(found.auroc).tolist() == np.isnan(found.p_value).tolist() == [True, False, True, False]
    assert np.isnan(found.familywise_p).tolist() == [True, False, True, False]
    assert found.p_value[1] > 0.01


def test_no_statistic_at_all_is_no_error():
    found = permutation_test(np.empty((0, 5)), few(5, 2), permutations=19)
    assert found.auroc.shape == found.p_value.shape == found.familywise_p.shape == (0,)
    assert auroc(np.empty((0, 5)), few(5, 2)).shape == (0,)
    assert adjusted_p_values(np.empty(0)).shape == (0,)


def test_adjusted_p_values_are_those_of_benjamini_and_hochberg_and_skip_what_is_not_known():
    # The 15 p-values of their paper; at q = 0.05 the first four are found.
    published = [
        0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590,
        1.0,
    ]  # fmt: skip
    adjusted = adjusted_p_values(np.array(published))
    assert (adjusted <= 0.05).sum() == 4
    by_hand = [min(published[j] * 15 / (j + 1) for j in range(i, 15)) for i in range(15)]
    np.testing.assert_allclose(adjusted, by_hand, atol=1e-12)
    holed = adjusted_p_values(np.array([np.nan, 0.01, np.nan, 0.04]))
    np.testing.assert_allclose(holed, [np.nan, 0.02, np.nan, 0.04])


def test_ranks_go_by_area_then_effect_then_order_and_the_unknown_come_last():
    areas = np.array([0.7, 1.0, 0.0, np.nan, 1.0, 0.2, 0.7])
    effects = np.array([0.5, 3.0, -8.0, np.nan, np.nan, -1.0, 0.5])
    assert strength_ranks(areas, effects).tolist() == [5, 3, 2, 7, 1, 4, 6]


@settings(max_examples=30)
@given(arrays(float, 6, elements=st.floats(0, 1)), st.permutations(range(6)))
def test_ranks_are_a_permutation_that_follows_the_statistics(areas, order):
    effects = np.linspace(1, 2, 6)
    ranks = strength_ranks(areas, effects)
    assert sorted(ranks) == [1, 2, 3, 4, 5, 6]
    order = np.array(order)
    assert strength_ranks(areas[order], effects[order]).tolist() == ranks[order].tolist()


def test_what_does_not_fit_is_refused():
    expected = r"Values have shape \(2, 5\) and members are {}; expected \(statistic, sample\), and one truth value"
    with pytest.raises(InputError, match=expected.format(r"bool of shape \(4,\)")):
        auroc(np.zeros((2, 5)), few(4, 2))
    with pytest.raises(InputError, match=expected.format(r"int64 of shape \(5,\)")):
        standardised_effect(np.zeros((2, 5)), np.arange(5))
    with pytest.raises(InputError, match=r"Values have shape \(5,\)"):
        group_means(np.zeros(5), few(5, 2))
    with pytest.raises(ParameterError, match="needs at least 19 permutations; got 18"):
        permutation_test(np.zeros((2, 5)), few(5, 2), permutations=18)
