import numpy as np
import pytest
import torch

from outcrop.errors import AnalysisError, ParameterError
from outcrop.models.model import Layer
from outcrop.numerics import (
    GramAccumulator,
    InfluenceAccumulator,
    gram_influence,
    gram_matrix,
    sample_influence,
    similarity_without,
    unbiased_hsic,
)


def slow_cka(grams, batches=None):
    """Mean over pairs of the ratio of summed HSIC1, from the definition."""
    batches = [np.arange(len(grams[0]))] if batches is None else batches
    sums = np.array(
        [
            [
                sum(len(b) * (len(b) - 3) * unbiased_hsic(k[np.ix_(b, b)], m[np.ix_(b, b)]) for b in batches)
                for m in grams
            ]
            for k in grams
        ]
    )
    upper = np.triu_indices(len(grams), 1)
    scale = np.sqrt(np.diag(sums))
    return float((sums / np.outer(scale, scale))[upper].mean())


def related_layers(seed, *, samples=24, layers=3):
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(samples, 5))
    return [common @ rng.normal(size=(5, 7)) + 0.7 * rng.normal(size=(samples, 7)) + 3 for _ in range(layers)]


def layer(index):
    return Layer(f"l{index}", "block", index, (7,), "float64", "add", ("feature",))


def stream(accumulator, arrays, batches):
    for batch in batches:
        for index, values in enumerate(arrays):
            accumulator.update("net", layer(index), batch, torch.from_numpy(values[batch]))
        accumulator.end_batch()
    return accumulator


def keys(count):
    return [("net", f"l{index}") for index in range(count)]


@pytest.mark.parametrize("kernel", ["linear", "rbf", "cosine"])
@pytest.mark.parametrize("count", [2, 3])
def test_leaving_out_each_sample_in_closed_form_is_leaving_it_out(kernel, count):
    arrays = related_layers(0, layers=count)
    squared = 4.0 if kernel == "rbf" else None
    grams = [gram_matrix(values, kernel=kernel, squared_distance=squared) for values in arrays]
    found = gram_influence(grams)
    every = np.arange(24)
    assert found.similarity == pytest.approx(slow_cka(grams), abs=1e-12)
    slow = [slow_cka(grams) - slow_cka(grams, [np.delete(every, i)]) for i in every]
    np.testing.assert_allclose(found.change, slow, rtol=0, atol=1e-10)


def test_features_give_what_their_kernel_matrices_give():
    arrays = related_layers(1, layers=2)
    found = sample_influence(*[values.reshape(24, 7, 1) for values in arrays])
    expected = gram_influence([gram_matrix(values) for values in arrays])
    np.testing.assert_allclose(found.change, expected.change, atol=1e-12)
    np.testing.assert_allclose(found.share, expected.share, atol=1e-12)
    assert sample_influence(*arrays, kernel="rbf", bandwidth=1.0).similarity != pytest.approx(found.similarity)


def test_shares_sum_to_one_and_give_the_effective_number_of_samples():
    found = sample_influence(*related_layers(2))
    assert found.share.sum() == pytest.approx(1, abs=1e-12)
    assert found.effective_samples == pytest.approx(1 / (found.share**2).sum())


@pytest.mark.parametrize("dropped", [[0], [3, 17], list(range(20)), []])
def test_a_set_of_samples_is_left_out_exactly(dropped):
    grams = [gram_matrix(values) for values in related_layers(3)]
    kept = np.delete(np.arange(24), dropped)
    assert similarity_without(grams, np.array(dropped, int)) == pytest.approx(slow_cka(grams, [kept]), abs=1e-10)
    mask = np.isin(np.arange(24), dropped)
    assert similarity_without(grams, mask) == similarity_without(grams, np.array(dropped, int))


def test_leaving_out_one_sample_as_a_set_is_its_change():
    grams = [gram_matrix(values) for values in related_layers(4)]
    found = gram_influence(grams)
    assert found.similarity - similarity_without(grams, [5]) == pytest.approx(found.change[5], abs=1e-12)


def test_the_samples_that_carry_a_planted_similarity_have_the_largest_influence():
    rng = np.random.default_rng(5)
    carriers = np.zeros(400, bool)
    carriers[rng.choice(400, 20, replace=False)] = True
    arrays = [rng.normal(size=(400, 30)) + 40 * np.outer(carriers, rng.normal(size=30) / 30**0.5) for _ in range(4)]
    found = sample_influence(*arrays)
    assert set(np.argsort(-found.share)[:20]) == set(np.flatnonzero(carriers))
    assert set(np.argsort(-found.change)[:20]) == set(np.flatnonzero(carriers))
    assert found.share[carriers].sum() > 0.9
    assert 15 < found.effective_samples < 30
    grams = [gram_matrix(values) for values in arrays]
    others = rng.choice(np.flatnonzero(~carriers), 20, replace=False)
    assert found.similarity > 0.9
    assert abs(similarity_without(grams, carriers)) < 0.1
    assert similarity_without(grams, others) == pytest.approx(found.similarity, abs=0.01)


def test_independent_layers_are_carried_by_no_one():
    rng = np.random.default_rng(6)
    found = sample_influence(*[rng.normal(size=(200, 40)) for _ in range(3)])
    assert abs(found.similarity) < 0.02
    assert np.abs(found.change).max() < 0.02


def test_streamed_influence_is_leaving_a_sample_out_of_its_batch():
    arrays = related_layers(7, samples=30)
    order = np.random.default_rng(0).permutation(30)
    batches = [order[:12], order[12:24], order[24:]]
    grams = [gram_matrix(values) for values in arrays]
    (found,) = stream(InfluenceAccumulator([keys(3)], group_size=12), arrays, batches).finish()
    reference = stream(GramAccumulator(group_size=12), arrays, batches).finish().similarity
    assert found.similarity == pytest.approx(reference[np.triu_indices(3, 1)].mean(), abs=1e-12)
    slow = [found.similarity - slow_cka(grams, [batch[batch != i] for batch in batches]) for i in range(30)]
    np.testing.assert_allclose(found.change, slow, rtol=0, atol=1e-10)
    assert found.share.sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("kernel", ["rbf", "cosine"])
def test_streamed_influence_is_of_the_kernel_that_the_map_is_of(kernel):
    arrays = related_layers(8, samples=24)
    batches = [np.arange(12), np.arange(12, 24)]
    reference = stream(GramAccumulator(group_size=12, kernel=kernel), arrays, batches).finish()
    bandwidths = dict(zip(keys(3), reference.bandwidths.tolist(), strict=True)) if kernel == "rbf" else None
    accumulator = InfluenceAccumulator([keys(3)], group_size=12, kernel=kernel, bandwidths=bandwidths)
    (found,) = stream(accumulator, arrays, batches).finish()
    assert found.similarity == pytest.approx(reference.similarity[np.triu_indices(3, 1)].mean(), abs=1e-10)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_batch_with_values_that_are_not_finite_does_not_pass_for_one_without_structure(bad):
    arrays = related_layers(12, layers=4)
    arrays[2][15, 0] = bad
    batches = [np.arange(12), np.arange(12, 24)]
    accumulator = InfluenceAccumulator([keys(3), [keys(4)[0], keys(4)[3]]], group_size=12)
    spoilt, sound = stream(accumulator, arrays, batches).finish()
    assert np.isnan([spoilt.similarity, spoilt.effective_samples, *spoilt.share, *spoilt.change]).all()
    assert np.isfinite([sound.similarity, *sound.share, *sound.change]).all()


def test_several_blocks_and_pairs_are_followed_at_once():
    arrays = related_layers(9, layers=4)
    batches = [np.arange(24)]
    blocks = [keys(4)[:3], [("net", "l0"), ("net", "l3")]]
    block, pair = stream(InfluenceAccumulator(blocks, group_size=24), arrays, batches).finish()
    np.testing.assert_allclose(block.change, sample_influence(*arrays[:3]).change, atol=1e-12)
    np.testing.assert_allclose(pair.change, sample_influence(arrays[0], arrays[3]).change, atol=1e-12)


def test_parts_of_the_samples_merge_whatever_their_size():
    arrays = [values * np.where(np.arange(24) < 12, 1.0, 64.0)[:, None] for values in related_layers(10)]
    batches = [np.arange(12), np.arange(12, 24)]
    whole = stream(InfluenceAccumulator([keys(3)], group_size=12), arrays, batches)
    first = stream(InfluenceAccumulator([keys(3)], group_size=12), arrays, batches[:1])
    first.merge(stream(InfluenceAccumulator([keys(3)], group_size=12), arrays, batches[1:]))
    np.testing.assert_allclose(first.finish()[0].change, whole.finish()[0].change, rtol=1e-10)


def test_long_blocks_are_followed_at_evenly_spread_layers():
    accumulator = InfluenceAccumulator([keys(100), keys(3)], layer_limit=4)
    assert accumulator.followed() == (tuple(keys(100)[i] for i in (0, 33, 66, 99)), tuple(keys(3)))


def test_samples_that_no_batch_takes_have_no_influence():
    arrays = related_layers(11, samples=15)
    (found,) = stream(InfluenceAccumulator([keys(3)], group_size=12), arrays, [np.arange(3, 15), np.arange(3)]).finish()
    assert np.isnan(found.share[:3]).all()
    assert found.share[3:].sum() == pytest.approx(1)


def test_without_one_of_the_two_samples_that_differ_there_is_no_similarity():
    values = np.zeros((6, 2))
    values[4:] = 1
    found = gram_influence([values @ values.T] * 2)
    assert np.isnan(found.change).tolist() == [False] * 4 + [True] * 2
    assert found.similarity == pytest.approx(1)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ([np.zeros((5, 2))], "give at least 2; got 1"),
        ([np.zeros((5, 2)), np.zeros((6, 2))], "must have the same samples; got 5, 6"),
        ([np.zeros((3, 2))] * 2, "needs at least 4 samples; got 3"),
    ],
)
def test_layers_that_cannot_be_compared_are_refused(arrays, message):
    with pytest.raises(ParameterError, match=message):
        sample_influence(*arrays)


def test_too_few_samples_may_not_be_left():
    grams = [gram_matrix(values) for values in related_layers(0)]
    with pytest.raises(ParameterError, match="at least 4 samples; 3 would be left of 24"):
        similarity_without(grams, np.arange(21))


@pytest.mark.parametrize(
    ("blocks", "options", "message"),
    [
        ([keys(1)], {}, "name at least 2 of a block; got 1"),
        ([keys(2)], {"group_size": 3}, "group_size must be at least 4, which HSIC1 needs; got 3"),
        ([keys(2)], {"layer_limit": 1}, "layer_limit must be at least 2, a pair of layers; got 1"),
        ([keys(2)], {"kernel": "rfb"}, r"Unknown kernel 'rfb'.*rbf"),
        ([keys(2)], {"kernel": "rbf"}, "rbf kernel needs a bandwidth of layer 'l0' of model 'net'"),
    ],
)
def test_options_out_of_range_are_refused(blocks, options, message):
    with pytest.raises(ParameterError, match=message):
        InfluenceAccumulator(blocks, **options)


def test_a_layer_that_gives_no_values_is_named():
    accumulator = InfluenceAccumulator([keys(3)], group_size=24)
    with pytest.raises(AnalysisError, match="Layer 'l2' of model 'net' gave no values; the influence on a block needs"):
        stream(accumulator, related_layers(0, layers=2), [np.arange(24)])


def test_accumulators_of_other_blocks_do_not_merge():
    with pytest.raises(AnalysisError, match="Only accumulators of the same blocks and settings can be merged"):
        InfluenceAccumulator([keys(3)]).merge(InfluenceAccumulator([keys(2)]))


def test_no_batch_is_no_result():
    with pytest.raises(AnalysisError, match="Influence needs at least 4 samples in a batch"):
        InfluenceAccumulator([keys(3)]).finish()
