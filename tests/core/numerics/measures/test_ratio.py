import numpy as np
import pytest

from outcrop.numerics import bootstrap_counts, bootstrap_similarity, jackknife_error, similarity_ratio
from outcrop.numerics.stream.gram_statistics import GroupSums


def hsic_groups(groups=12, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(groups, 3, 50)) + rng.normal(size=(groups, 1, 50))
    return x @ x.transpose(0, 2, 1)


def test_the_ratio_is_that_of_means_not_the_mean_of_ratios():
    groups = hsic_groups()
    total = groups.sum(0)
    expected = total[0, 1] / np.sqrt(total[0, 0] * total[1, 1])
    assert similarity_ratio(total)[0, 1] == pytest.approx(expected)
    assert similarity_ratio(groups)[:, 0, 1].mean() != pytest.approx(expected, abs=1e-4)


def test_a_layer_without_hsic_of_its_own_is_nan_and_touches_no_other():
    total = hsic_groups().sum(0)
    total[1, 1] = -1e-9
    ratio = similarity_ratio(total)
    assert np.isnan(ratio[1]).all()
    assert np.isnan(ratio[:, 1]).all()
    assert ratio[0, 2] == pytest.approx(total[0, 2] / np.sqrt(total[0, 0] * total[2, 2]))


def test_the_jackknife_error_is_the_spread_over_repeated_experiments():
    errors = [jackknife_error(hsic_groups(20, seed))[0, 1] for seed in range(200)]
    values = [similarity_ratio(hsic_groups(20, seed).sum(0))[0, 1] for seed in range(200)]
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.15)


def test_one_group_has_no_error():
    assert np.isnan(jackknife_error(hsic_groups(1))).all()


def test_the_bootstrap_spreads_as_the_jackknife_says():
    groups = hsic_groups(20)
    drawn = np.stack(list(bootstrap_similarity(groups, replicates=400, rng=np.random.default_rng(0))))
    assert drawn.shape == (400, 3, 3)
    np.testing.assert_allclose(drawn.std(0)[0, 1], jackknife_error(groups)[0, 1], rtol=0.3)


def test_replicates_draw_as_many_groups_as_there_are_and_each_equally_often():
    counts = bootstrap_counts(7, replicates=4000, rng=np.random.default_rng(0))
    assert counts.shape == (4000, 7)
    assert (counts.sum(1) == 7).all()
    np.testing.assert_allclose(counts.mean(0), 1, atol=0.06)
    groups = hsic_groups(7)
    drawn = next(iter(bootstrap_similarity(groups, replicates=1, rng=np.random.default_rng(3))))
    (count,) = bootstrap_counts(7, replicates=1, rng=np.random.default_rng(3))
    np.testing.assert_allclose(drawn, similarity_ratio(np.tensordot(count, groups, axes=1)))


def test_maps_between_two_lists_of_layers_are_parts_of_the_map_of_all():
    groups = hsic_groups()
    cross, own = groups[:, :1, 1:], np.diagonal(groups, axis1=1, axis2=2)
    pair = own[:, :1], own[:, 1:]
    summed = pair[0].sum(0), pair[1].sum(0)
    np.testing.assert_allclose(similarity_ratio(cross.sum(0), own=summed), similarity_ratio(groups.sum(0))[:1, 1:])
    np.testing.assert_allclose(jackknife_error(cross, own=pair), jackknife_error(groups)[:1, 1:])


@pytest.mark.parametrize("batches", [1, 5, 6, 7, 12, 13, 100])
def test_groups_stay_few_and_sum_to_all_batches(batches):
    sums = GroupSums(limit=6)
    values = np.random.default_rng(0).normal(size=(batches, 2, 2))
    for value in values:
        sums.add(value)
    stacked = sums.stacked()
    assert min(batches, 3) <= len(stacked) <= 6
    np.testing.assert_allclose(stacked.sum(0), values.sum(0), atol=1e-12)


@pytest.mark.parametrize("limit", [2, 3, 5, 6, 11])
def test_groups_hold_equally_many_batches_but_for_the_last(limit):
    sums = GroupSums(limit=limit)
    for batch in range(1, 100):
        sums.add(np.ones((1, 1)))
        assert sums.batches == tuple(sums.stacked().ravel())  # each batch counts 1, so sums are counts
        assert sum(sums.batches) == batch
        assert len(sums.batches) <= limit
        assert set(sums.batches[:-1]) <= {sums.batches_per_group}
        assert sums.batches[-1] <= sums.batches_per_group


@pytest.mark.parametrize("limit", [5, 6, 40])
@pytest.mark.parametrize(("ours", "theirs"), [(3, 70), (70, 3), (13, 13), (0, 9), (9, 0), (1, 41)])
def test_merging_leaves_one_more_group_that_holds_fewer_at_most(limit, ours, theirs):
    first, second = GroupSums(limit=limit), GroupSums(limit=limit)
    for sums, count in ((first, ours), (second, theirs)):
        for _ in range(count):
            sums.add(np.ones((1, 1)))
    first.merge(second.stacked(), second.batches)
    for added in range(30):
        assert first.batches == tuple(first.stacked().ravel())
        assert sum(first.batches) == ours + theirs + added
        assert len(first.batches) <= limit
        assert max(first.batches) <= first.batches_per_group
        assert sum(count < first.batches_per_group for count in first.batches) <= 2
        first.add(np.ones((1, 1)))


def test_merged_groups_sum_to_all_batches_and_stay_few():
    first, second = GroupSums(limit=6), GroupSums(limit=6)
    values = np.random.default_rng(0).normal(size=(11, 2, 2))
    for index, value in enumerate(values):
        (first if index < 5 else second).add(value)
    first.merge(second.stacked(), second.batches)
    assert len(first.stacked()) <= 6
    np.testing.assert_allclose(first.stacked().sum(0), values.sum(0), atol=1e-12)
    first.add(values[0])
    np.testing.assert_allclose(first.stacked().sum(0), values.sum(0) + values[0], atol=1e-12)
