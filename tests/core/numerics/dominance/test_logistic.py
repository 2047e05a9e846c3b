import math

import numpy as np
import pytest
from scipy.optimize import minimize

from outcrop.errors import InputError, ParameterError
from outcrop.numerics import auroc, logistic_association


def planted(samples: int = 400, members: int = 40, statistics: int = 5, size: float = 2.0, seed: int = 0):
    rng = np.random.default_rng(seed)
    own = rng.permutation(samples) < members
    values = rng.normal(size=(statistics, samples))
    values[1] += size * own
    return values, own


def test_a_planted_statistic_is_found_with_its_sign_and_out_of_fold():
    values, members = planted()
    found = logistic_association(values, members)
    assert found.auroc == pytest.approx(auroc(values[1:2], members)[0], abs=0.03)
    assert np.argmax(np.abs(found.coefficients)) == 1
    assert found.coefficients[1] > 1
    assert logistic_association(-values, members, permutations=0).coefficients[1] == -found.coefficients[1]
    assert found.null.shape == (20,)
    assert abs(found.null.mean() - 0.5) < 0.05
    assert found.p_value == pytest.approx(1 / 21)
    assert 0 < found.standard_error < 0.05


def test_coefficients_minimise_the_penalised_likelihood():
    values, members = planted(samples=120, members=30, statistics=3)
    scaled = ((values - values.mean(1, keepdims=True)) / values.std(1, keepdims=True)).T
    signs = np.where(members, 1, -1)

    def loss(weights: np.ndarray) -> float:
        return float(np.logaddexp(0, -signs * (scaled @ weights[:3] + weights[3])).sum() + (weights[:3] ** 2).sum() / 4)

    expected = minimize(loss, np.zeros(4), tol=1e-10).x
    found = logistic_association(values, members, strength=2.0, permutations=0)
    np.testing.assert_allclose(found.coefficients, expected[:3], atol=1e-4)


def test_as_many_statistics_as_samples_predict_nothing_when_nothing_is_there():
    rng = np.random.default_rng(1)
    values, members = rng.normal(size=(40, 60)), np.arange(60) < 20
    found = logistic_association(values, members, permutations=9)
    assert auroc((found.coefficients @ values)[np.newaxis], members)[0] > 0.95  # in sample
    assert abs(found.auroc - 0.5) < 0.2
    assert found.p_value > 0.1


def test_statistics_that_only_tell_together_are_found_together():
    rng = np.random.default_rng(2)
    members = np.arange(600) < 60
    common = rng.normal(size=600) * 5
    values = np.stack([common + 0.5 * members, common - 0.5 * members]) + 0.2 * rng.normal(size=(2, 600))
    assert (np.abs(auroc(values, members) - 0.5) < 0.12).all()
    assert logistic_association(values, members, strength=100.0, permutations=0).auroc > 0.95


def test_units_do_not_matter_and_the_seed_decides_folds_and_draws():
    values, members = planted(samples=150, members=20)
    found = logistic_association(values, members, permutations=3, seed=4)
    again = logistic_association(values * 1e3 + 5, members, permutations=3, seed=4)
    assert again.auroc == pytest.approx(found.auroc, abs=1e-9)
    np.testing.assert_allclose(again.coefficients, found.coefficients, rtol=1e-6)
    np.testing.assert_allclose(again.null, found.null, atol=1e-9)
    assert (logistic_association(values, members, permutations=3, seed=5).null != found.null).any()


def test_constant_statistics_and_missing_values_are_left_out():
    values, members = planted(samples=200, members=30)
    values[0] = 0.25
    values[2, ::5] = np.nan  # a fifth
    values[3, ::20] = np.inf  # a twentieth
    found = logistic_association(values, members, permutations=0)
    assert np.isnan(found.coefficients).tolist() == [True, False, True, False, False]
    kept = np.isfinite(values[3])
    expected = logistic_association(values[[1, 3, 4]][:, kept], members[kept], permutations=0)
    assert found.auroc == expected.auroc
    np.testing.assert_array_equal(found.coefficients[[1, 3, 4]], expected.coefficients)


def test_a_statistic_that_varies_in_the_judged_fold_only_is_no_error():
    values = np.zeros((1, 20))
    values[0, 3] = 1.0
    found = logistic_association(values, np.arange(20) < 8, permutations=0)
    assert 0.4 < found.auroc < 0.7


@pytest.mark.parametrize("members", [0, 1, 39, 40])
def test_too_few_samples_on_a_side_are_told_by_nan(members):
    values, _ = planted(samples=40)
    found = logistic_association(values, np.arange(40) < members)
    assert math.isnan(found.auroc)
    assert math.isnan(found.p_value)
    assert np.isnan(found.coefficients).all()


def test_two_members_make_two_folds_and_nothing_to_go_by_is_told_by_nan():
    values, _ = planted(samples=40)
    values[0, :2] += 20
    assert logistic_association(values, np.arange(40) < 2, permutations=0).auroc > 0.9
    for nothing in (np.zeros((3, 40)), np.full((3, 40), np.nan), np.empty((0, 40)), np.empty((3, 0))):
        found = logistic_association(nothing, np.arange(nothing.shape[1]) < 9)
        assert math.isnan(found.auroc)
    assert math.isnan(logistic_association(values, np.arange(40) < 9, permutations=0).p_value)


def test_what_cannot_be_fitted_is_refused():
    values, members = planted(samples=40)
    for given in ({"folds": 1}, {"permutations": -1}, {"strength": 0.0}):
        with pytest.raises(ParameterError, match="needs 2 folds or more, 0 permutations or more and a strength above"):
            logistic_association(values, members, **given)
    with pytest.raises(InputError, match="expected .statistic, sample., and one truth value per sample"):
        logistic_association(values, members[:-1])
