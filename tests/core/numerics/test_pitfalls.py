"""Known ways in which published CKA goes wrong, each with the number it then gives and the one it should give."""

import math

import numpy as np
import pytest
import torch

from outcrop.numerics import canonical_correlation, cka, mutual_neighbours, procrustes_distance


def independent(samples, features, seed):
    return np.random.default_rng(seed).normal(size=(2, samples, features))


class TestFeaturesThatOutnumberSamples:
    """Murphy et al. 2024 (arXiv 2405.01012): biased CKA of random data goes to its maximum."""

    @pytest.mark.parametrize(
        ("samples", "features", "expected"),
        [
            (256, 64, 0.20),
            (256, 256, 0.50),
            (256, 1024, 0.80),
            (256, 4096, 0.94),
            (256, 16_384, 0.985),
            (16, 4096, 0.997),
        ],
    )
    def test_independent_features_look_alike_to_the_biased_estimate(self, samples, features, expected):
        x, y = independent(samples, features, seed=0)
        assert cka(x, y, estimator="biased") == pytest.approx(expected, abs=0.01)

    @pytest.mark.parametrize(
        ("samples", "features", "spread", "seeds"),
        [(256, 64, 0.01, 10), (256, 256, 0.01, 10), (256, 1024, 0.01, 6), (64, 256, 0.04, 20), (64, 1024, 0.04, 20)],
    )
    def test_and_not_to_the_unbiased_one(self, samples, features, spread, seeds):
        values = [cka(*independent(samples, features, seed)) for seed in range(seeds)]
        assert np.sqrt(np.mean(np.square(values))) < spread
        assert abs(np.mean(values)) < 0.01

    def test_nor_at_four_thousand_features(self):
        assert [cka(*independent(256, 4096, seed)) for seed in range(2)] == pytest.approx([0, 0], abs=0.015)

    def test_sixteen_samples_leave_a_spread_of_a_tenth_about_zero(self):
        values = [cka(*independent(16, 4096, seed)) for seed in range(40)]
        assert 0.05 < np.std(values) < 0.15
        assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(40)

    def test_many_batches_of_sixteen_make_up_for_it(self):
        x, y = independent(1024, 512, seed=0)
        assert abs(cka(x, y, estimator="minibatch", batch_size=16, passes=5)) < 0.01

    def test_shuffled_samples_look_alike_to_the_biased_estimate_only(self):
        rng = np.random.default_rng(0)
        x = rng.normal(size=(64, 2048)) * np.arange(1, 2049) ** -0.1
        y = x[rng.permutation(64)]
        assert cka(x, y, estimator="biased") > 0.9
        assert abs(cka(x, y)) < 0.1


@pytest.fixture(scope="module")
def data():
    """Features of CKA 0.785."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 30))
    y = x @ rng.normal(size=(30, 50)) / np.sqrt(30) + 0.25 * rng.normal(size=(2000, 50))
    assert cka(x, y) == pytest.approx(0.785, abs=1e-3)
    return x, y


class TestBatchesWithABias:
    """Biased CKA of batches grows as they shrink; so does the mean of ratios, a little."""

    @pytest.mark.parametrize(("size", "biased"), [(256, 0.804), (64, 0.837), (16, 0.908)])
    def test_biased_batches_are_too_similar_and_unbiased_ones_are_not(self, data, size, biased):
        x, y = data
        batches = [slice(start, start + size) for start in range(0, 2000 - 15, size)]
        found = np.mean([cka(x[batch], y[batch], estimator="biased") for batch in batches])
        assert found == pytest.approx(biased, abs=0.01)
        assert cka(x, y, estimator="minibatch", batch_size=size, passes=4) == pytest.approx(cka(x, y), abs=3e-3)

    def test_the_mean_of_ratios_is_too_high_and_the_ratio_of_means_is_not(self, data):
        x, y = data
        ratios = []
        rng = np.random.default_rng(0)  # the shuffling of cka(..., seed=0): the very same batches
        for _ in range(5):
            order = rng.permutation(2000)
            ratios += [cka(x[order[s : s + 16]], y[order[s : s + 16]]) for s in range(0, 2000, 16)]
        ratio_of_means = cka(x, y, estimator="minibatch", batch_size=16, passes=5)
        assert ratio_of_means == pytest.approx(cka(x, y), abs=3e-3)
        assert 0.001 < np.mean(ratios) - ratio_of_means < 0.01


def single_precision_hsic(k, l_):
    """HSIC1 in its trace form, in float32, of uncentred kernel matrices: what several packages compute."""
    n, ones = np.float32(len(k)), np.ones(len(k), dtype=np.float32)
    k, l_ = k - np.diag(np.diag(k)), l_ - np.diag(np.diag(l_))
    total = np.trace(k @ l_) + (ones @ k @ ones) * (ones @ l_ @ ones) / ((n - 1) * (n - 2))
    return (total - 2 / (n - 2) * (ones @ k @ l_ @ ones)) / (n * (n - 3))


class TestSinglePrecisionOfOffsetFeatures:
    """Features of mean 100: the variance is lost in the sums, HSIC of a layer with itself is not positive."""

    @staticmethod
    def data(seed):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(256, 64))
        y = x @ rng.normal(size=(64, 64)) / 8 + 0.5 * rng.normal(size=(256, 64))
        return [x, y], [(a / a.std() + 100).astype(np.float32) for a in (x, y)]

    def test_uncentred_sums_in_single_precision_have_no_root(self):
        own = []
        for seed in range(6):
            _, far = self.data(seed)
            own += [single_precision_hsic(*2 * [a @ a.T]) for a in far]
        assert min(own) < 0
        near = [a - 100 for a in self.data(0)[1]]
        assert single_precision_hsic(*2 * [near[0] @ near[0].T]) > 0

    @pytest.mark.parametrize("kernel", ["linear", "rbf"])
    @pytest.mark.parametrize("estimator", ["unbiased", "biased", "minibatch"])
    def test_cka_is_finite_and_the_same_as_in_double_precision(self, estimator, kernel):
        for seed in range(3):
            true, far = self.data(seed)
            options = {"estimator": estimator, "kernel": kernel}
            assert cka(*far, **options) == pytest.approx(cka(*true, **options), abs=1e-4)
            assert cka(*map(torch.from_numpy, far), **options) == cka(*far, **options)


class TestFewSamplesThatCarryAll:
    """Davari et al. 2022 (arXiv 2210.16156): CKA can be a statement about a few samples."""

    @staticmethod
    def data(shift, seed, outliers=50):
        """Independent features, but for five in a hundred samples that both move far away."""
        rng = np.random.default_rng(seed)
        x, y = rng.normal(size=(2, 1000, 50))
        directions = rng.normal(size=(2, 50))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        x[:outliers] += shift * directions[0]
        y[:outliers] += shift * directions[1]
        return x, y

    @pytest.mark.parametrize(("shift", "expected"), [(5, 0.026), (20, 0.80), (100, 0.996)])
    def test_five_in_a_hundred_set_the_value(self, shift, expected):
        found = np.mean([cka(*self.data(shift, seed)) for seed in range(4)])
        assert found == pytest.approx(expected, abs=0.01)

    @pytest.mark.parametrize("shift", [5, 20, 100])
    def test_without_them_or_without_the_first_component_nothing_is_similar(self, shift):
        x, y = self.data(shift, seed=0)
        assert abs(cka(x[50:], y[50:])) < 0.01
        if shift > 5:  # below, the first component is not theirs
            assert abs(cka(x, y, without_first_component=True)) < 0.01

    def test_a_single_sample_is_enough(self):
        x, y = self.data(1000, seed=0, outliers=1)
        assert cka(x, y) < cka(x, y, estimator="biased")
        assert cka(x, y, estimator="biased") > 0.99

    def test_neighbourhoods_are_not_impressed(self):
        x, y = self.data(100, seed=0)
        plain, corrected = (mutual_neighbours(x, y, metric="euclidean", corrected=flag) for flag in (False, True))
        # Outliers are neighbours of outliers in both: 10 of 49 in common for one sample in twenty.
        assert plain == pytest.approx(0.95 * 10 / 949 + 0.05 * 10 / 49, abs=2e-3)
        assert corrected < 0.015

    def test_procrustes_is_impressed_as_cka_is(self):
        assert procrustes_distance(*self.data(100, seed=0)) < 0.2 < 0.9 < procrustes_distance(*self.data(0, seed=0))


def test_half_precision_kernel_matrices_would_overflow_where_samples_are_long():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 256))
    x[:4] *= 200  # norms of about 3,200: squared, a hundred times the largest float16
    y = x @ rng.normal(size=(256, 32)) / 16 + rng.normal(size=(64, 32))
    half = [a.astype(np.float16) for a in (x, y)]
    with np.errstate(over="ignore"):
        assert np.isinf(np.square(np.linalg.norm(half[0].astype(np.float32), axis=1)).astype(np.float16)).any()
    for estimator in ("unbiased", "biased", "minibatch"):
        assert cka(*half, estimator=estimator) == pytest.approx(cka(x, y, estimator=estimator), abs=1e-3)
    assert procrustes_distance(*half) == pytest.approx(procrustes_distance(x, y), abs=1e-3)


def test_noise_directions_count_for_canonical_correlation_and_not_for_cka():
    rng = np.random.default_rng(0)
    shared, noise = rng.normal(size=(400, 5)), rng.normal(size=(2, 400, 45))
    x, y = (np.hstack([shared, 0.01 * part]) for part in noise)
    assert cka(x, y) > 0.99
    assert canonical_correlation(x, y) < 0.3


def test_nothing_of_this_is_hidden_by_clamping():
    assert min(cka(*independent(32, 8, seed)) for seed in range(10)) < 0
    assert math.isnan(cka(np.ones((32, 8)), independent(32, 8, 0)[0]))
