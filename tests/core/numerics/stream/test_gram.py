import dataclasses

import numpy as np
import pytest
import torch

from outcrop.errors import AnalysisError
from outcrop.models.model import Layer
from outcrop.numerics import GramAccumulator, cka
from outcrop.testing import AccumulatorTests


class TestEverySource(AccumulatorTests):
    tolerance = 1e-10

    def make(self):
        return GramAccumulator(group_size=32)

    def without_order(self, result):
        # Groups of batches are listed as they come.
        names = ("groups", "groups_without_pc1", "groups_pc_share", "groups_pc_samples")
        return dataclasses.replace(result, **{name: np.sort(getattr(result, name), axis=0) for name in names})


def layer(name, index=0, kind="block"):
    return Layer(name, kind, index, (1,), "float32", "array", ("feature",))


def feed(accumulator, layers, *, order=None, dtype=torch.float32, model="model"):
    """Stream arrays (sample, ...) by layer name, pass by pass."""
    samples = len(next(iter(layers.values())))
    passes = 0
    while True:
        accumulator.begin_pass(passes)
        sequence = np.arange(samples) if order is None else order(passes)
        for start in range(0, len(sequence), accumulator.group_size):
            index = sequence[start : start + accumulator.group_size]
            for position, (name, values) in enumerate(layers.items()):
                tensor = torch.from_numpy(np.asarray(values)[index]).to(dtype)
                accumulator.update(model, layer(name, position), index, tensor)
            accumulator.end_batch()
        passes += 1
        if not accumulator.needs_pass():
            return accumulator


def features(seed=0, samples=300, offsets=(0, 100, 3)):
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(samples, 10))
    return {
        f"layer{index}": shared @ rng.normal(size=(10, 20 + index)) + rng.normal(size=(samples, 20 + index)) + offset
        for index, offset in enumerate(offsets)
    }


def by_hand(layers, size, without=0):
    """Minibatch CKA in float64, from the trace form, each batch's first components removed by SVD."""
    names = list(layers)
    sums = np.zeros((len(names), len(names)))
    samples = len(layers[names[0]])
    for start in range(0, samples, size):
        grams = []
        for name in names:
            x = layers[name][start : start + size].reshape(min(size, samples - start), -1).astype(np.float64)
            u, s, v = np.linalg.svd(x - x.mean(0), full_matrices=False)
            s[:without] = 0
            k = (u * s) @ v @ v.T @ (u * s).T
            grams.append(k - np.diag(np.diag(k)))
        n = len(grams[0])
        if n < 4:
            continue
        for i, k in enumerate(grams):
            for j, l_ in enumerate(grams):
                sums[i, j] += (
                    np.trace(k @ l_) + k.sum() * l_.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * k.sum(0) @ l_.sum(0)
                )
    own = np.sqrt(np.diag(sums))
    return sums / np.outer(own, own)


def test_streamed_similarity_is_the_ratio_of_sums_over_batches():
    layers = features()
    for size in (300, 128, 64):
        found = feed(GramAccumulator(group_size=size), layers, dtype=torch.float64).finish()
        np.testing.assert_allclose(found.similarity, by_hand(layers, size), atol=1e-11)
        np.testing.assert_allclose(found.similarity_without_pc1, by_hand(layers, size, without=1), atol=1e-10)


def test_one_batch_of_all_samples_is_the_unbiased_cka():
    layers = features()
    found = feed(GramAccumulator(group_size=300), layers).finish()
    assert found.similarity[0, 1] == pytest.approx(cka(layers["layer0"], layers["layer1"]), abs=1e-6)


def test_single_precision_far_from_zero_gives_what_double_precision_does():
    near = features(offsets=(0, 0, 0))
    single = feed(GramAccumulator(group_size=64), features(offsets=(100, 30, 1000))).finish()
    double = feed(GramAccumulator(group_size=64), near, dtype=torch.float64).finish()
    np.testing.assert_allclose(single.similarity, double.similarity, atol=2e-5)
    np.testing.assert_allclose(single.similarity_without_pc1, double.similarity_without_pc1, atol=1e-4)


@pytest.mark.parametrize("mean_over_deviation", [1, 10, 30, 100])
def test_a_common_offset_does_not_move_similarity_as_it_does_without_centring(mean_over_deviation):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(256, 512))
    y = x @ rng.normal(size=(512, 512)) / 512**0.5 + rng.normal(size=(256, 512))
    true = cka(x, y)
    layers = {"x": (x + mean_over_deviation), "y": (y / y.std() + mean_over_deviation)}
    found = feed(GramAccumulator(group_size=256), layers).finish()
    assert found.similarity[0, 1] == pytest.approx(true, abs=1e-4)


def test_principal_components_are_those_of_a_decomposition():
    layers = features(samples=200)
    found = feed(GramAccumulator(group_size=100), layers, dtype=torch.float64).finish()
    shares, cosines = [], []
    for start in (0, 100):
        parts = [x[start : start + 100] - x[start : start + 100].mean(0) for x in layers.values()]
        decomposed = [np.linalg.svd(x, full_matrices=False) for x in parts]
        shares.append([s[0] ** 2 / (s**2).sum() for _, s, _ in decomposed])
        first = np.stack([u[:, 0] for u, _, _ in decomposed])
        cosines.append((first @ first.T) ** 2)
    np.testing.assert_allclose(found.pc_share, np.mean(shares, axis=0), atol=1e-10)
    np.testing.assert_allclose(found.pc_alignment, np.mean(cosines, axis=0), atol=1e-6)


def test_more_layers_than_fit_one_chunk_give_the_same_map():
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(64, 5))
    layers = {f"layer{index}": shared @ rng.normal(size=(5, 8)) + rng.normal(size=(64, 8)) for index in range(70)}
    found = feed(GramAccumulator(group_size=32), layers, dtype=torch.float64).finish()
    np.testing.assert_allclose(found.similarity, by_hand(layers, 32), atol=1e-11)
    assert [inner.name for _, inner in found.layers] == list(layers)


def test_without_principal_components_similarity_is_the_same_and_they_are_none():
    layers = features()
    plain = feed(GramAccumulator(group_size=64, principal_component=False), layers).finish()
    full = feed(GramAccumulator(group_size=64), layers).finish()
    np.testing.assert_array_equal(plain.similarity, full.similarity)
    assert plain.pc_share is plain.pc_alignment is plain.similarity_without_pc1 is None


def test_several_passes_in_other_orders_approach_the_full_estimate():
    layers = features(samples=1000)
    full = cka(layers["layer0"], layers["layer2"])
    rng = np.random.default_rng(0)
    found = feed(GramAccumulator(group_size=100, passes=5), layers, order=lambda _: rng.permutation(1000)).finish()
    assert found.batch_count == 50
    assert found.sample_count == 5000
    assert len(found.groups) == 10  # of the first pass, whose batches share no sample
    assert found.similarity[0, 2] == pytest.approx(full, abs=3e-3)


def test_the_standard_error_covers_the_full_estimate():
    inside = 0
    for seed in range(30):
        layers = features(seed, samples=400)
        found = feed(GramAccumulator(group_size=40), layers).finish()
        population = cka(*(features(seed, samples=400)[name] for name in ("layer0", "layer1")))
        inside += abs(found.similarity[0, 1] - population) < 2 * found.standard_error[0, 1]
    assert inside >= 27


def test_the_ragged_last_batch_counts_by_its_size_and_a_tiny_one_is_skipped():
    layers = features(samples=131)
    found = feed(GramAccumulator(group_size=64), layers, dtype=torch.float64).finish()
    assert (found.sample_count, found.skipped_samples, found.batch_count) == (128, 3, 2)
    np.testing.assert_allclose(found.similarity, by_hand(layers, 64), atol=1e-11)


def test_merged_parts_in_another_layer_order_and_unit_are_the_whole():
    layers = {name: values * 10.0**power for (name, values), power in zip(features().items(), (0, 9, -9), strict=True)}
    whole = feed(GramAccumulator(group_size=50), layers, dtype=torch.float64).finish()
    first = feed(GramAccumulator(group_size=50), {n: x[:100] for n, x in layers.items()}, dtype=torch.float64)
    second = GramAccumulator(group_size=50)
    for start in range(100, 300, 50):
        index = np.arange(start, start + 50)
        for position, name in reversed(list(enumerate(layers))):
            # Another first batch, so another power of two as unit.
            second.update("model", layer(name, position), index, torch.from_numpy(layers[name][index]))
        second.end_batch()
    first.merge(second)
    merged = first.finish()
    for name in ("similarity", "similarity_without_pc1", "standard_error", "pc_alignment", "pc_share"):
        np.testing.assert_allclose(getattr(merged, name), getattr(whole, name), rtol=1e-11, atol=1e-12, err_msg=name)
    assert merged.sample_count == whole.sample_count


def test_merging_into_or_with_an_empty_accumulator_changes_nothing():
    full = feed(GramAccumulator(group_size=64), features())
    expected = full.finish().similarity
    full.merge(GramAccumulator(group_size=64))
    np.testing.assert_array_equal(full.finish().similarity, expected)
    empty = GramAccumulator(group_size=64)
    empty.merge(full)
    np.testing.assert_array_equal(empty.finish().similarity, expected)


def test_a_layer_unknown_to_the_first_batches_takes_its_unit_when_it_has_one():
    rng = np.random.default_rng(0)
    late = rng.normal(size=(128, 6))
    late[:64] = 0
    layers = {"late": late, "other": rng.normal(size=(128, 6)) + late}
    found = feed(GramAccumulator(group_size=64), layers, dtype=torch.float64).finish()
    np.testing.assert_allclose(found.similarity, by_hand(layers, 64), atol=1e-11)
    assert not found.degenerate.any()


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e4, -1e-30])
def test_a_constant_layer_is_degenerate_and_touches_no_other(constant):
    layers = features()
    alone = feed(GramAccumulator(group_size=64), layers).finish()
    layers = {"constant": np.full((300, 9), constant), **layers}
    found = feed(GramAccumulator(group_size=64), layers).finish()
    assert found.degenerate.tolist() == [True, False, False, False]
    for values in (found.similarity, found.similarity_without_pc1, found.standard_error, found.pc_alignment):
        assert np.isnan(values[0]).all()
        assert np.isnan(values[:, 0]).all()
    assert np.isnan(found.pc_share[0])
    np.testing.assert_allclose(found.similarity[1:, 1:], alone.similarity, atol=1e-12)


def test_values_that_are_not_finite_are_counted_and_touch_no_other_layer():
    layers = features()
    alone = feed(GramAccumulator(group_size=64), layers).finish()
    spoilt = dict(layers)
    spoilt["layer1"] = spoilt["layer1"].copy()
    spoilt["layer1"][[3, 100], 2] = np.nan
    spoilt["layer1"][200, 5] = -np.inf
    found = feed(GramAccumulator(group_size=64), spoilt).finish()
    assert found.non_finite_count.tolist() == [0, 3, 0]
    assert found.degenerate.tolist() == [False, True, False]
    assert np.isnan(found.similarity[1]).all()
    assert found.similarity[0, 2] == pytest.approx(alone.similarity[0, 2], abs=1e-12)


def test_a_layer_of_one_component_has_nothing_left_without_it():
    layers = features()
    layers["single"] = np.outer(np.random.default_rng(1).normal(size=300), np.ones(5))
    found = feed(GramAccumulator(group_size=64), layers).finish()
    assert found.pc_share[3] == pytest.approx(1, abs=1e-6)
    assert not found.degenerate[3]
    assert found.similarity[3, 3] == pytest.approx(1)
    assert np.isnan(found.similarity_without_pc1[3]).all()
    assert np.isfinite(found.similarity_without_pc1[:3, :3]).all()


@pytest.mark.parametrize("spike", [30, 1e3, 3e4])
@pytest.mark.parametrize("features", [40, 2000])
def test_beside_a_component_of_nearly_all_variance_similarity_keeps_its_digits(spike, features):
    rng = np.random.default_rng(0)
    carriers = (np.arange(192) % 20 == 0)[:, None]
    shared = rng.normal(size=(192, 6))
    layers = {}
    for index in range(3):
        values = shared @ rng.normal(size=(6, features)) * index + rng.normal(size=(192, features))
        layers[f"layer{index}"] = (values + spike * carriers * rng.normal(size=features)).astype(np.float32)
    found = feed(GramAccumulator(group_size=96), layers).finish()
    np.testing.assert_allclose(found.similarity_without_pc1, by_hand(layers, 96, without=1), atol=2e-5)
    np.testing.assert_allclose(found.similarity, by_hand(layers, 96), atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("offset", [0, 10])
def test_what_rounding_leaves_beside_the_only_component_is_nothing(dtype, offset):
    rng = np.random.default_rng(0)
    single = {f"layer{i}": np.outer(rng.normal(size=128), rng.normal(size=30)) + offset for i in range(2)}
    found = feed(GramAccumulator(group_size=64), single, dtype=dtype).finish()
    assert not found.degenerate.any()
    assert np.isnan(found.similarity_without_pc1).all()


def test_half_precision_with_large_norms_is_safe():
    layers = features(offsets=(0, 0, 0))
    large = {name: values * 300 for name, values in layers.items()}
    half = feed(GramAccumulator(group_size=64), large, dtype=torch.float16).finish()
    exact = feed(GramAccumulator(group_size=64), layers, dtype=torch.float64).finish()
    np.testing.assert_allclose(half.similarity, exact.similarity, atol=1e-3)


def test_layers_of_two_models_are_compared_across():
    layers = features()
    accumulator = GramAccumulator(group_size=100)
    for start in range(0, 300, 100):
        index = np.arange(start, start + 100)
        for model, name in (("a", "layer0"), ("b", "layer1")):
            accumulator.update(model, layer("same"), index, torch.from_numpy(layers[name][index]))
        accumulator.end_batch()
    expected = by_hand({name: layers[name] for name in ("layer0", "layer1")}, 100)
    np.testing.assert_allclose(accumulator.finish().similarity, expected, atol=1e-11)


def test_batch_sizes_agree_within_the_stated_error():
    layers = features(samples=1024)
    found = [feed(GramAccumulator(group_size=size), layers).finish() for size in (32, 256)]
    error = np.hypot(found[0].standard_error, found[1].standard_error)
    off_diagonal = ~np.eye(3, dtype=bool)
    assert (np.abs(found[0].similarity - found[1].similarity)[off_diagonal] < 3 * error[off_diagonal]).all()


def test_three_samples_are_too_few():
    accumulator = feed(GramAccumulator(group_size=8), features(samples=3))
    with pytest.raises(AnalysisError, match="at least 4 samples in a batch; got 3 in all"):
        accumulator.finish()


def test_accumulators_of_other_settings_or_layers_are_not_merged():
    first = feed(GramAccumulator(group_size=64), features())
    with pytest.raises(AnalysisError, match="same settings"):
        first.merge(GramAccumulator(group_size=32))
    with pytest.raises(AnalysisError, match="one of them lacks layer 'layer3' of model 'model'"):
        first.merge(feed(GramAccumulator(group_size=64), features(offsets=(0, 0, 0, 0))))
