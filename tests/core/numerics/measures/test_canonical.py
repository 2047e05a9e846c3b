import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from outcrop.errors import InputError
from outcrop.numerics import canonical_correlation


def related(seed=0, samples=300, features=(12, 20)):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(samples, features[0]))
    return x, x @ rng.normal(size=features) / 4 + rng.normal(size=(samples, features[1]))


def by_covariances(x, y):
    """The trace of ``Sxx^-1 Sxy Syy^-1 Syx`` (Hotelling 1936)."""
    p = x.shape[1]
    s = np.cov(x, y, rowvar=False)
    squares = np.linalg.solve(s[:p, :p], s[:p, p:]) @ np.linalg.solve(s[p:, p:], s[p:, :p])
    return np.trace(squares) / min(p, y.shape[1])


def test_reference_value_of_the_published_code():
    rng = np.random.RandomState(1337)
    x = rng.randn(100, 10)
    y = rng.randn(100, 10) + x
    assert canonical_correlation(x, y, mean_free=False) == pytest.approx(0.543123856, abs=1e-8)
    assert canonical_correlation(x, y) == pytest.approx(by_covariances(x, y), abs=1e-12)


@pytest.mark.parametrize("features", [(12, 20), (20, 12), (1, 1), (7, 150)])
def test_it_is_the_trace_of_the_product_of_covariances(features):
    x, y = related(features=features)
    assert canonical_correlation(x, y) == pytest.approx(by_covariances(x, y), abs=1e-12)


def test_for_single_features_it_is_the_squared_correlation():
    x, y = related(features=(1, 1))
    assert canonical_correlation(x, y) == pytest.approx(np.corrcoef(x[:, 0], y[:, 0])[0, 1] ** 2, abs=1e-13)


@given(seed=st.integers(0, 10_000), shift=st.floats(-100, 100))
@settings(max_examples=20, deadline=None)
def test_no_invertible_map_and_no_shift_changes_it(seed, shift):
    x, y = related(seed, samples=60, features=(8, 6))
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.normal(size=(8, 8))).Q
    mapped = (x * np.geomspace(0.01, 100, 8)) @ rotation + shift
    assert canonical_correlation(mapped, y) == pytest.approx(canonical_correlation(x, y), abs=1e-9)
    assert canonical_correlation(y, x) == pytest.approx(canonical_correlation(x, y), abs=1e-12)
    assert canonical_correlation(x, mapped) == pytest.approx(1, abs=1e-9)


def test_a_shift_changes_the_value_of_the_published_code():
    x, y = related(samples=60)
    assert (
        abs(canonical_correlation(x + 3, y + 3, mean_free=False) - canonical_correlation(x, y, mean_free=False)) > 0.01
    )


@pytest.mark.parametrize("features", [(10, 10), (10, 50), (90, 60)])
def test_independent_features_have_the_stated_mean(features):
    values = [
        canonical_correlation(*(rng.normal(size=(101, p)) for p in features))
        for rng in map(np.random.default_rng, range(60))
    ]
    assert np.mean(values) == pytest.approx(max(features) / 100, abs=4 * np.std(values) / np.sqrt(60))


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_features_that_depend_on_others_do_not_count(dtype):
    x, y = related()
    repeated = np.hstack([x, x @ np.random.default_rng(1).normal(size=(12, 9)), np.full((300, 2), 0.3)]).astype(dtype)
    tolerance = {np.float64: 1e-10, np.float32: 1e-5, np.float16: 5e-3}[dtype]
    assert canonical_correlation(repeated, y) == pytest.approx(canonical_correlation(x, y), abs=tolerance)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_tensors_of_any_precision_and_shape_are_taken(dtype):
    x, y = related()
    tensor = torch.from_numpy(x).to(dtype).reshape(300, 2, 3, 2).requires_grad_()
    assert canonical_correlation(tensor, y) == pytest.approx(
        canonical_correlation(x, y), abs={torch.float64: 1e-12, torch.bfloat16: 2e-3}.get(dtype, 1e-3)
    )


def test_whole_numbers_are_taken():
    counts = np.random.default_rng(0).integers(0, 9, size=(2, 60, 3))
    expected = canonical_correlation(*counts.astype(float))
    assert canonical_correlation(*counts) == expected
    assert canonical_correlation(*torch.from_numpy(counts)) == expected


def test_features_far_from_zero_in_single_precision_give_the_true_value():
    x, y = related()
    far = [(a + 100).astype(np.float32) for a in (x, y)]
    assert canonical_correlation(*far) == pytest.approx(canonical_correlation(x, y), abs=1e-4)


def test_constant_features_give_nan():
    x, _ = related()
    assert math.isnan(canonical_correlation(x, np.full((300, 3), 0.1)))
    assert math.isnan(canonical_correlation(np.zeros((300, 0)), x))
    assert math.isnan(canonical_correlation(np.zeros((300, 2)), x, mean_free=False))


@pytest.mark.parametrize("features", [19, 20, 40])
def test_features_that_span_all_samples_are_refused(features):
    x, y = related(samples=20, features=(18, features))
    with pytest.raises(
        InputError, match=f"needs at least two samples more than features, .* y has {features} features of 20 samples"
    ):
        canonical_correlation(x, y)
    # What is refused: mean-free features of 20 samples lie in 19 directions, and the other side is among them.
    bases = [np.linalg.svd(a - a.mean(0), full_matrices=False)[0][:, :19] for a in (x, y)]
    assert np.linalg.norm(bases[0][:, :18].T @ bases[1]) ** 2 / 18 == pytest.approx(1)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(InputError, match="Canonical correlation needs at least 3 samples; got 2"):
        canonical_correlation(np.ones((2, 1)), np.ones((2, 1)))
