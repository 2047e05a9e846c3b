import numpy as np
import pytest

from outcrop.numerics import (
    DEFAULT_THRESHOLDS,
    BlockThresholds,
    Interval,
    similar_intervals,
    weigh_blocks,
    weigh_interval,
)


def square(layers, *intervals, inside=0.95, outside=0.3):
    similarity = np.full((layers, layers), outside)
    for start, stop in intervals:
        similarity[start:stop, start:stop] = inside
    np.fill_diagonal(similarity, 1)
    return similarity


def weigh(similarity, interval, *, share=(0.8, 0.1), without=0.1):
    inside = np.zeros(len(similarity), dtype=bool)
    inside[slice(*interval)] = True
    return weigh_blocks(
        similarity,
        pc_share=np.where(inside, *share),
        pc_alignment=np.where(np.outer(inside, inside), 0.9, 0.0),
        similarity_without_pc=without if isinstance(without, np.ndarray) else square(len(similarity), outside=without),
    )


def test_the_thresholds_are_the_frozen_ones():
    assert (
        BlockThresholds(
            similarity=0.9,
            slack=0.1,
            quantile=0.1,
            minimum_layers=4,
            minimum_share=0.1,
            support_ratio=1.5,
            support_share=0.5,
            removal_share=0.5,
        )
        == DEFAULT_THRESHOLDS
    )


@pytest.mark.parametrize("interval", [(3, 9), (0, 5), (7, 12), (0, 12), (4, 8)])
def test_a_planted_interval_is_found_exactly(interval):
    assert similar_intervals(square(12, interval)) == [Interval(*interval)]


def test_several_blocks_are_found_in_layer_order():
    assert similar_intervals(square(30, (2, 8), (10, 25))) == [Interval(2, 8), Interval(10, 25)]
    assert similar_intervals(square(20, (0, 10), (10, 20))) == [Interval(0, 10), Interval(10, 20)]


def test_too_short_or_too_dissimilar_intervals_are_none():
    assert similar_intervals(square(12, (3, 6))) == []
    assert similar_intervals(square(60, (3, 8))) == []  # a tenth of 60 layers is 6
    assert similar_intervals(square(60, (3, 9))) == [Interval(3, 9)]
    assert similar_intervals(square(12, (3, 9), inside=0.89)) == []
    assert similar_intervals(square(3, (0, 3))) == []


def test_a_layer_that_departs_from_the_others_ends_the_interval():
    similarity = square(40, (0, 40), inside=0.99)
    similarity[20], similarity[:, 20] = 0.5, 0.5
    similarity[20, 20] = 1
    assert similar_intervals(similarity) == [Interval(0, 20), Interval(21, 40)]


def test_a_checkerboard_is_no_interval():
    parity = np.arange(20) % 2
    assert similar_intervals(np.where(parity[:, None] == parity[None, :], 0.99, 0.6)) == []


def test_a_degenerate_layer_splits_an_interval():
    similarity = square(12, (0, 12))
    similarity[5], similarity[:, 5] = np.nan, np.nan
    assert similar_intervals(similarity) == [Interval(0, 5), Interval(6, 12)]
    assert similar_intervals(np.full((6, 6), np.nan)) == []


def test_evidence_is_what_the_maps_say():
    (found,) = weigh(square(12, (3, 9)), (3, 9))
    assert found.score == 0.5
    assert found.similarity == pytest.approx(0.95)
    assert found.contrast == pytest.approx(0.65)
    assert (found.pc_support, found.pc_support_outside) == pytest.approx((0.8, 0.1))
    assert found.pc_alignment == pytest.approx(0.9)
    assert found.removal_effect == 0.5
    assert found.is_block


def test_without_a_dominant_component_it_is_no_block():
    (found,) = weigh(square(12, (3, 9)), (3, 9), share=(0.14, 0.1))
    assert not found.supported
    assert found.dissolved
    assert not found.is_block


def test_a_square_that_stays_without_the_component_is_no_block():
    (found,) = weigh(square(12, (3, 9)), (3, 9), without=square(12, (3, 9), inside=0.7, outside=0.1))
    assert found.supported
    assert not found.dissolved
    assert found.similarity_without_pc == pytest.approx(0.7)
    assert (found.contrast, found.contrast_without_pc) == pytest.approx((0.65, 0.6))
    assert found.removal_effect == 0.5  # nothing that remains is similar enough, and yet the square is where it was


def test_layers_that_stay_similar_are_a_block_where_the_others_become_as_similar():
    (found,) = weigh(square(12, (3, 9)), (3, 9), without=square(12, outside=0.93))
    assert found.is_block
    assert found.contrast_without_pc == pytest.approx(0)
    assert found.removal_effect == 0


@pytest.mark.parametrize(("left", "dissolved"), [(0.32, True), (0.33, False), (-0.2, True)])
def test_at_most_half_of_the_contrast_may_be_left(left, dissolved):
    (found,) = weigh(square(12, (3, 9)), (3, 9), without=square(12, (3, 9), inside=0.5 + left, outside=0.5))
    assert found.contrast_without_pc == pytest.approx(left)
    assert found.dissolved == dissolved


def test_an_interval_that_does_not_stand_out_has_nothing_to_dissolve():
    similarity = square(12, (3, 9), inside=0.91, outside=0.95)
    found = weigh_interval(
        Interval(3, 9),
        similarity,
        pc_share=np.full(12, 0.5),
        pc_alignment=similarity,
        similarity_without_pc=square(12, (3, 9), inside=0.1, outside=0.9),
    )
    assert found.contrast == pytest.approx(-0.04)
    assert not found.dissolved
    assert not found.is_block


def test_where_all_layers_are_similar_there_is_no_square_to_dissolve():
    (found,) = weigh(square(6, (0, 6)), (0, 6), share=(0.9, 0))
    assert found.supported
    assert np.isnan(found.contrast_without_pc)
    assert not found.dissolved
    assert not found.is_block


def test_with_nothing_outside_the_share_alone_decides():
    (found,) = weigh(square(6, (0, 6)), (0, 6), share=(0.51, 0))
    assert found.supported
    assert np.isnan(found.contrast)
    assert np.isnan(found.pc_support_outside)
    assert not weigh(square(6, (0, 6)), (0, 6), share=(0.49, 0))[0].supported


def test_a_degenerate_layer_outside_leaves_the_others_to_compare_with():
    similarity = square(12, (3, 9))
    similarity[0], similarity[:, 0] = np.nan, np.nan
    shares = np.where(np.arange(12) == 0, np.nan, np.where((np.arange(12) > 2) & (np.arange(12) < 9), 0.6, 0.45))
    (found,) = weigh_blocks(similarity, pc_share=shares, pc_alignment=similarity, similarity_without_pc=square(12))
    assert found.contrast == pytest.approx(0.65)
    assert found.pc_support_outside == pytest.approx(0.45)
    assert not found.supported


def nothing_left(without, *layers):
    without[list(layers)], without[:, list(layers)] = np.nan, np.nan
    return without


def test_a_layer_with_nothing_left_does_not_hide_a_square_that_stays():
    (found,) = weigh(square(12, (3, 9)), (3, 9), without=nothing_left(square(12, (3, 9), inside=1.0, outside=0.0), 8))
    assert not found.dissolved
    assert found.contrast_without_pc == pytest.approx(1)
    assert found.removal_effect == 0


def test_nothing_left_of_any_layer_leaves_it_unknown_whether_the_interval_dissolves():
    (found,) = weigh(square(12, (3, 9)), (3, 9), without=nothing_left(square(12), *range(12)))
    assert found.supported
    assert not found.dissolved
    assert not found.is_block
    assert np.isnan(found.removal_effect)
    assert np.isnan(found.contrast_without_pc)
    assert np.isnan(found.similarity_without_pc)


def test_an_interval_that_dissolves_whatever_a_layer_with_nothing_left_does_is_a_block():
    (found,) = weigh(square(12, (3, 9)), (3, 9), without=nothing_left(square(12), 5))
    assert found.is_block
    assert found.removal_effect == 0.5


@pytest.mark.parametrize("layers", [(), (4,), (3, 8), (5, 6, 7)])
def test_unknown_similarity_makes_no_block_of_what_known_similarity_may_not(layers):
    rng = np.random.default_rng(0)
    for _ in range(30):
        known = square(12, (3, 9), inside=rng.uniform(0.7, 1), outside=rng.uniform(0, 1))
        (found,) = weigh(square(12, (3, 9)), (3, 9), without=nothing_left(known.copy(), *layers))
        (whole,) = weigh(square(12, (3, 9)), (3, 9), without=known)
        assert whole.dissolved or not found.dissolved
        assert np.isnan(found.removal_effect) or found.removal_effect <= whole.removal_effect


def test_with_degenerate_layers_alone_outside_the_share_decides():
    similarity = nothing_left(square(8, (0, 6)), 6, 7)
    for share, supported in ((0.51, True), (0.49, False)):
        (found,) = weigh_blocks(
            similarity,
            pc_share=np.where(np.arange(8) < 6, share, np.nan),
            pc_alignment=similarity,
            similarity_without_pc=square(8),
        )
        assert np.isnan(found.pc_support_outside)
        assert found.supported == supported


def test_a_map_that_is_not_square_is_refused():
    with pytest.raises(ValueError, match=r"must be square \(layer, layer\); got shape \(3, 4\)"):
        similar_intervals(np.zeros((3, 4)))
