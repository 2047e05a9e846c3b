"""Kernels, removal of the input and of given projections, against slow references in float64."""

import dataclasses
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from outcrop.errors import AnalysisError
from outcrop.models.model import Layer
from outcrop.numerics import GramAccumulator, bootstrap_similarity, cka, similarity_ratio
from outcrop.numerics.kernels.products import centred_gram
from outcrop.numerics.stream.kernel_grams import median_distance
from outcrop.testing import AccumulatorTests

SAMPLES, SIZE = 151, 48  # Four batches, the last of seven samples.


def sorted_groups(result):
    """Groups of batches are listed as they come."""
    names = ("groups", "groups_without_pc1", "groups_pc_share", "groups_pc_samples")
    return dataclasses.replace(
        result, **{n: np.sort(getattr(result, n), axis=0) for n in names if getattr(result, n) is not None}
    )


class Suite(AccumulatorTests):
    tolerance = 1e-9

    def without_order(self, result):
        return sorted_groups(result)

    def keys(self):
        return [(model, name) for model, layers in self.activations().items() for name in layers]


class TestGaussianKernel(Suite):
    def make(self):
        return GramAccumulator(group_size=32, kernel="rbf", bandwidths=dict.fromkeys(self.keys(), 3.0))


class TestCosineKernel(Suite):
    def make(self):
        return GramAccumulator(group_size=32, kernel="cosine")


class TestRemovedProjections(Suite):
    def make(self):
        rng = np.random.default_rng(0)
        return GramAccumulator(group_size=32, projections={key: rng.normal(size=120) for key in self.keys()})


def layer(name, index):
    return Layer(name, "input" if name.startswith("input") else "block", index, (1,), "float32", "array", ("feature",))


def feed(accumulator, models, *, dtype=torch.float64, samples=None):
    """Stream {model: {layer: array}} in order."""
    every = np.arange(SAMPLES) if samples is None else samples
    for start in range(0, len(every), accumulator.group_size):
        index = every[start : start + accumulator.group_size]
        for model, layers in models.items():
            for position, (name, values) in enumerate(layers.items()):
                accumulator.update(model, layer(name, position), index, torch.from_numpy(values[index]).to(dtype))
        accumulator.end_batch()
    return accumulator


def networks(seed=0, offset=0.5):
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(SAMPLES, 12)) + offset
    models = {}
    for model in ("a", "b"):
        layers = {"input": image}
        values = image
        for depth in range(3):
            values = np.maximum(values @ rng.normal(size=(values.shape[1], 20)) / 4 + rng.normal(size=20) / 4, 0)
            values = values + 0.3 * rng.normal(size=values.shape)
            layers[f"layer{depth}"] = values
        models[model] = layers
    return models


def batches():
    return [np.arange(start, min(start + SIZE, SAMPLES)) for start in range(0, SAMPLES, SIZE)]


def linear(x, _=None):
    x = x - x.mean(0)
    return x @ x.T


def cosine(x, _=None):
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    return x @ x.T


def distances(x):
    return np.square(x[:, None] - x[None]).sum(-1)


def gaussian(x, first, fraction=0.5):
    return np.exp(-distances(x) / (2 * fraction**2 * np.median(distances(first))))


KERNELS = {"linear": linear, "cosine": cosine, "rbf": gaussian}


def hsic(k, l_):
    """The trace form of Song et al. 2012, times n (n - 3)."""
    n = len(k)
    k, l_ = k - np.diag(np.diag(k)), l_ - np.diag(np.diag(l_))
    return np.trace(k @ l_) + k.sum() * l_.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * k.sum(0) @ l_.sum(0)


def residual(k, of_input):
    off = ~np.eye(len(k), dtype=bool)
    design = np.stack([np.ones(off.sum()), of_input[off]], axis=1)
    found, *_ = np.linalg.lstsq(design, k[off], rcond=None)
    return k - found[0] - found[1] * of_input


def without_first_component(k):
    centre = np.eye(len(k)) - 1 / len(k)
    values, vectors = np.linalg.eigh(centre @ k @ centre)
    # The double-centred matrix without it; what was centred away does not matter to HSIC, and does to a regression.
    return k - values[-1] * np.outer(vectors[:, -1], vectors[:, -1])


def by_hand(models, kernel, *, remove_input=False, first_component=True):
    sums = 0.0
    for batch in batches():
        matrices = []
        for layers in models.values():
            grams = {n: KERNELS[kernel](x[batch], x[:SIZE]) for n, x in layers.items()}
            for name, gram in grams.items():
                left = gram if first_component else without_first_component(gram)
                matrices.append(residual(left, grams["input"]) if remove_input and name != "input" else left)
        sums = sums + np.array([[hsic(k, l_) for l_ in matrices] for k in matrices])
    own = np.sqrt(np.diag(sums))
    return sums / np.outer(own, own)


@pytest.mark.parametrize("remove_input", [False, True], ids=["whole", "without input"])
@pytest.mark.parametrize("kernel", list(KERNELS))
def test_every_kernel_is_that_of_a_slow_reference(kernel, remove_input):
    models = networks()
    found = feed(GramAccumulator(group_size=SIZE, kernel=kernel, remove_input=remove_input), models).finish()
    np.testing.assert_allclose(found.similarity, by_hand(models, kernel, remove_input=remove_input), atol=1e-10)
    expected = by_hand(models, kernel, remove_input=remove_input, first_component=False)
    np.testing.assert_allclose(found.similarity_without_pc1, expected, atol=1e-8)
    assert found.kernel == kernel
    assert found.component_scope == "batch"


@pytest.mark.parametrize("remove_input", [False, True], ids=["whole", "without input"])
@pytest.mark.parametrize("kernel", list(KERNELS))
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 2e-5), (torch.float16, 3e-3), (torch.bfloat16, 2e-2)])
def test_other_types_of_features_keep_the_digits_that_they_have(kernel, remove_input, dtype, bound):
    models = networks()
    options = partial(GramAccumulator, group_size=SIZE, kernel=kernel, remove_input=remove_input)
    exact, found = feed(options(), models).finish(), feed(options(), models, dtype=dtype).finish()
    np.testing.assert_allclose(found.similarity, exact.similarity, atol=bound)
    # A type's rounding of the features is no error of ours: with the same values in float64, single precision agrees.
    rounded = {
        m: {n: torch.from_numpy(x).to(dtype).double().numpy() for n, x in layers.items()}
        for m, layers in models.items()
    }
    np.testing.assert_allclose(found.similarity, feed(options(), rounded).finish().similarity, atol=2e-5)


@pytest.mark.parametrize("offset", [10, 100])
@pytest.mark.parametrize("kernel", list(KERNELS))
def test_single_precision_far_from_zero_loses_no_more_than_storage_does(kernel, offset):
    models = {
        model: {name: (x + offset).astype(np.float32).astype(np.float64) for name, x in layers.items()}
        for model, layers in networks().items()
    }
    found = feed(GramAccumulator(group_size=SIZE, kernel=kernel), models, dtype=torch.float32).finish()
    np.testing.assert_allclose(found.similarity, by_hand(models, kernel), atol=5e-5)


@settings(max_examples=8, deadline=None)
@given(
    st.sampled_from(list(KERNELS)), st.booleans(), st.integers(0, 1000), st.floats(1e-3, 1e3), st.integers(5, SAMPLES)
)
def test_similarity_does_not_depend_on_rotation_size_or_the_order_within_a_batch(kernel, remove, seed, size, group):
    models = {"m": networks(seed)["a"]}
    rng = np.random.default_rng(seed)
    turned = {name: size * x @ np.linalg.qr(rng.normal(size=(x.shape[1],) * 2)).Q for name, x in models["m"].items()}
    options = {"group_size": group, "kernel": kernel, "remove_input": remove}
    shuffled = np.concatenate(
        [rng.permutation(np.arange(SAMPLES)[start : start + group]) for start in range(0, SAMPLES, group)]
    )
    one = feed(GramAccumulator(**options), models).finish()
    other = feed(GramAccumulator(**options), {"m": turned}, samples=shuffled).finish()
    np.testing.assert_allclose(one.similarity, other.similarity, atol=1e-9)


def test_the_cosine_of_samples_of_very_different_norms_is_taken_in_full():
    norms = 10.0 ** np.random.default_rng(0).uniform(-18, 9, size=(SAMPLES, 1))
    models = networks()
    scaled = {m: {n: x * norms for n, x in layers.items()} for m, layers in models.items()}
    found = feed(GramAccumulator(group_size=SIZE, kernel="cosine"), scaled, dtype=torch.float32).finish()
    np.testing.assert_allclose(found.similarity, by_hand(models, "cosine"), atol=2e-5)


def test_a_sample_of_norm_zero_is_similar_to_none():
    models = networks()
    for layers in models.values():
        for values in layers.values():
            values[5] = 0
    models["b"]["input"] = models["a"]["input"]
    options = {"group_size": 151, "kernel": "cosine", "principal_component": False}
    found = feed(GramAccumulator(**options), models).finish().similarity
    first, last = models["a"]["layer0"], models["b"]["layer2"]
    assert found[1, 7] == pytest.approx(cka(first, last, kernel="cosine"), abs=1e-10)
    found = feed(GramAccumulator(**options, remove_input=True), models).finish().similarity
    grams = [cosine_or_zero(x) for x in (models["a"]["input"], first, last)]
    left = [residual(gram, grams[0]) for gram in grams[1:]]
    expected = hsic(*left) / np.sqrt(hsic(left[0], left[0]) * hsic(left[1], left[1]))
    assert found[1, 7] == pytest.approx(expected, abs=1e-10)


def cosine_or_zero(x):
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    x = np.divide(x, norms, out=np.zeros_like(x), where=norms > 0)
    return x @ x.T


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_bandwidths_are_in_units_of_the_features_and_recorded(size):
    models = networks()
    plain = feed(GramAccumulator(group_size=SIZE, kernel="rbf", bandwidth=0.7), models).finish()
    expected = [0.7 * np.sqrt(np.median(distances(x[:SIZE]))) for layers in models.values() for x in layers.values()]
    np.testing.assert_allclose(plain.bandwidths, expected, rtol=1e-12)
    scaled = {m: {n: x * size for n, x in layers.items()} for m, layers in models.items()}
    found = feed(GramAccumulator(group_size=SIZE, kernel="rbf", bandwidth=0.7), scaled, dtype=torch.float32).finish()
    np.testing.assert_allclose(found.bandwidths, np.array(expected) * size, rtol=1e-5)
    np.testing.assert_allclose(found.similarity, plain.similarity, atol=2e-5)
    assert np.isnan(feed(GramAccumulator(group_size=SIZE), models).finish().bandwidths).all()


def test_samples_of_which_most_coincide_have_the_limit_of_the_kernel():
    rng = np.random.default_rng(0)
    same = np.where(rng.random((SAMPLES, 1)) < 0.2, rng.normal(size=(SAMPLES, 3)), 1.0)
    models = {"m": {"same": same, "other": rng.normal(size=(SAMPLES, 3)) + same}}
    found = feed(GramAccumulator(group_size=SAMPLES, kernel="rbf"), models, dtype=torch.float32).finish()
    assert found.bandwidths[0] == 0
    as_stored = {name: x.astype(np.float32) for name, x in models["m"].items()}
    expected = cka(as_stored["same"], as_stored["other"], kernel="rbf")
    assert found.similarity[0, 1] == pytest.approx(expected, abs=1e-5)


def test_a_large_group_gives_its_bandwidth_from_a_part_of_it():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2500, 4))
    taken = x[np.round(np.linspace(0, 2499, 2048)).astype(int)]
    expected = 0.5 * np.sqrt(np.median(distances(taken)))
    assert 0.5 * median_distance(centred_gram(torch.from_numpy(x))) == pytest.approx(expected)


@pytest.mark.parametrize("kernel", list(KERNELS))
def test_layers_without_structure_are_degenerate_with_every_kernel(kernel):
    models = {"m": dict(networks()["a"])}
    models["m"]["constant"] = np.full((SAMPLES, 5), 0.1)
    models["m"]["broken"] = models["m"]["layer0"].copy()
    models["m"]["broken"][100, 3] = np.nan
    found = feed(GramAccumulator(group_size=SIZE, kernel=kernel), models, dtype=torch.float32).finish()
    assert found.degenerate.tolist() == [False, False, False, False, True, True]
    assert np.isnan(found.similarity[4:]).all()
    assert np.isfinite(found.similarity[:4, :4]).all()
    assert found.non_finite_count[5] == 1


@pytest.mark.parametrize("kernel", list(KERNELS))
def test_a_copy_of_the_input_has_nothing_left_without_it(kernel):
    models = {"m": dict(networks()["a"])}
    models["m"]["copy"] = models["m"]["input"].copy()
    models["m"]["scaled"] = models["m"]["input"] * 3
    for dtype in (torch.float32, torch.float64):
        found = feed(GramAccumulator(group_size=SIZE, kernel=kernel, remove_input=True), models, dtype=dtype).finish()
        assert found.degenerate.tolist() == [False] * 4 + [True, True]
        assert np.isfinite(found.similarity[:4, :4]).all()


def test_what_two_layers_share_beyond_the_input_is_left_and_nothing_else():
    rng = np.random.default_rng(0)
    image, hidden = rng.normal(size=(SAMPLES, 30)), rng.normal(size=(SAMPLES, 30))
    models = {
        "m": {
            "input": image,
            # Features of their own beside those of the input: their Gram matrix is the sum of two.
            "one": np.hstack([image, rng.normal(size=(SAMPLES, 30))]),
            "two": np.hstack([image, rng.normal(size=(SAMPLES, 30))]),
            "three": np.hstack([image, hidden]),
            "four": np.hstack([2 * image, hidden]),
        }
    }
    whole = feed(GramAccumulator(group_size=SAMPLES), models).finish().similarity
    left = feed(GramAccumulator(group_size=SAMPLES, remove_input=True), models).finish().similarity
    assert whole[1, 2] > 0.4
    assert abs(left[1, 2]) < 0.1
    assert left[3, 4] > 0.9


def test_a_constant_input_leaves_everything_as_it_is():
    models = networks()
    for layers in models.values():
        layers["input"] = np.ones((SAMPLES, 4))
    whole = feed(GramAccumulator(group_size=SIZE), models).finish()
    left = feed(GramAccumulator(group_size=SIZE, remove_input=True), models).finish()
    assert left.degenerate.tolist() == [True, False, False, False] * 2
    np.testing.assert_allclose(left.similarity, whole.similarity, atol=1e-12)


@pytest.mark.parametrize("kernel", list(KERNELS))
def test_merged_accumulators_without_the_input_are_one_of_all_samples(kernel):
    models = networks()
    given = None
    if kernel == "rbf":
        found = feed(GramAccumulator(group_size=SIZE, kernel="rbf"), models).finish()
        given = {(m, inner.name): value for (m, inner), value in zip(found.layers, found.bandwidths, strict=True)}
    make = partial(GramAccumulator, group_size=SIZE, kernel=kernel, remove_input=True, bandwidths=given)
    whole = feed(make(), models).finish()
    first = feed(make(), models, samples=np.arange(2 * SIZE))
    first.merge(feed(make(), dict(reversed(models.items())), samples=np.arange(2 * SIZE, SAMPLES)))
    merged = first.finish()
    for name in ("similarity", "similarity_without_pc1", "standard_error", "groups", "bandwidths"):
        np.testing.assert_allclose(getattr(merged, name), getattr(whole, name), rtol=1e-9, atol=1e-11, err_msg=name)


def test_gaussian_kernels_of_other_bandwidths_are_not_merged():
    models = networks()
    first = feed(GramAccumulator(group_size=SIZE, kernel="rbf"), models, samples=np.arange(SIZE))
    second = feed(GramAccumulator(group_size=SIZE, kernel="rbf"), models, samples=np.arange(SIZE, SAMPLES))
    with pytest.raises(AnalysisError, match="layer 'input' of model 'a' have bandwidths .* give both accumulators"):
        first.merge(second)
    empty = GramAccumulator(group_size=SIZE, kernel="rbf")
    empty.merge(second)
    np.testing.assert_array_equal(empty.finish().bandwidths, second.finish().bandwidths)


def test_the_input_must_be_among_the_layers_and_the_only_one():
    models = {"a": networks()["a"], "b": {"layer": networks()["b"]["layer1"]}}
    with pytest.raises(AnalysisError, match="input of model 'b' is to be regressed out .* select its input layer too"):
        feed(GramAccumulator(group_size=SIZE, remove_input=True), models)
    models["b"] |= {"input1": models["a"]["input"], "input2": models["a"]["layer1"]}
    with pytest.raises(AnalysisError, match="One input of model 'b' .* 2 are among them \\('input1', 'input2'\\)"):
        feed(GramAccumulator(group_size=SIZE, remove_input=True), models)


def directions(models, seed=1):
    """One unit direction in the feature space of every layer, and the projections of all samples on it."""
    rng = np.random.default_rng(seed)
    found = {}
    for model, layers in models.items():
        for name, x in layers.items():
            v = rng.normal(size=x.shape[1])
            found[model, name] = v / np.linalg.norm(v)
    return found, {key: models[key[0]][key[1]] @ v for key, v in found.items()}


@pytest.mark.parametrize("size", [1.0, 3.0, 1e-12])
def test_given_projections_are_removed_as_from_the_features_themselves(size):
    models = {m: {n: x * size for n, x in layers.items()} for m, layers in networks().items()}
    vectors, projections = directions(models)
    reduced = {
        m: {n: x - np.outer(projections[m, n], vectors[m, n]) for n, x in ls.items()} for m, ls in models.items()
    }
    found = feed(GramAccumulator(group_size=SIZE, projections=projections), models).finish()
    np.testing.assert_allclose(found.similarity_without_pc1, by_hand(reduced, "linear"), atol=1e-10)
    np.testing.assert_allclose(found.similarity, by_hand(models, "linear"), atol=1e-10)
    assert found.component_scope == "all"
    shares, cosines = [], []
    for batch in batches():
        parts = [projections[key][batch] - projections[key][batch].mean() for key in projections]
        sizes = np.array([s @ s for s in parts])
        shares.append(len(batch) * sizes / [np.trace(linear(x[batch])) for ls in models.values() for x in ls.values()])
        cosines.append(len(batch) * np.square([[a @ b for a in parts] for b in parts]) / np.outer(sizes, sizes))
    np.testing.assert_allclose(found.pc_share, np.sum(shares, axis=0) / SAMPLES, atol=1e-12)
    np.testing.assert_allclose(found.pc_alignment, np.sum(cosines, axis=0) / SAMPLES, atol=1e-12)


def test_projections_go_with_the_removal_of_the_input():
    models = networks()
    vectors, projections = directions(models)
    found = feed(GramAccumulator(group_size=SIZE, projections=projections, remove_input=True), models).finish()
    sums = 0.0
    for batch in batches():
        matrices = []
        for m, layers in models.items():
            for n, x in layers.items():
                left = linear(x[batch] - np.outer(projections[m, n][batch], vectors[m, n]))
                matrices.append(left if n == "input" else residual(left, linear(layers["input"][batch])))
        sums = sums + np.array([[hsic(k, l_) for l_ in matrices] for k in matrices])
    own = np.sqrt(np.diag(sums))
    np.testing.assert_allclose(found.similarity_without_pc1, sums / np.outer(own, own), atol=1e-9)


def test_samples_in_any_order_take_their_own_projections():
    models = networks()
    _, projections = directions(models)
    make = partial(GramAccumulator, group_size=SAMPLES, projections=projections)
    straight = feed(make(), models).finish()
    shuffled = feed(make(), models, samples=np.random.default_rng(0).permutation(SAMPLES)).finish()
    np.testing.assert_allclose(shuffled.similarity_without_pc1, straight.similarity_without_pc1, atol=1e-11)


def test_a_direction_that_is_not_known_is_known_to_be_missing():
    models = networks()
    _, projections = directions(models)
    projections["b", "layer1"] = np.full(SAMPLES, np.nan)
    found = feed(GramAccumulator(group_size=SIZE, projections=projections), models).finish()
    assert np.isnan(found.similarity_without_pc1[6]).all()
    assert np.isnan(found.pc_share[6])
    others = np.delete(np.arange(8), 6)
    assert np.isfinite(found.similarity_without_pc1[np.ix_(others, others)]).all()
    assert np.isfinite(found.similarity).all()


def test_the_effect_of_removal_is_bootstrapped_over_the_same_groups():
    models = networks()
    found = feed(GramAccumulator(group_size=16), models).finish()
    assert found.groups.shape == found.groups_without_pc1.shape
    np.testing.assert_allclose(similarity_ratio(found.groups_without_pc1.sum(0)), found.similarity_without_pc1)
    effect = found.similarity - found.similarity_without_pc1
    draws = [
        before - after
        for before, after in zip(
            bootstrap_similarity(found.groups, replicates=300, rng=np.random.default_rng(0)),
            bootstrap_similarity(found.groups_without_pc1, replicates=300, rng=np.random.default_rng(0)),
            strict=True,
        )
    ]
    low, high = np.quantile(draws, [0.01, 0.99], axis=0)
    off_diagonal = ~np.eye(8, dtype=bool)
    assert ((low <= effect) & (effect <= high))[off_diagonal].mean() > 0.95
    assert feed(GramAccumulator(group_size=16, principal_component=False), models).finish().groups_without_pc1 is None


def test_shares_of_variance_are_grouped_as_similarity_is():
    models = networks()
    found = feed(GramAccumulator(group_size=16, group_limit=6), models).finish()
    assert len(found.groups) == len(found.groups_pc_share) == len(found.groups_pc_samples) == 5
    assert found.batch_count == 10
    np.testing.assert_allclose(found.groups_pc_share.sum(0) / found.groups_pc_samples.sum(0), found.pc_share)
    assert found.groups_pc_samples.sum(0).tolist() == [found.sample_count] * len(found.layers)
    again = feed(GramAccumulator(group_size=16, group_limit=6, passes=2), models).finish()
    np.testing.assert_allclose(again.groups_pc_share, found.groups_pc_share)
    without = feed(GramAccumulator(group_size=16, principal_component=False), models).finish()
    assert without.groups_pc_share is None
    assert without.groups_pc_samples is None


@pytest.mark.parametrize("options", [{}, {"kernel": "cosine"}, {"kernel": "rbf"}, {"remove_input": True}], ids=str)
def test_batch_sizes_agree_within_the_stated_error(options):
    rng = np.random.default_rng(0)
    image = rng.normal(size=(1024, 10))
    layers = {"input": image}
    for depth in range(2):
        hidden = rng.normal(size=(1024, 6))
        layers[f"layer{depth}"] = np.hstack([image + 0.5 * hidden[:, :1], hidden]) + depth
    found = []
    for size in (32, 128, 512):
        accumulator = GramAccumulator(group_size=size, **options)
        found.append(feed(accumulator, {"m": layers}, dtype=torch.float32, samples=np.arange(1024)).finish())
    above = np.triu_indices(3, 1)
    # Two batches of 512 give no error worth the name; those of 32 and 128 do.
    for one, other in ((0, 1), (0, 2), (1, 2)):
        difference = np.abs(found[one].similarity - found[other].similarity)[above]
        assert (difference < 3 * found[one].standard_error[above]).all()
        assert (difference < 0.02).all()


def test_projections_must_cover_layers_and_samples():
    models = networks()
    _, projections = directions(models)
    short = projections | {("b", "input"): np.zeros(60)}
    with pytest.raises(AnalysisError, match="projections of 60 samples of layer 'input' of model 'b', and none of sam"):
        feed(GramAccumulator(group_size=SIZE, projections=short), models)
    del projections["b", "layer2"]
    with pytest.raises(AnalysisError, match="no projections of layer 'layer2' of model 'b'; give those of all layers"):
        feed(GramAccumulator(group_size=SIZE, projections=projections), models)


def test_accumulators_of_other_projections_are_not_merged():
    models = networks()
    make = partial(GramAccumulator, group_size=SIZE)
    _, one = directions(models)
    _, other = directions(models, seed=2)
    with pytest.raises(AnalysisError, match="that remove the same projections can be merged"):
        make(projections=one).merge(make(projections=other))
    first = feed(make(projections=one), models, samples=np.arange(SIZE))
    first.merge(feed(make(projections=dict(one)), models, samples=np.arange(SIZE, SAMPLES)))
    whole = feed(make(projections=one), models).finish()
    np.testing.assert_allclose(first.finish().similarity_without_pc1, whole.similarity_without_pc1, atol=1e-11)
