import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from outcrop.errors import InputError, ParameterError
from outcrop.models.model import Layer
from outcrop.numerics import GramAccumulator, cka


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


def clustered(seed, samples=400):
    """Inputs in eight clusters, which any map of them shows."""
    rng = np.random.default_rng(seed)
    return 1.5 * rng.normal(size=(8, 40))[rng.integers(8, size=samples)] + rng.normal(size=(samples, 40))


def untrained(inputs, seed, depth, width=60):
    """Features of a network of random weights; with depth 0 a linear map."""
    rng = np.random.default_rng(seed)
    features = inputs @ rng.normal(size=(inputs.shape[1], width)) / np.sqrt(inputs.shape[1])
    for _ in range(depth):
        features = np.maximum(features, 0) @ rng.normal(size=(width, width)) * np.sqrt(2 / width)
    return features


def residual_by_regression(gram, confounder, diagonal):
    """Ordinary least squares on the listed entries, with an intercept."""
    counted = np.ones_like(gram, dtype=bool) if diagonal else ~np.eye(len(gram), dtype=bool)
    design = np.stack([np.ones(counted.sum()), confounder[counted]], axis=1)
    left = np.zeros_like(gram)
    left[counted] = gram[counted] - design @ np.linalg.lstsq(design, gram[counted], rcond=None)[0]
    return left


KERNELS_BY_HAND = {
    "linear": lambda a: (a - a.mean(0)) @ (a - a.mean(0)).T,
    "rbf": lambda a: rbf_by_hand(a, 0.5),
    "cosine": lambda a: (a @ a.T) / np.outer(*2 * [np.linalg.norm(a, axis=1)]),
}


@pytest.mark.parametrize("kernel", ["linear", "rbf", "cosine"])
def test_regressing_out_is_cka_of_the_residuals_of_least_squares(kernel):
    inputs = clustered(0, samples=60)
    x, y = (untrained(inputs, seed, depth=1) for seed in (1, 2))
    grams = [KERNELS_BY_HAND[kernel](a) for a in (x, y, inputs)]
    off = [residual_by_regression(gram, grams[2], diagonal=False) for gram in grams[:2]]
    every = [residual_by_regression(gram, grams[2], diagonal=True) for gram in grams[:2]]
    options = {"kernel": kernel, "regress_out": inputs}
    assert cka(x, y, **options) == pytest.approx(trace_cka(*off), abs=1e-10)
    assert cka(x, y, estimator="minibatch", batch_size=60, **options) == pytest.approx(trace_cka(*off), abs=1e-10)
    assert cka(x, y, estimator="biased", **options) == pytest.approx(biased_by_hand(*every), abs=1e-10)


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("kernel", ["linear", "rbf", "cosine"])
@pytest.mark.parametrize("estimator", ["unbiased", "biased", "minibatch"])
def test_random_networks_of_clustered_inputs_look_alike_until_the_inputs_are_regressed_out(estimator, kernel, depth):
    plain, without = [], []
    for seed in range(5):
        inputs = clustered(seed)
        x, y = (untrained(inputs, 100 * seed + side, depth) for side in (1, 2))
        plain.append(cka(x, y, estimator=estimator, kernel=kernel))
        without.append(cka(x, y, estimator=estimator, kernel=kernel, regress_out=inputs))
    assert np.mean(plain) > 0.4
    assert abs(np.mean(without)) < 0.1
    assert all(left < before - 0.3 for before, left in zip(plain, without, strict=True))


@pytest.mark.parametrize("kernel", ["linear", "rbf", "cosine"])
def test_what_networks_share_beside_their_inputs_stays_when_the_inputs_are_regressed_out(kernel):
    inputs = clustered(0)
    shared = np.random.default_rng(1).normal(size=(400, 60))
    x, y = (untrained(inputs, seed, depth=0) + 10 * shared for seed in (1, 2))
    assert cka(x, y, kernel=kernel, regress_out=inputs) == pytest.approx(cka(x, y, kernel=kernel), abs=5e-3)
    assert cka(x, y, kernel=kernel, regress_out=inputs) > 0.9


@pytest.mark.parametrize("kernel", ["linear", "rbf", "cosine"])
@pytest.mark.parametrize("estimator", ["unbiased", "minibatch"])
def test_inputs_unrelated_to_both_take_nothing_away(estimator, kernel):
    x, y = related(samples=400)
    options = {"estimator": estimator, "kernel": kernel}
    unrelated = np.random.default_rng(9).normal(size=(400, 30))
    assert cka(x, y, regress_out=unrelated, **options) == pytest.approx(cka(x, y, **options), abs=2e-3)
    assert cka(x, y, regress_out=np.ones((400, 3)), **options) == pytest.approx(cka(x, y, **options), abs=1e-12)


@pytest.mark.parametrize("kernel", ["linear", "rbf", "cosine"])
def test_unrelated_inputs_take_from_the_biased_estimate_a_part_of_its_bias(kernel):
    x, y = related(samples=400)
    options = {"estimator": "biased", "kernel": kernel}
    unrelated = np.random.default_rng(9).normal(size=(400, 30))
    plain, without = cka(x, y, **options), cka(x, y, regress_out=unrelated, **options)
    assert cka(x, y, kernel=kernel) < without < plain
    assert cka(x, y, regress_out=np.ones((400, 3)), **options) == pytest.approx(plain, abs=1e-12)


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
@pytest.mark.parametrize("estimator", ["unbiased", "biased", "minibatch"])
def test_the_inputs_themselves_leave_nothing_to_compare(estimator, kernel):
    inputs = clustered(0, samples=60)
    y = untrained(inputs, 1, depth=2)
    rotation = np.linalg.qr(np.random.default_rng(2).normal(size=(40, 40))).Q
    for copy in (inputs, 3 * inputs @ rotation + 1):
        assert math.isnan(cka(copy, y, estimator=estimator, kernel=kernel, regress_out=inputs))


def test_regressing_out_is_as_invariant_as_cka():
    inputs = clustered(0, samples=60)
    x, y = (untrained(inputs, seed, depth=1) for seed in (1, 2))
    true = cka(x, y, regress_out=inputs)
    rotation = np.linalg.qr(np.random.default_rng(2).normal(size=(60, 60))).Q
    assert cka(5 * x @ rotation + 7, y, regress_out=2 * inputs + 3) == pytest.approx(true, abs=1e-9)
    far = [(a + 100).astype(np.float32) for a in (x, y, inputs)]
    assert cka(far[0], far[1], regress_out=torch.from_numpy(far[2]).reshape(60, 4, 10)) == pytest.approx(true, abs=1e-4)


def without_component_by_hand(x):
    u, s, v = np.linalg.svd(x - x.mean(0), full_matrices=False)
    return x - x.mean(0) - s[0] * np.outer(u[:, 0], v[0])


@pytest.mark.parametrize("features", [(30, 50), (300, 20), (2, 3)])
@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
def test_without_the_first_component_of_all_samples_agrees_with_a_singular_value_decomposition(estimator, features):
    x, y = related(features=features)
    x[:20] += 30
    expected = cka(without_component_by_hand(x), without_component_by_hand(y), estimator=estimator)
    assert cka(x, y, estimator=estimator, without_first_component=True) == pytest.approx(expected, abs=1e-9)


def test_without_the_first_component_of_each_batch_agrees_with_singular_value_decompositions():
    x, y = related(samples=150)
    x[:8], y[:8] = x[:8] + 30, y[:8] - 20
    hsic = np.zeros(3)
    rng = np.random.default_rng(3)
    for _ in range(2):
        order = rng.permutation(150)
        for batch in (order[:64], order[64:128], order[128:]):
            k, l_ = (a @ a.T for a in (without_component_by_hand(x[batch]), without_component_by_hand(y[batch])))
            weight = len(batch) * (len(batch) - 3)
            hsic += [weight * trace_hsic(a, b) for a, b in ((k, l_), (k, k), (l_, l_))]
    found = cka(x, y, estimator="minibatch", batch_size=64, passes=2, seed=3, without_first_component=True)
    assert found == pytest.approx(hsic[0] / math.sqrt(hsic[1] * hsic[2]), abs=1e-10)


@pytest.mark.parametrize("kernel", ["rbf", "cosine"])
def test_without_the_first_component_of_other_kernels_removes_the_first_eigenvector(kernel):
    x, y = related(samples=60)
    grams = []
    for features in (x, y):
        gram = KERNELS_BY_HAND[kernel](features)
        centre = np.eye(60) - 1 / 60
        values, vectors = np.linalg.eigh(centre @ gram @ centre)
        grams.append((vectors[:, :-1] * values[:-1]) @ vectors[:, :-1].T)
    assert cka(x, y, kernel=kernel, without_first_component=True) == pytest.approx(trace_cka(*grams), abs=1e-10)
    assert cka(x, y, kernel=kernel, estimator="biased", without_first_component=True) == pytest.approx(
        biased_by_hand(*grams), abs=1e-10
    )


@pytest.mark.parametrize("estimator", ["unbiased", "biased", "minibatch"])
def test_similarity_that_rests_on_few_samples_goes_with_the_first_component(estimator):
    x, y = np.random.default_rng(0).normal(size=(2, 400, 30))
    x[:20], y[:20] = x[:20] + 20, y[:20] + 20
    assert cka(x, y, estimator=estimator) > 0.9
    assert abs(cka(x, y, estimator=estimator, without_first_component=True)) < 0.1


@pytest.mark.parametrize("estimator", ["unbiased", "biased", "minibatch"])
def test_features_of_a_single_component_have_nothing_left_without_it(estimator):
    x, y = related()
    line = np.outer(x[:, 0], np.arange(1, 6))
    assert math.isnan(cka(line, y, estimator=estimator, without_first_component=True))
    assert math.isnan(cka(np.ones((200, 3)), y, estimator=estimator, without_first_component=True))


@pytest.mark.parametrize("kernel", ["linear", "rbf", "cosine"])
def test_with_both_the_component_is_removed_before_the_regression(kernel):
    inputs = clustered(0, samples=60)
    grams, centre = [], np.eye(60) - 1 / 60
    x, y = (untrained(inputs, seed, depth=1) for seed in (1, 2))
    for features in (x, y):
        gram = KERNELS_BY_HAND[kernel](features)
        values, vectors = np.linalg.eigh(centre @ gram @ centre)
        grams.append(gram - values[-1] * np.outer(vectors[:, -1], vectors[:, -1]))
    confounder = KERNELS_BY_HAND[kernel](inputs)
    off, every = ([residual_by_regression(gram, confounder, diagonal=flag) for gram in grams] for flag in (False, True))
    options = {"kernel": kernel, "regress_out": inputs, "without_first_component": True}
    assert cka(x, y, **options) == pytest.approx(trace_cka(*off), abs=1e-9)
    assert cka(x, y, estimator="biased", **options) == pytest.approx(biased_by_hand(*every), abs=1e-9)


@pytest.mark.parametrize("kernel", ["linear", "rbf", "cosine"])
@pytest.mark.parametrize("remove_input", [False, True])
def test_the_accumulator_of_all_layers_gives_the_same(kernel, remove_input):
    inputs = clustered(0, samples=60)
    x, y = (untrained(inputs, seed, depth=1) for seed in (1, 2))
    accumulator = GramAccumulator(group_size=60, kernel=kernel, remove_input=remove_input)
    for position, values in enumerate((inputs, x, y)):
        kind = "block" if position else "input"
        layer = Layer(f"layer{position}", kind, position, (1,), "float64", "array", ("feature",))
        accumulator.update("model", layer, np.arange(60), torch.from_numpy(values))
    accumulator.end_batch()
    found = accumulator.finish()
    options = {"kernel": kernel, "regress_out": inputs if remove_input else None}
    assert found.similarity[1, 2] == pytest.approx(cka(x, y, **options), abs=1e-9)
    without = cka(x, y, without_first_component=True, **options)
    assert found.similarity_without_pc1[1, 2] == pytest.approx(without, abs=1e-8)


def test_inputs_to_regress_out_of_other_samples_are_refused():
    x, y = related()
    with pytest.raises(InputError, match="regress_out holds 30 samples and x 200: give the inputs of the same"):
        cka(x, y, regress_out=x[:30])
    with pytest.raises(InputError, match="1 of the 6000 values of regress_out are NaN or infinite"):
        cka(x, y, regress_out=np.where(np.arange(6000).reshape(200, 30) == 7, np.nan, x))


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
