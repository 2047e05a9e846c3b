"""Weigh the evidence that an interval of similar layers is a block.

The papers identify block structure by eye: a bright square in the CKA heatmap, on layers whose
variance one shared principal component dominates, and which the map without that component no longer shows
(arXiv 2202.07184, sections 3 and 4, appendix C; arXiv 2010.15327, section 5). Here the square is an interval that
meets fixed thresholds, and it is called a block only when that component's share is raised inside it and the square
goes with the component.

A square is a difference: layers more similar to one another than to the others. So what removing the component does
to it is measured on its contrast, the mean CKA inside less that between inside and outside, and not on
the similarity inside alone. The layers of a residual network stay similar to their neighbours, with a block or
without one, whatever is removed; and in a network whose representations collapse with depth the layers become less
similar without the component while the square stays as it was. Neither is what the papers show. Plain smooth
similarity between neighbouring layers fails both tests; where all layers are similar, there is no square.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from outcrop.numerics.blocks.intervals import (
    DEFAULT_THRESHOLDS,
    BlockThresholds,
    Interval,
    longest_length,
    minimum_length,
    pairs_of,
    similar_intervals,
)


@dataclass(frozen=True)
class BlockEvidence:
    """One interval of similar layers, and what speaks for calling it a block.

    Attributes:
        interval: The layers, by position in the map.
        score: Share of all layers that lie in the interval.
        similarity: Mean CKA between different layers inside.
        contrast: That mean less the mean CKA between layers inside and outside; NaN where nothing is outside.
            Degenerate layers (NaN) count as layers of the map, and have no part in means over what is outside
            (:class:`BlockThresholds` states the rule).
        pc_support: Mean share of variance of the first principal component inside.
        pc_support_outside: The same outside; NaN where nothing is outside.
        pc_alignment: Mean squared cosine between the first principal components of different layers inside.
        similarity_without_pc: ``similarity`` when the first principal component is removed from every layer, over the
            layers of which something is left; NaN where there are no two.
        contrast_without_pc: ``contrast`` likewise. NaN also where whether the interval dissolves hangs on layers of
            which nothing is left.
        removal_effect: ``score`` less the score of the longest similar interval left inside when the
            first principal component is removed from every layer; layers of which nothing is left count as similar.
            NaN where whether more than half of the interval stays hangs on such layers. No part of the verdict: layers
            can stay similar while the square is gone.
        supported: The share of variance of the first principal component is raised inside, against outside.
        dissolved: Removing it dissolves the square, for certain: there is a contrast, and little of it is left.
    """

    interval: Interval
    score: float
    similarity: float
    contrast: float
    pc_support: float
    pc_support_outside: float
    pc_alignment: float
    similarity_without_pc: float
    contrast_without_pc: float
    removal_effect: float
    supported: bool
    dissolved: bool

    @property
    def is_block(self) -> bool:
        """Whether all three signatures agree: similarity, support and removal."""
        return self.supported and self.dissolved


def weigh_blocks(
    similarity: Float[np.ndarray, "layer layer"],
    *,
    pc_share: Float[np.ndarray, " layer"],
    pc_alignment: Float[np.ndarray, "layer layer"],
    similarity_without_pc: Float[np.ndarray, "layer layer"],
    thresholds: BlockThresholds = DEFAULT_THRESHOLDS,
) -> list[BlockEvidence]:
    """Return every interval of similar layers with its evidence, whether or not it is a block.

    Args:
        similarity: CKA between layers, in topological order.
        pc_share: Share of variance of each layer's first principal component.
        pc_alignment: Squared cosine between first principal components of layers.
        similarity_without_pc: CKA between layers without their first principal components; NaN where nothing is left.
        thresholds: What qualifies.

    Raises:
        ValueError: The map is not a square matrix.
    """
    return [
        weigh_interval(
            interval,
            similarity,
            pc_share=pc_share,
            pc_alignment=pc_alignment,
            similarity_without_pc=similarity_without_pc,
            thresholds=thresholds,
        )
        for interval in similar_intervals(similarity, thresholds)
    ]


def weigh_interval(
    interval: Interval,
    similarity: Float[np.ndarray, "layer layer"],
    *,
    pc_share: Float[np.ndarray, " layer"],
    pc_alignment: Float[np.ndarray, "layer layer"],
    similarity_without_pc: Float[np.ndarray, "layer layer"],
    thresholds: BlockThresholds = DEFAULT_THRESHOLDS,
) -> BlockEvidence:
    """Return the evidence for one interval, found here or named by the caller; see :func:`weigh_blocks`."""
    layers = len(similarity)
    window = slice(interval.start, interval.stop)
    inside = np.zeros(layers, dtype=bool)
    inside[window] = True
    similar, contrast = square_of(similarity, interval)
    support = float(np.mean(pc_share[inside]))
    outside = mean_of_known(pc_share[~inside])
    # What is degenerate to begin with is nothing outside, with the component or without it.
    kept = inside | ~np.isnan(np.diag(similarity))
    without = np.where(np.outer(kept, kept), similarity_without_pc, np.nan)
    similar_without, contrast_without = square_of(without, interval)
    within, across = pairs_of(without[window, window]), without[np.ix_(inside, ~inside & kept)]
    least, most = _contrast_within_bounds(within, across)
    limit = thresholds.removal_share * contrast
    dissolved = bool(contrast > 0 and most <= limit)
    known = dissolved or bool(least > limit)
    return BlockEvidence(
        interval=interval,
        score=interval.length / layers,
        similarity=similar,
        contrast=contrast,
        pc_support=support,
        pc_support_outside=outside,
        pc_alignment=_mean_of_pairs(pc_alignment[window, window]),
        similarity_without_pc=similar_without,
        contrast_without_pc=contrast_without if known else float("nan"),
        removal_effect=removal_effect(interval, similarity_without_pc, thresholds),
        supported=support >= (thresholds.support_share if np.isnan(outside) else thresholds.support_ratio * outside),
        dissolved=dissolved,
    )


def square_of(similarity: Float[np.ndarray, "layer layer"], interval: Interval) -> tuple[float, float]:
    """Return the mean similarity inside an interval, and its contrast to that between inside and outside.

    Means are over what is known; NaN where nothing is, or where nothing is outside.
    """
    window = slice(interval.start, interval.stop)
    inside = mean_of_known(pairs_of(similarity[window, window]))
    across = np.delete(similarity[window], window, axis=1)
    return inside, inside - mean_of_known(across)


def removal_effect(
    interval: Interval,
    similarity_without_pc: Float[np.ndarray, "layer layer"],
    thresholds: BlockThresholds = DEFAULT_THRESHOLDS,
) -> float:
    """Return the score of an interval less that of the longest similar one left inside without the component.

    Args:
        interval: Of similar layers.
        similarity_without_pc: CKA between layers without their first principal components; NaN where nothing is left.
        thresholds: What counts as similar.

    Returns:
        A share of all layers; NaN where whether more than half of the interval stays hangs on layers of which
        nothing is left.
    """
    layers = len(similarity_without_pc)
    # The block's own minimum length is what a remnant has to reach to count as one.
    least = minimum_length(layers, thresholds)
    without = similarity_without_pc[interval.start : interval.stop, interval.start : interval.stop]
    limit = interval.length / 2
    # What may remain grows with every similarity, so the unknown ones at their greatest bound it.
    remaining = longest_length(np.where(np.isnan(without), 1.0, without), least, thresholds)
    certain = remaining <= limit or longest_length(without, least, thresholds) > limit
    return (interval.length - remaining) / layers if certain else float("nan")


def mean_of_known(values: NDArray[np.floating]) -> float:
    """Return the mean of the values that are not NaN, NaN where there is none."""
    known = values[~np.isnan(values)]
    return float(np.mean(known)) if known.size else float("nan")


def _contrast_within_bounds(within: NDArray[np.floating], across: NDArray[np.floating]) -> tuple[float, float]:
    """Return the least and the greatest contrast that unknown similarities, each from 0 to 1, leave possible."""
    if not across.size:
        return float("nan"), float("nan")
    least = np.mean(np.nan_to_num(within, nan=0.0)) - np.mean(np.nan_to_num(across, nan=1.0))
    most = np.mean(np.nan_to_num(within, nan=1.0)) - np.mean(np.nan_to_num(across, nan=0.0))
    return float(least), float(most)


def _mean_of_pairs(square: NDArray[np.floating]) -> float:
    return float(np.mean(pairs_of(square)))
