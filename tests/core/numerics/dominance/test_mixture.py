"""Dominant samples are told from projections: planted ones are found, and without any the largest are taken."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outcrop.errors import ParameterError
from outcrop.numerics import Split, split_projections


def carried(samples=1000, share=0.05, ratio=10.0, spread=0.1, seed=0):
    """Return mean-free projections of which the first samples carry a component, and which these are."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(samples)
    members = np.arange(samples) < round(share * samples)
    values[members] = ratio * (1 + spread * rng.standard_normal(members.sum()))
    return values - values.mean(), members


def agreement(found: Split, members):
    return 2 * (found.dominant & members).sum() / (found.dominant.sum() + members.sum())


@pytest.mark.parametrize(
    ("samples", "share", "ratio"),
    [(128, 0.05, 8), (400, 0.05, 60), (1000, 0.01, 10), (1000, 0.2, 15), (5000, 0.005, 15), (5000, 0.08, 6)],
)
def test_planted_samples_are_found(samples, share, ratio):
    values, members = carried(samples, share, ratio)
    found = split_projections(values)
    assert found.rule == "mixture"
    assert agreement(found, members) > 0.98
    assert found.bic_gain > 10
    assert found.ashman_d > 2
    assert found.upper_share == pytest.approx(share, rel=0.2)


@pytest.mark.parametrize(
    "name", ["standard_normal", "laplace", "standard_t", "lognormal", "uniform", "standard_cauchy", "two halves"]
)
@pytest.mark.parametrize("samples", [100, 2000])
def test_values_of_one_mode_or_of_two_halves_have_no_dominant_mode(name, samples):
    rng = np.random.default_rng(3)
    draws = {
        "standard_t": lambda: rng.standard_t(3, samples),
        "two halves": lambda: np.repeat([-3.0, 3.0], samples // 2) + rng.standard_normal(samples),
    }
    values = draws.get(name, lambda: getattr(rng, name)(size=samples))()
    found = split_projections(values, top_fraction=0.05)
    assert found.rule == "top fraction"
    chosen = np.sort(np.abs(values))[-round(0.05 * samples) :]
    assert found.dominant.sum() == len(chosen)
    assert found.threshold == chosen[0]


@pytest.mark.parametrize("samples", [100, 300])
def test_skewed_values_about_their_mean_have_two_modes_as_rarely_as_chance_has_it(samples):
    draws = {
        "exponential": lambda rng: rng.exponential(size=samples),
        "gamma": lambda rng: rng.gamma(0.5, size=samples),
        "log-normal": lambda rng: rng.lognormal(size=samples),
        "half-normal": lambda rng: np.abs(rng.standard_normal(samples)),
        "laplace": lambda rng: rng.laplace(size=samples),
        "t": lambda rng: rng.standard_t(3, samples),
    }
    found = []
    for draw in draws.values():
        for seed in range(8):
            values = draw(np.random.default_rng([samples, seed]))
            found.append(split_projections(values - values.mean()).rule == "mixture")
    # A mixture that need not fit better than falling sizes is found in nine of ten exponential draws.
    assert np.mean(found) <= 0.05


def test_the_chance_that_sizes_only_fall_is_told_and_decides():
    planted = split_projections(carried()[0])
    assert planted.rise_p < 1e-6
    values = np.random.default_rng(1).exponential(size=1000)
    skewed = split_projections(values - values.mean())
    assert skewed.rise_p > 0.05
    assert skewed.bic_gain > 10
    assert skewed.ashman_d > 2
    assert skewed.rule == "top fraction"
    assert np.isnan(split_projections(np.arange(1.0, 11.0)).rise_p)


@pytest.mark.parametrize(("samples", "count", "ratio"), [(200, 1, 1e4), (200, 2, 100), (2000, 3, 1e4), (2000, 5, 20)])
def test_very_few_samples_very_far_off_are_a_mode(samples, count, ratio):
    # About the mean that these drag along, the others' sizes hardly vary.
    values, members = carried(samples, count / samples, ratio, seed=1)
    found = split_projections(values)
    assert found.rule == "mixture"
    np.testing.assert_array_equal(found.dominant, members)


@pytest.mark.parametrize("factor", [4.0, 40.0])
def test_an_upper_mode_that_is_narrower_and_higher_than_the_bulk_is_found(factor):
    rng = np.random.default_rng(0)
    logs = np.concatenate([np.log(np.abs(rng.standard_normal(700))), np.log(factor) + 0.05 * rng.standard_normal(300)])
    found = split_projections(np.exp(logs) * rng.choice([-1, 1], 1000))
    assert found.rule == "mixture"
    assert agreement(found, np.arange(1000) >= 700) > 0.97


@pytest.mark.parametrize("seed", range(20))
def test_the_larger_part_is_never_dominant(seed):
    values, members = carried(300, share=0.75, ratio=40, seed=seed)
    found = split_projections(values)
    assert found.dominant.sum() <= 150
    assert (found.dominant != members).any()


def test_dominant_are_exactly_those_that_reach_the_threshold():
    for values in (carried()[0], np.random.default_rng(0).standard_normal(500)):
        found = split_projections(values)
        np.testing.assert_array_equal(found.dominant, np.abs(values) >= found.threshold)


@settings(max_examples=15, deadline=None)
@given(st.floats(1e-6, 1e6), st.integers(0, 50))
def test_signs_order_and_scale_do_not_matter(factor, seed):
    values, _ = carried(200, ratio=7, seed=seed)
    rng = np.random.default_rng(seed)
    order = rng.permutation(200)
    plain = split_projections(values)
    changed = split_projections(factor * (values * rng.choice([-1, 1], 200))[order])
    np.testing.assert_array_equal(changed.dominant, plain.dominant[order])
    assert changed.rule == plain.rule
    assert changed.threshold == pytest.approx(factor * plain.threshold, rel=1e-4)


def test_zeros_and_what_is_missing_are_never_dominant():
    values, members = carried(400)
    spoilt = np.concatenate([values, np.zeros(50), np.full(50, np.nan), [1e-9]])
    found = split_projections(spoilt)
    assert found.rule == "mixture"
    np.testing.assert_array_equal(found.dominant[:400], members)
    assert not found.dominant[400:].any()


def test_the_top_fraction_is_of_samples_with_a_projection_and_has_one_at_least():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.standard_normal(90), np.zeros(10), np.full(100, np.nan)])
    assert split_projections(values, top_fraction=0.3).dominant.sum() == 30
    assert split_projections(values, top_fraction=0.001).dominant.sum() == 1
    few = split_projections(np.array([0.0, 0.0, 3.0, -1.0]), top_fraction=1.0)
    assert few.dominant.tolist() == [False, False, True, True]
    assert np.isnan([few.bic_gain, few.ashman_d, few.upper_share]).all()


def test_products_that_round_down_take_the_whole_number():
    assert split_projections(np.arange(1.0, 11.0), top_fraction=0.3).dominant.sum() == 3


def test_of_equal_sizes_the_first_are_taken():
    found = split_projections(np.ones(40), top_fraction=0.1)
    assert found.rule == "top fraction"
    assert np.flatnonzero(found.dominant).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("values", [np.zeros(20), np.full(20, np.nan), np.empty(0)])
def test_without_any_size_there_is_nothing_to_split(values):
    found = split_projections(values)
    assert found.rule == "none"
    assert not found.dominant.any()
    assert np.isnan(found.threshold)


def test_wrong_values_are_refused():
    with pytest.raises(ParameterError, match="top_fraction must be above 0 and at most 1; got 0"):
        split_projections(np.ones(4), top_fraction=0)
    with pytest.raises(ParameterError, match=r"Projections must be one per sample; got shape \(2, 2\)"):
        split_projections(np.ones((2, 2)))
    with pytest.raises(ParameterError, match="must be finite, or NaN for samples without one; got infinite ones"):
        split_projections(np.array([1.0, np.inf]))
