"""The mixture of a bulk and an upper component: beside densities of scipy's, planted parameters and invariances."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import minimize

from outcrop.numerics.dominance.modes import BINS, Modes, fit_modes


def planted(samples=2000, share=0.1, ratio=20.0, width=1.0, seed=0):
    """Return log sizes of a half-normal bulk and log-normal far values, so many times as large."""
    rng = np.random.default_rng(seed)
    far = round(share * samples)
    bulk = width * np.log(np.abs(rng.standard_normal(samples - far)))
    return np.concatenate([bulk, np.log(ratio) + 0.2 * rng.standard_normal(far)])


def best(logs):
    return max(fit_modes(logs), key=lambda modes: modes.log_likelihood)


def test_densities_are_those_of_a_generalised_half_normal_and_a_normal_distribution():
    modes = Modes(0.2, 0.5, 0.7, 3.0, 0.4, 0.0, 0.0)
    at = np.linspace(-4, 4, 50)
    lower, upper = modes.log_densities(at)
    # log|x| = centre + width log|Z|: sizes to the power 1 / width are half-normal, which scipy has.
    scaled = (at - 0.5) / 0.7
    expected = stats.halfnorm.logpdf(np.exp(scaled)) + scaled - np.log(0.7)
    np.testing.assert_allclose(lower, np.log(0.8) + expected, atol=1e-12)
    np.testing.assert_allclose(upper, np.log(0.2) + stats.norm.logpdf(at, 3.0, 0.4), atol=1e-12)


def test_separation_is_ashmans_d():
    modes = Modes(0.2, 0.5, 0.7, 3.0, 0.4, 0.0, 0.0)
    bulk = 0.5 + 0.7 * np.log(np.abs(np.random.default_rng(0).standard_normal(400_000)))
    expected = np.sqrt(2) * (3.0 - bulk.mean()) / np.sqrt(bulk.var() + 0.4**2)
    assert modes.separation == pytest.approx(expected, rel=5e-3)


@pytest.mark.parametrize("samples", [200, 5000])
def test_planted_parameters_are_found(samples):
    found = best(planted(samples, share=0.1, ratio=20, width=0.8))
    assert found.share == pytest.approx(0.1, abs=0.01)
    assert found.centre == pytest.approx(0.0, abs=0.1)
    assert found.width == pytest.approx(0.8, rel=0.1)
    assert found.mean == pytest.approx(np.log(20), abs=0.1)


def test_the_likelihood_of_one_mode_is_the_largest_that_a_general_optimiser_finds():
    logs = planted(BINS - 6, share=0.0)

    def loss(parameters):
        scaled = (logs - parameters[0]) / np.exp(parameters[1])
        return -(stats.halfnorm.logpdf(np.exp(scaled)) + scaled - parameters[1]).sum()

    expected = -minimize(loss, [0.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-10}).fun
    assert fit_modes(logs)[0].log_likelihood_alone == pytest.approx(expected, abs=1e-6)


def test_the_likelihood_told_is_that_of_the_parameters_told():
    logs = planted(BINS)
    for modes in fit_modes(logs):
        again = np.logaddexp(*modes.log_densities(logs)).sum()
        assert modes.log_likelihood == pytest.approx(again, abs=0.02 * len(logs) ** 0.5)


def test_bins_change_a_fit_little():
    logs = planted(4 * BINS)
    whole, part = best(logs), best(logs[::4])
    assert whole.share == pytest.approx(part.share, abs=0.03)
    again = np.logaddexp(*whole.log_densities(logs)).sum()
    assert whole.log_likelihood == pytest.approx(again, rel=2e-3)


@settings(max_examples=10, deadline=None)
@given(st.floats(-20, 20), st.integers(0, 100))
def test_a_factor_on_all_sizes_shifts_the_modes_and_changes_nothing_else(shift, seed):
    logs = planted(150, seed=seed)
    for one, other in zip(fit_modes(logs), fit_modes(logs + shift), strict=True):
        assert other.mean == pytest.approx(one.mean + shift, abs=1e-5)
        assert other.centre == pytest.approx(one.centre + shift, abs=1e-5)
        assert other.share == pytest.approx(one.share, abs=1e-6)
        assert other.log_likelihood == pytest.approx(one.log_likelihood, abs=1e-5)


def test_repeated_values_do_not_collapse_a_component():
    logs = np.concatenate([planted(100, share=0.0), np.full(10, 4.0)])
    for modes in fit_modes(logs):
        assert np.isfinite([modes.log_likelihood, modes.separation, modes.mean, modes.width]).all()
        assert modes.deviation > 0.1
    same = fit_modes(np.array([0.0] * 30 + [5.0]))
    assert all(np.isfinite([modes.log_likelihood, modes.width, modes.centre]).all() for modes in same)
