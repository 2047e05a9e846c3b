import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from outcrop.errors import InputError, ParameterError
from outcrop.numerics import cka


def reference_data():
    rng = np.random.RandomState(1337)
    x = rng.randn(100, 10)
    return x, rng.randn(100, 10) + x


def related(seed=0, samples=200, features=(30, 50), noise=1.0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(samples, features[0]))
    return x, x @ rng.normal(size=features) / np.sqrt(features[0]) + noise * rng.normal(size=(samples, features[1]))


def trace_hsic(k, l_):
    """HSIC1 in its published trace form (Song et al. 2012, equation 4)."""
    n, ones = len(k), np.ones(len(k))
    k, l_ = k - np.diag(np.diag(k)), l_ - np.diag(np.diag(l_))
    total = np.trace(k @ l_)
    total += (ones @ k @ ones) * (ones @ l_ @ ones) / ((n - 1) * (n - 2))
    total -= 2 / (n - 2) * (ones @ k @ l_ @ ones)
    return total / (n * (n - 3))


def trace_cka(k, l_):
    return trace_hsic(k, l_) / math.sqrt(trace_hsic(k, k) * trace_hsic(l_, l_))


def feature_cka(x, y):
    """Biased linear CKA from features alone (Kornblith et al. 2019, section 3)."""
    x, y = x - x.mean(0), y - y.mean(0)
    return np.linalg.norm(x.T @ y) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))


def feature_debiased_cka(x, y):
    """Debiased linear CKA from features alone: the sums of HSIC1 without any matrix of samples."""
    x, y = x - x.mean(0), y - y.mean(0)
    n = len(x)

    def dot(a, b):
        rows_a, rows_b = (a**2).sum(1), (b**2).sum(1)
        product = np.linalg.norm(a.T @ b) ** 2
        return product - n / (n - 2) * rows_a @ rows_b + rows_a.sum() * rows_b.sum() / ((n - 1) * (n - 2))

    return dot(x, y) / math.sqrt(dot(x, x) * dot(y, y))


def rbf_by_hand(x, fraction):
    squares = ((x[:, None, :] - x[None, :, :]) ** 2).sum(-1)
    return np.exp(-squares / (2 * fraction**2 * np.median(squares)))


def biased_by_hand(k, l_):
    centre = np.eye(len(k)) - 1 / len(k)
    k, l_ = centre @ k @ centre, centre @ l_ @ centre
    return np.sum(k * l_) / (np.linalg.norm(k) * np.linalg.norm(l_))


def test_biased_linear_reference_value():
    x, y = reference_data()
    assert cka(x, y, estimator="biased") == pytest.approx(0.557613257, abs=1e-8)
    assert feature_cka(x, y) == pytest.approx(0.557613257, abs=1e-8)


def test_rbf_reference_value():
    x, y = reference_data()
    assert cka(x, y, estimator="biased", kernel="rbf", bandwidth=0.5) == pytest.approx(0.654831180, abs=1e-8)
    assert biased_by_hand(rbf_by_hand(x, 0.5), rbf_by_hand(y, 0.5)) == pytest.approx(0.654831180, abs=1e-8)


def test_debiased_linear_reference_value():
    x, y = reference_data()
    assert cka(x, y) == pytest.approx(0.513456490, abs=1e-8)
    assert trace_cka(x @ x.T, y @ y.T) == pytest.approx(0.513456490, abs=1e-8)
    assert feature_debiased_cka(x, y) == pytest.approx(0.513456490, abs=1e-8)


@pytest.mark.parametrize("seed", range(3))
def test_unbiased_agrees_with_the_trace_form_and_the_feature_form(seed):
    x, y = related(seed)
    assert cka(x, y) == pytest.approx(trace_cka(x @ x.T, y @ y.T), rel=1e-12)
    assert cka(x, y) == pytest.approx(feature_debiased_cka(x, y), rel=1e-12)


def test_other_kernels_agree_with_the_trace_form():
    x, y = related()
    assert cka(x, y, kernel="rbf", bandwidth=0.8) == pytest.approx(
        trace_cka(rbf_by_hand(x, 0.8), rbf_by_hand(y, 0.8)), rel=1e-10
    )
    unit_x = x / np.linalg.norm(x, axis=1, keepdims=True)
    unit_y = y / np.linalg.norm(y, axis=1, keepdims=True)
    assert cka(x, y, kernel="cosine") == pytest.approx(trace_cka(unit_x @ unit_x.T, unit_y @ unit_y.T), rel=1e-12)


def test_biased_cka_is_the_weighted_sum_of_squared_cosines_of_principal_components():
    x, y = related()
    (u, s, _), (v, t, _) = (np.linalg.svd(a - a.mean(0), full_matrices=False) for a in (x, y))
    weights = np.outer(s**2, t**2) / (np.linalg.norm(s**2) * np.linalg.norm(t**2))
    assert cka(x, y, estimator="biased") == pytest.approx(np.sum(weights * (u.T @ v) ** 2), rel=1e-12)


@pytest.mark.parametrize(("features", "expected"), [(64, 0.20), (256, 0.50), (1024, 0.80), (4096, 0.94)])
def test_biased_cka_of_independent_features_is_high_and_the_unbiased_one_is_zero(features, expected):
    rng = np.random.default_rng(features)
    x, y = rng.normal(size=(2, 256, features)).astype(np.float32)
    assert cka(x, y, estimator="biased") == pytest.approx(expected, abs=0.01)
    assert abs(cka(x, y)) < 0.02


def test_unbiased_cka_of_independent_features_is_zero_on_average():
    rng = np.random.default_rng(0)
    values = [cka(*rng.normal(size=(2, 256, 512))) for _ in range(20)]
    assert abs(np.mean(values)) < 0.01


def test_small_batches_raise_the_biased_estimate_and_leave_the_minibatch_one():
    x, y = related(samples=2048, features=(30, 50), noise=0.6)
    full = cka(x, y)
    for batch in (256, 64, 16):
        assert cka(x, y, estimator="minibatch", batch_size=batch, passes=3) == pytest.approx(full, abs=0.01)
    biased = [
        np.mean([cka(x[s : s + n], y[s : s + n], estimator="biased") for s in range(0, 2048, n)]) for n in (256, 64, 16)
    ]
    assert full + 0.01 < biased[0] < biased[1] < biased[2]


def test_ten_passes_of_minibatches_equal_the_full_estimate_within_two_thousandths():
    x, y = related(samples=2000)
    assert cka(x, y, estimator="minibatch", passes=10) == pytest.approx(cka(x, y), abs=2e-3)


def test_one_minibatch_of_all_samples_is_the_unbiased_estimate():
    x, y = related()
    assert cka(x, y, estimator="minibatch", batch_size=200) == pytest.approx(cka(x, y), rel=1e-12)


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
@pytest.mark.parametrize("estimator", ["unbiased", "biased", "minibatch"])
def test_features_far_from_zero_in_single_precision_give_the_true_value(kernel, estimator):
    x, y = related(samples=256, features=(512, 512))
    true = cka(x, y, kernel=kernel, estimator=estimator)
    for offset in (1, 10, 30, 100):
        far = [(a / a.std() + offset).astype(np.float32) for a in (x, y)]
        assert cka(*far, kernel=kernel, estimator=estimator) == pytest.approx(true, abs=1e-4)


@given(seed=st.integers(0, 10_000), scale=st.floats(1e-3, 1e3), shift=st.floats(-100, 100))
@settings(max_examples=20, deadline=None)
def test_rotation_isotropic_scaling_and_shift_change_nothing(seed, scale, shift):
    x, y = related(seed, samples=40, features=(8, 6))
    rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(8, 8))).Q
    for estimator in ("unbiased", "biased", "minibatch"):
        options = {"estimator": estimator, "batch_size": 16, "seed": seed}
        assert cka(scale * (x @ rotation) + shift, y, **options) == pytest.approx(cka(x, y, **options), abs=1e-9)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_cka_is_symmetric_and_one_with_itself(seed):
    x, y = related(seed, samples=30, features=(8, 6))
    for kernel in ("linear", "rbf", "cosine"):
        assert cka(x, y, kernel=kernel) == pytest.approx(cka(y, x, kernel=kernel), rel=1e-12)
        assert cka(x, x, kernel=kernel) == pytest.approx(1, rel=1e-12)
        assert cka(x, y, kernel=kernel) <= 1 + 1e-12


def test_other_than_isotropic_scaling_changes_the_value():
    x, y = related(samples=60, features=(8, 6))
    assert abs(cka(x * np.arange(1, 9), y) - cka(x, y)) > 1e-2


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_tensors_of_any_precision_and_shape_are_taken(dtype):
    x, y = related()
    tensor = torch.from_numpy(x).to(dtype).reshape(200, 5, 2, 3).requires_grad_()
    assert cka(tensor, y) == pytest.approx(cka(x, y), abs={torch.bfloat16: 2e-3}.get(dtype, 1e-4))


def test_half_precision_features_of_large_norm_do_not_overflow():
    x, y = related(features=(64, 50))
    large = (x * 500).astype(np.float16)
    assert (np.linalg.norm(large.astype(np.float64), axis=1) > 256).all()
    assert cka(large, y) == pytest.approx(cka(x, y), abs=1e-3)


def test_a_value_may_be_negative_and_is_not_clamped():
    values = [cka(*np.random.default_rng(seed).normal(size=(2, 32, 8))) for seed in range(10)]
    assert min(values) < 0


@pytest.mark.parametrize("estimator", ["unbiased", "biased", "minibatch"])
@pytest.mark.parametrize("kernel", ["linear", "rbf", "cosine"])
def test_constant_features_give_nan(estimator, kernel):
    x, _ = related()
    assert math.isnan(cka(np.full((200, 7), 0.1, dtype=np.float32), x, estimator=estimator, kernel=kernel))


def test_samples_equally_far_from_one_another_give_nan_without_a_bias():
    assert math.isnan(cka(np.eye(20), np.random.default_rng(0).normal(size=(20, 3))))


def test_a_median_distance_of_zero_compares_samples_by_coincidence():
    codes = np.repeat([0, 1], [16, 4])[:, None].astype(float)
    assert cka(codes, codes, kernel="rbf") == pytest.approx(1)


def test_fewer_than_four_samples_are_refused():
    with pytest.raises(InputError, match="needs at least 4 samples; got 3"):
        cka(np.ones((3, 2)), np.ones((3, 2)))


def test_different_numbers_of_samples_are_refused():
    with pytest.raises(InputError, match="x has 5 samples and y has 6"):
        cka(np.ones((5, 2)), np.ones((6, 2)))


def test_values_that_are_not_finite_are_counted_and_refused():
    x, y = related()
    y[3, 4], y[5, 6] = np.nan, np.inf
    with pytest.raises(InputError, match="2 of the 10000 values of y are NaN or infinite"):
        cka(x, y)


def test_values_that_are_no_real_numbers_are_refused():
    with pytest.raises(InputError, match=r"x holds values of type <U1"):
        cka(np.array([["a"]] * 5), np.ones((5, 2)))
    with pytest.raises(InputError, match="x is a single number"):
        cka(1.0, np.ones((5, 2)))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"estimator": "unbaised"}, r"Unknown estimator 'unbaised'.* Did you mean 'unbiased'"),
        ({"kernel": "cosin"}, r"Unknown kernel 'cosin'.* Did you mean 'cosine'"),
        ({"bandwidth": 0}, "bandwidth .* must be above 0; got 0"),
        ({"batch_size": 3}, "batch_size must be at least 4; got 3"),
        ({"passes": 0}, "passes must be at least 1; got 0"),
    ],
)
def test_wrong_options_are_refused_with_a_hint(options, words):
    x, y = related()
    with pytest.raises(ParameterError, match=words):
        cka(x, y, **options)
