import math

import numpy as np
import pytest
import scipy.linalg
import scipy.spatial
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from outcrop.errors import InputError, ParameterError
from outcrop.numerics import procrustes_distance
from outcrop.numerics.kernels import gram_matrix as kernels


def related(seed=0, samples=60, features=(12, 20)):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(samples, features[0]))
    return x, x @ rng.normal(size=features) / 4 + rng.normal(size=(samples, features[1]))


def normalised(x):
    x = x - x.mean(0)
    return x / np.linalg.norm(x)


def rotation(size, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size))).Q


def padded(x, features):
    return np.hstack([x, np.zeros((len(x), features - x.shape[1]))])


@pytest.mark.parametrize("features", [(12, 20), (20, 20), (20, 130), (130, 90), (60, 61)])
def test_it_is_what_is_left_after_the_best_rotation(features):
    x, y = related(features=features)
    width = max(features)
    a, b = padded(normalised(x), width), padded(normalised(y), width)
    best, _ = scipy.linalg.orthogonal_procrustes(a, b)
    left = np.linalg.norm(a @ best - b) ** 2
    assert procrustes_distance(x, y) == pytest.approx(left, abs=1e-12)
    for seed in range(5):
        assert np.linalg.norm(a @ rotation(width, seed) - b) ** 2 > left


def test_the_disparity_of_scipy_is_one_minus_the_squared_overlap():
    x, y = related(features=(20, 20))
    disparity = scipy.spatial.procrustes(x, y)[2]  # scaled to fit as well
    assert 1 - (1 - procrustes_distance(x, y) / 2) ** 2 == pytest.approx(disparity, abs=1e-12)


@pytest.mark.parametrize("features", [(12, 20), (130, 90)])
def test_the_nuclear_norm_of_the_feature_product_gives_the_same(features):
    x, y = related(features=features)
    overlap = np.linalg.norm(normalised(x).T @ normalised(y), "nuc")
    assert procrustes_distance(x, y) == pytest.approx(2 - 2 * overlap, abs=1e-12)
    assert procrustes_distance(x, y, form="distance") == pytest.approx(math.sqrt(2 - 2 * overlap), abs=1e-12)
    assert procrustes_distance(x, y, form="angle") == pytest.approx(math.acos(overlap), abs=1e-12)


def test_many_features_are_rotated_in_parts(monkeypatch):
    x, y = related(features=(500, 300))
    whole = procrustes_distance(x, y)
    monkeypatch.setattr(kernels, "CHUNK", 1)
    monkeypatch.setattr("outcrop.numerics.measures.procrustes.CHUNK", 60 * 70)
    assert procrustes_distance(x, y) == pytest.approx(whole, abs=1e-13)


@given(seed=st.integers(0, 10_000), scale=st.floats(1e-3, 1e3), shift=st.floats(-100, 100))
@settings(max_examples=20, deadline=None)
def test_rotation_isotropic_scaling_and_shift_change_nothing(seed, scale, shift):
    x, y = related(seed, samples=30, features=(8, 40))
    moved = scale * (x @ rotation(8, seed)) + shift
    assert procrustes_distance(moved, y) == pytest.approx(procrustes_distance(x, y), abs=1e-10)
    assert procrustes_distance(moved, x) == pytest.approx(0, abs=1e-10)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_distance_and_angle_are_metrics(seed):
    rng = np.random.default_rng(seed)
    x, y, z = (rng.normal(size=(20, features)) for features in (4, 9, 25))
    for form in ("distance", "angle"):
        direct = procrustes_distance(x, z, form=form)
        assert direct == pytest.approx(procrustes_distance(z, x, form=form), abs=1e-12)
        assert direct <= procrustes_distance(x, y, form=form) + procrustes_distance(y, z, form=form) + 1e-12


def test_perpendicular_representations_are_at_the_largest_distance():
    wave = np.arange(20) * 2 * np.pi / 20
    x, y = np.cos(wave)[:, None], np.sin(wave)[:, None]
    assert procrustes_distance(x, y) == pytest.approx(2)
    assert procrustes_distance(x, y, form="angle") == pytest.approx(np.pi / 2)


def test_a_representation_is_at_no_distance_from_itself_whatever_rounding_adds():
    for seed in range(20):
        x, _ = related(seed, features=(90, 2))
        assert 0 <= procrustes_distance(x, x) < 1e-13
        assert procrustes_distance(x, x, form="angle") < 1e-6


@pytest.mark.parametrize(("features", "expected"), [(64, 1.17), (1024, 0.13), (4096, 0.03)])
def test_independent_features_come_close_where_they_outnumber_samples(features, expected):
    x, y = np.random.default_rng(features).normal(size=(2, 256, features))
    assert procrustes_distance(x, y) == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("features", [20, 130])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_tensors_of_any_precision_and_shape_are_taken(dtype, features):
    x, y = related(features=(features, 20))
    tensor = torch.from_numpy(x).to(dtype).reshape(60, -1, 5, 2).requires_grad_()
    tolerance = {torch.float64: 1e-12, torch.bfloat16: 2e-3}.get(dtype, 3e-4)
    assert procrustes_distance(tensor, y) == pytest.approx(procrustes_distance(x, y), abs=tolerance)


@pytest.mark.parametrize("features", [20, 130])
def test_features_far_from_zero_in_single_precision_give_the_true_value(features):
    x, y = related(features=(features, 20))
    far = [(a + 100).astype(np.float32) for a in (x, y)]
    assert procrustes_distance(*far) == pytest.approx(procrustes_distance(x, y), abs=1e-5)


@pytest.mark.parametrize("samples", [60, 20_000])
def test_constant_features_give_nan(samples):
    x = np.random.default_rng(0).normal(size=(samples, 3))
    assert math.isnan(procrustes_distance(x, np.full((samples, 2), 0.1)))
    assert math.isnan(procrustes_distance(np.full((samples, 2), 0.1), x, form="angle"))
    assert math.isnan(procrustes_distance(np.zeros((samples, 0)), x))


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(InputError, match="The Procrustes distance needs at least 3 samples; got 2"):
        procrustes_distance(np.ones((2, 2)), np.ones((2, 2)))
    with pytest.raises(InputError, match="The Procrustes distance .* x has 5 samples and y has 6"):
        procrustes_distance(np.ones((5, 2)), np.ones((6, 2)))
    with pytest.raises(ParameterError, match=r"Unknown form 'angel': choose squared, .* Did you mean 'angle'"):
        procrustes_distance(np.ones((5, 2)), np.ones((5, 2)), form="angel")
