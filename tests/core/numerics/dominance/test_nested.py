"""Subsets of one group of samples: chains of nested ones, and HSIC on each of them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from outcrop.numerics import u_centre
from outcrop.numerics.dominance.nested import LayerSubsets, Subsets, nested_subsets, subset_sums
from outcrop.numerics.dominance.subset_components import subset_components

SAMPLES = 24


def masks_of(rankings, counts):
    """Return masks that leave out so many of the first of each ranking."""
    masks = np.ones((len(rankings) * len(counts), len(rankings[0])), dtype=bool)
    for row, (ranking, count) in enumerate((one, count) for one in rankings for count in counts):
        masks[row, ranking[:count]] = False
    return masks


@given(st.integers(0, 1 << 16), st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_chains_hold_every_subset_once_and_each_is_part_of_the_one_before(seed, rankings):
    rng = np.random.default_rng(seed)
    masks = masks_of([rng.permutation(SAMPLES) for _ in range(rankings)], (0, 1, 5, 12, 20))
    found = Subsets.of(masks)
    chains = nested_subsets(found.kept)
    assert sorted(subset for chain in chains for subset in chain) == list(range(len(found.kept)))
    for chain in found.chains:
        for place, subset in enumerate(chain.subsets):
            kept = np.flatnonzero(found.kept[subset])
            pairs = chain.pairs[: chain.ends[place]]
            expected = {int(first * SAMPLES + second) for first in kept for second in kept if first < second}
            assert set(pairs.tolist()) == expected
            assert len(pairs) == len(expected)


def test_fractions_of_each_ranking_make_a_chain():
    rng = np.random.default_rng(0)
    masks = masks_of([rng.permutation(SAMPLES) for _ in range(3)], (4, 8, 12, 16))
    chains = Subsets.of(masks).chains
    assert [len(chain.subsets) for chain in chains] == [4, 4, 4]


def test_masks_that_keep_the_same_samples_share_a_subset_and_too_few_have_none():
    masks = np.zeros((4, 6), dtype=bool)
    masks[[0, 2], :5] = True
    masks[1, 1:] = True
    masks[3, :3] = True
    found = Subsets.of(masks)
    assert len(found.kept) == 2
    assert found.of_mask[0] == found.of_mask[2] != found.of_mask[1]
    assert found.of_mask[3] == -1
    np.testing.assert_array_equal(found.kept[found.of_mask[:3]], masks[:3])
    assert found.counts.tolist() == [5, 5]


@pytest.mark.parametrize(
    ("samples", "rankings", "counts"),
    [
        (SAMPLES, 3, (0, 2, 9, 19)),
        # More pairs in a row, and more vectors, than are multiplied at a time.
        (700, 8, (0, 1, 2, 5, 9, 19, 50, 100, 200, 400, 600, 690)),
    ],
)
def test_sums_are_those_of_u_centred_matrices_of_the_samples_kept(samples, rankings, counts):
    rng = np.random.default_rng(3)
    scales = [4, 2, 1, 1, 1, 1, 1]
    layers = [rng.standard_normal((samples, 7)) * scales + shift for shift in (0.0, 1.0, -2.0)]
    subsets = Subsets.of(masks_of([rng.permutation(samples) for _ in range(rankings)], counts))
    kept = torch.from_numpy(subsets.kept).double()
    reduced = []
    for values in layers:
        gram = torch.from_numpy(values @ values.T)
        sums = kept * (kept @ gram - gram.diagonal())
        reduced.append(LayerSubsets(gram, sums, *subset_components(gram, kept)))
    found = subset_sums(reduced, subsets)
    for place, chosen in enumerate(subsets.kept):
        whole, without, vectors = [], [], []
        for values in layers:
            own = values[chosen] - values[chosen].mean(axis=0)
            left, sizes, _ = np.linalg.svd(own)
            whole.append(u_centre(own @ own.T).ravel())
            without.append(u_centre(own @ own.T - sizes[0] ** 2 * np.outer(left[:, 0], left[:, 0])).ravel())
            vectors.append(left[:, 0])
        np.testing.assert_allclose(found.hsic[place], np.array(whole) @ np.array(whole).T, rtol=1e-10)
        np.testing.assert_allclose(
            found.hsic_without_pc1[place], np.array(without) @ np.array(without).T, rtol=1e-8, atol=1e-6
        )
        np.testing.assert_allclose(found.alignment[place], (np.array(vectors) @ np.array(vectors).T) ** 2, atol=1e-8)
