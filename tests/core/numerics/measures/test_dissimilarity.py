import math

import numpy as np
import pytest
import scipy.spatial.distance
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from outcrop.errors import InputError, ParameterError
from outcrop.numerics import representational_similarity
from outcrop.numerics.kernels import gram_matrix as kernels


def related(seed=0, samples=60, features=(12, 20)):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(samples, features[0]))
    return x, x @ rng.normal(size=features) / 4 + rng.normal(size=(samples, features[1]))


KINDS = [(d, c) for d in ("correlation", "euclidean") for c in ("spearman", "pearson")]


@pytest.mark.parametrize(("dissimilarity", "comparison"), KINDS)
def test_it_is_the_correlation_of_the_pairwise_distances_of_scipy(dissimilarity, comparison):
    for seed in range(3):
        x, y = related(seed)
        pairs = [scipy.spatial.distance.pdist(a, dissimilarity) for a in (x, y)]
        expected = getattr(scipy.stats, comparison + "r")(*pairs)[0]
        found = representational_similarity(x, y, dissimilarity=dissimilarity, comparison=comparison)
        assert found == pytest.approx(expected, abs=1e-12)


def test_many_features_are_summed_in_parts(monkeypatch):
    x, y = related(features=(100, 90))
    whole = representational_similarity(x, y, comparison="pearson")
    monkeypatch.setattr("outcrop.numerics.measures.dissimilarity.CHUNK", 60 * 7)
    monkeypatch.setattr(kernels, "CHUNK", 60 * 7)
    assert representational_similarity(x, y, comparison="pearson") == pytest.approx(whole, abs=1e-13)


@given(seed=st.integers(0, 10_000), scale=st.floats(1e-3, 1e3), shift=st.floats(-100, 100))
@settings(max_examples=20, deadline=None)
def test_invariances_and_symmetry(seed, scale, shift):
    x, y = related(seed, samples=25, features=(8, 6))
    rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(8, 8))).Q
    for dissimilarity, comparison in KINDS:
        options = {"dissimilarity": dissimilarity, "comparison": comparison}
        value = representational_similarity(x, y, **options)
        # A rotation moves the mean over features, which the correlation subtracts: it is no invariance of that one.
        moved = scale * (x @ rotation if dissimilarity == "euclidean" else x[:, ::-1]) + shift
        assert representational_similarity(moved, y, **options) == pytest.approx(value, abs=1e-9)
        assert representational_similarity(y, x, **options) == pytest.approx(value, abs=1e-12)
        assert representational_similarity(x, x, **options) == pytest.approx(1, abs=1e-12)


def test_a_pattern_that_all_samples_share_matters_to_the_correlation_only():
    x, y = related()
    shared = 3 * np.random.default_rng(1).normal(size=12)
    near, far = (representational_similarity(a, y, comparison="pearson") for a in (x, x + shared))
    assert abs(near - far) > 0.01
    near, far = (representational_similarity(a, y, dissimilarity="euclidean") for a in (x, x + shared))
    assert near == pytest.approx(far, abs=1e-12)


@pytest.mark.parametrize(("dissimilarity", "comparison"), KINDS)
def test_unrelated_features_give_zero_on_average_however_many(dissimilarity, comparison):
    for features in (16, 256):
        values = [
            representational_similarity(
                *np.random.default_rng(seed).normal(size=(2, 30, features)),
                dissimilarity=dissimilarity,
                comparison=comparison,
            )
            for seed in range(60)
        ]
        assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(60)


@pytest.mark.parametrize(("dissimilarity", "comparison"), KINDS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_tensors_of_any_precision_and_shape_are_taken(dtype, dissimilarity, comparison):
    x, y = related()
    options = {"dissimilarity": dissimilarity, "comparison": comparison}
    tensor = torch.from_numpy(x).to(dtype).reshape(60, 2, 3, 2).requires_grad_()
    tolerance = {torch.float64: 1e-12, torch.bfloat16: 5e-3}.get(dtype, 1e-3)
    assert representational_similarity(tensor, y, **options) == pytest.approx(
        representational_similarity(x, y, **options), abs=tolerance
    )


@pytest.mark.parametrize(("dissimilarity", "comparison"), KINDS)
def test_features_far_from_zero_in_single_precision_give_the_true_value(dissimilarity, comparison):
    x, y = related()
    options = {"dissimilarity": dissimilarity, "comparison": comparison}
    far = [(a + 100).astype(np.float32) for a in (x, y)]
    true = representational_similarity(x, y, **options)
    assert representational_similarity(*far, **options) == pytest.approx(true, abs=1e-3)


@pytest.mark.parametrize(("dissimilarity", "comparison"), KINDS)
def test_samples_equally_dissimilar_give_nan(dissimilarity, comparison):
    x, _ = related(samples=20)
    options = {"dissimilarity": dissimilarity, "comparison": comparison}
    assert math.isnan(representational_similarity(x, np.eye(20), **options))
    assert math.isnan(representational_similarity(np.full((20, 7), 0.1), x, **options))
    assert math.isnan(representational_similarity(x, np.zeros((20, 0)), **options))


def test_a_sample_of_equal_values_correlates_with_none_and_gives_nan():
    x, y = related()
    x[7] = 0.1
    assert math.isnan(representational_similarity(x, y))
    assert not math.isnan(representational_similarity(x, y, dissimilarity="euclidean"))
    assert math.isnan(representational_similarity(x[:, :1], y))


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(InputError, match="Representational similarity needs at least 3 samples; got 2"):
        representational_similarity(np.ones((2, 2)), np.ones((2, 2)))
    with pytest.raises(ParameterError, match=r"Unknown dissimilarity 'euclid': choose .* Did you mean 'euclidean'"):
        representational_similarity(np.ones((5, 2)), np.ones((5, 2)), dissimilarity="euclid")
    with pytest.raises(ParameterError, match=r"Unknown comparison 'spearmen': choose .* Did you mean 'spearman'"):
        representational_similarity(np.ones((5, 2)), np.ones((5, 2)), comparison="spearmen")
