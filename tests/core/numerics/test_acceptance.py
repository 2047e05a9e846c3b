"""What similarity must satisfy to be believed: identities, published values, and what other packages give."""

import math

import numpy as np
import pytest

from outcrop.numerics import (
    canonical_correlation,
    cka,
    gram_matrix,
    mutual_neighbours,
    procrustes_distance,
    representational_similarity,
    unbiased_hsic,
)


@pytest.fixture(scope="module")
def published():
    """The data of the notebook published with Kornblith et al. 2019 (arXiv 1905.00414)."""
    rng = np.random.RandomState(1337)
    x = rng.randn(100, 10)
    return x, rng.randn(100, 10) + x


@pytest.fixture(scope="module")
def fixed():
    """60 samples of 12 and of 20 rectified features; with these, the packages below were run."""
    rng = np.random.default_rng(7)
    x = rng.normal(size=(60, 12))
    return x, np.maximum(x @ rng.normal(size=(12, 20)) / 3 + rng.normal(size=(60, 20)), 0)


def trace_hsic(k, l_):
    """HSIC1 as Song et al. 2012 (JMLR 13, equation 4) write it, one sum after the other in exact summation."""
    n = len(k)
    k, l_ = k - np.diag(np.diag(k)), l_ - np.diag(np.diag(l_))
    trace = math.fsum((k * l_).ravel())
    sums = math.fsum(k.ravel()) * math.fsum(l_.ravel()) / ((n - 1) * (n - 2))
    rows = 2 / (n - 2) * math.fsum(k.sum(0) * l_.sum(0))
    return (trace + sums - rows) / (n * (n - 3))


def slow_cka(x, y, kernel, estimator):
    """Float64, one pair of samples after another, nothing shared with the library."""

    def entry(a, spread):
        if kernel == "cosine":
            return [[float(p @ q / math.sqrt((p @ p) * (q @ q))) for q in a] for p in a]
        if kernel == "rbf":
            return [[math.exp(-float((p - q) @ (p - q)) / (2 * spread)) for q in a] for p in a]
        return [[float(p @ q) for q in a] for p in a]

    def matrix(a):
        a = np.asarray(a, dtype=np.float64)
        distances = [float((p - q) @ (p - q)) for p in a for q in a]
        return np.array(entry(a - a.mean(0) if kernel == "linear" else a, 0.25 * float(np.median(distances))))

    k, l_ = matrix(x), matrix(y)
    if estimator == "biased":
        centre = np.eye(len(k)) - 1 / len(k)
        k, l_ = centre @ k @ centre, centre @ l_ @ centre
        return np.sum(k * l_) / math.sqrt(np.sum(k * k) * np.sum(l_ * l_))
    return trace_hsic(k, l_) / math.sqrt(trace_hsic(k, k) * trace_hsic(l_, l_))


def test_published_values(published):
    assert cka(*published, estimator="biased") == pytest.approx(0.557613257, abs=1e-8)
    assert cka(*published, estimator="biased", kernel="rbf", bandwidth=0.5) == pytest.approx(0.654831180, abs=1e-8)
    assert cka(*published) == pytest.approx(0.513456490, abs=1e-8)
    assert canonical_correlation(*published, mean_free=False) == pytest.approx(0.543123856, abs=1e-8)


@pytest.mark.parametrize("seed", range(10))
def test_the_trace_form_of_hsic_equals_the_centred_form(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(80, 30)) * rng.uniform(0.1, 10, size=30)
    y = x @ rng.normal(size=(30, 20)) + rng.normal(size=(80, 20))
    k, l_ = gram_matrix(x), gram_matrix(y)
    for pair in ((k, l_), (k, k), (l_, l_)):
        assert unbiased_hsic(*pair) == pytest.approx(trace_hsic(*pair), rel=1e-12)


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
@pytest.mark.parametrize("estimator", ["unbiased", "biased", "minibatch"])
def test_shifts_change_nothing(fixed, estimator, kernel):
    x, y = fixed
    options = {"estimator": estimator, "kernel": kernel, "batch_size": 20}
    shifts = np.random.default_rng(0).normal(size=12) * 100
    assert cka(x + shifts, y - 50, **options) == pytest.approx(cka(x, y, **options), abs=1e-9)


@pytest.mark.parametrize("features", [(30, 50), (300, 20), (300, 400)])
def test_biased_cka_decomposes_into_principal_components(features):
    """ArXiv 2202.07184, equation 2."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, features[0]))
    y = x @ rng.normal(size=features) / np.sqrt(features[0]) + rng.normal(size=(200, features[1]))
    (u, s, _), (v, t, _) = (np.linalg.svd(a - a.mean(0), full_matrices=False) for a in (x, y))
    total = sum(s[i] ** 2 * t[j] ** 2 * (u[:, i] @ v[:, j]) ** 2 for i in range(len(s)) for j in range(len(t)))
    expected = total / math.sqrt(np.sum(s**4) * np.sum(t**4))
    assert cka(x, y, estimator="biased") == pytest.approx(expected, abs=1e-12)


def test_full_and_minibatch_estimates_agree():
    for seed in range(3):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(2000, 30))
        y = x @ rng.normal(size=(30, 50)) / np.sqrt(30) + rng.normal(size=(2000, 50))
        found = cka(x, y, estimator="minibatch", batch_size=256, passes=10)
        assert found == pytest.approx(cka(x, y), abs=2e-3)


@pytest.mark.parametrize("estimator", ["unbiased", "biased", "minibatch"])
def test_single_precision_about_a_hundred_is_finite_and_right(estimator):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(256, 300))
    y = x @ rng.normal(size=(300, 100)) / np.sqrt(300) + 0.5 * rng.normal(size=(256, 100))
    far = [(a + 100).astype(np.float32) for a in (x, y)]
    assert cka(*far, estimator=estimator) == pytest.approx(cka(x, y, estimator=estimator), abs=1e-4)


@pytest.mark.parametrize("kernel", ["linear", "rbf", "cosine"])
@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
def test_a_slow_reference_agrees(fixed, estimator, kernel):
    x, y = fixed
    for features in (x, x.astype(np.float32), x.astype(np.float16)):
        expected = slow_cka(features, y, kernel, estimator)
        assert cka(features, y, kernel=kernel, estimator=estimator) == pytest.approx(expected, abs=1e-10)


# Where a package is wrong elsewhere, the comment says how it was seen to be.
#
# ckatorch 1.0.3, ckatorch.core.cka_base(..., threshold=0.5) in float64. Its rbf takes torch.median, the lower of two
# middle distances where they are even in number: 60 samples give 0.72938 biased for 0.72935, so it is asked for 59.
# pytorch-cka 1.1.3, cka.cka_from_features in float64. In float32, as its models run, the same features plus 10, 100 and
# 1,000 give 0.433, 1.000 and 0.000.
# torch-cka 0.21, CKA._HSIC, float32 inside (hence 1e-6). Features plus 100 give 0, plus 1,000 no number.
CKA_OF_PACKAGES = {
    ("ckatorch 1.0.3", "linear", "biased"): 0.5131550463617127,
    ("ckatorch 1.0.3", "linear", "unbiased"): 0.41750011031662076,
    ("ckatorch 1.0.3", "rbf", "biased"): 0.7323129713979967,
    ("ckatorch 1.0.3", "rbf", "unbiased"): 0.31484232117538885,
    ("pytorch-cka 1.1.3", "linear", "unbiased"): 0.4175001103166213,
    ("torch-cka 0.21", "linear", "unbiased"): 0.4175001624930356,
}


@pytest.mark.parametrize(("package", "kernel", "estimator"), sorted(CKA_OF_PACKAGES))
def test_published_packages_agree(fixed, package, kernel, estimator):
    expected = CKA_OF_PACKAGES[package, kernel, estimator]
    x, y = (features[:59] if kernel == "rbf" else features for features in fixed)
    assert cka(x, y, kernel=kernel, estimator=estimator, bandwidth=0.5) == pytest.approx(expected, abs=1e-6)


def test_the_ratio_of_summed_batches_agrees_with_a_published_package(fixed):
    x, y = fixed
    hsic = [
        [unbiased_hsic(gram_matrix(a[s : s + 20]), gram_matrix(b[s : s + 20])) for s in (0, 20, 40)]
        for a, b in ((x, y), (x, x), (y, y))
    ]
    found = sum(hsic[0]) / math.sqrt(sum(hsic[1]) * sum(hsic[2]))
    assert found == pytest.approx(0.4379414285031753, abs=1e-12)  # ckatorch 1.0.3, ckatorch.core.cka_batch


# rsatoolbox 0.3.2: calc_rdm(Dataset(x), method=...) and compare(..., method="spearman" | "corr"). What it calls
# euclidean is the squared distance divided by the number of features; its sqrt_transform was applied before comparing.
SIMILARITY_OF_RSATOOLBOX = {
    ("correlation", "spearman"): 0.36023191516217445,
    ("correlation", "pearson"): 0.36201512497591626,
    ("euclidean", "spearman"): 0.24661418672707003,
    ("euclidean", "pearson"): 0.2637837472323559,
}


@pytest.mark.parametrize(("dissimilarity", "comparison"), sorted(SIMILARITY_OF_RSATOOLBOX))
def test_representational_similarity_agrees_with_a_published_package(fixed, dissimilarity, comparison):
    found = representational_similarity(*fixed, dissimilarity=dissimilarity, comparison=comparison)
    assert found == pytest.approx(SIMILARITY_OF_RSATOOLBOX[dissimilarity, comparison], abs=1e-10)


# scikit-learn 1.9.1, NearestNeighbors(algorithm="brute").kneighbors() of each side, and the overlap of the sets.
NEIGHBOURS_OF_SKLEARN = {
    ("cosine", 1): 1 / 60,
    ("cosine", 5): 0.19,
    ("cosine", 10): 0.35833333333333334,
    ("euclidean", 1): 1 / 60,
    ("euclidean", 5): 0.20,
    ("euclidean", 10): 0.31,
}


@pytest.mark.parametrize(("metric", "neighbours"), sorted(NEIGHBOURS_OF_SKLEARN))
def test_mutual_neighbours_agree_with_a_published_package(fixed, metric, neighbours):
    found = mutual_neighbours(*fixed, metric=metric, neighbours=neighbours)
    assert found == pytest.approx(NEIGHBOURS_OF_SKLEARN[metric, neighbours], abs=1e-12)


def test_procrustes_is_the_distance_to_the_nearest_of_all_rotations(published):
    x, y = (a - a.mean(0) for a in published)
    x, y = x / np.linalg.norm(x), y / np.linalg.norm(y)
    rotation = np.eye(10)
    for _ in range(300):  # Higham's iteration to the orthogonal polar factor, no singular values involved
        step = rotation if _ else x.T @ y
        rotation = (step + np.linalg.inv(step).T) / 2
    assert procrustes_distance(*published) == pytest.approx(np.linalg.norm(x @ rotation - y) ** 2, abs=1e-12)
