"""Find blocks of mutually similar, contiguous layers in a similarity map, and weigh the evidence.

The papers identify block structure by eye: a bright square in the CKA heatmap, on layers whose
variance one shared principal component dominates (arXiv 2202.07184, sections 3 and 4; arXiv 2010.15327,
section 5). Here the square is an interval that meets fixed thresholds, and it is called a block only
when removing the first principal component dissolves it and that component's share is raised inside it. Plain
smooth similarity between neighbouring layers meets the first test and fails the others.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray


@dataclass(frozen=True)
class BlockThresholds:
    """What counts as a block. Fixed before any bundled model was trained, and never tuned on one.

    What is not known (NaN) never speaks for a block. Degenerate layers end an interval; means over what lies outside
    leave them out, and where no other layer is outside, it counts as nothing outside. A layer of which
    removing the first component leaves rounding only has no similarity to tell without it: an interval is
    dissolved only if it would be even if such layers stayed similar to all others.

    Attributes:
        similarity: Least mean CKA over all pairs of different layers of the interval.
        slack: The 10 % quantile of those pairs may lie this much lower, and so may the mean CKA of any one
            layer with the others (without that, a long block takes in its first dissimilar neighbour).
        quantile: The quantile that the slack applies to.
        minimum_layers: Least number of layers of a block.
        minimum_share: Least share of all layers, whichever asks for more.
        support_ratio: Mean share of variance of the first principal component inside the block, as a multiple of
            its mean outside.
        support_share: The same share where nothing lies outside the block to compare with: no layer, or degenerate
            ones only.
        removal_share: Removing the first component must leave at most this share of the block's length.
    """

    similarity: float = 0.9
    slack: float = 0.1
    quantile: float = 0.1
    minimum_layers: int = 4
    minimum_share: float = 0.1
    support_ratio: float = 1.5
    support_share: float = 0.5
    removal_share: float = 0.5


DEFAULT_THRESHOLDS = BlockThresholds()


@dataclass(frozen=True)
class Interval:
    """Layers ``start`` to ``stop - 1`` of a map."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        return self.stop - self.start


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
        removal_effect: ``score`` less the score of the longest similar interval left inside when the
            first principal component is removed from every layer; layers of which nothing is left count as similar.
            NaN where whether that dissolves the interval hangs on such layers.
        supported: The share of variance of the first principal component is raised inside, against outside.
        dissolved: Removing it dissolves the interval, for certain.
    """

    interval: Interval
    score: float
    similarity: float
    contrast: float
    pc_support: float
    pc_support_outside: float
    pc_alignment: float
    removal_effect: float
    supported: bool
    dissolved: bool

    @property
    def is_block(self) -> bool:
        """Whether all three signatures agree: similarity, support and removal."""
        return self.supported and self.dissolved


def similar_intervals(
    similarity: Float[np.ndarray, "layer layer"], thresholds: BlockThresholds = DEFAULT_THRESHOLDS
) -> list[Interval]:
    """Return the disjoint intervals of mutually similar layers, in layer order.

    The longest qualifying interval is taken first (ties by higher mean similarity), then the longest of what
    remains on either side, and so on. Intervals with a NaN (a degenerate layer) never qualify.

    Args:
        similarity: Symmetric map, layers in topological order. Evaluate it on block outputs or
            activations: the checkerboard of residual networks is not block structure.
        thresholds: What qualifies.

    Raises:
        ValueError: The map is not a square matrix.
    """
    if similarity.ndim != 2 or similarity.shape[0] != similarity.shape[1]:
        raise ValueError(f"A similarity map must be square (layer, layer); got shape {similarity.shape}.")
    least = _minimum_length(len(similarity), thresholds)
    found: list[Interval] = []
    for start, stop in _runs(~np.isnan(np.diag(similarity))):
        found.extend(_split(similarity, start, stop, least, thresholds))
    return sorted(found, key=lambda interval: interval.start)


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
        _weigh(interval, similarity, pc_share, pc_alignment, similarity_without_pc, thresholds)
        for interval in similar_intervals(similarity, thresholds)
    ]


def _weigh(
    interval: Interval,
    similarity: NDArray[np.floating],
    pc_share: NDArray[np.floating],
    pc_alignment: NDArray[np.floating],
    similarity_without_pc: NDArray[np.floating],
    thresholds: BlockThresholds,
) -> BlockEvidence:
    layers = len(similarity)
    inside = np.zeros(layers, dtype=bool)
    inside[interval.start : interval.stop] = True
    window = slice(interval.start, interval.stop)
    similar = _mean_of_pairs(similarity[window, window])
    across = similarity[np.ix_(inside, ~inside)]
    support = float(np.mean(pc_share[inside]))
    outside = _mean_of_known(pc_share[~inside])
    # The block's own minimum length is what a remnant has to reach to count as one.
    least = _minimum_length(layers, thresholds)
    without = similarity_without_pc[window, window]
    limit = thresholds.removal_share * interval.length
    # What may remain grows with every similarity, so the unknown ones at their greatest bound it.
    remaining = _longest_length(np.where(np.isnan(without), 1.0, without), least, thresholds)
    certain = remaining <= limit or _longest_length(without, least, thresholds) > limit
    return BlockEvidence(
        interval=interval,
        score=interval.length / layers,
        similarity=similar,
        contrast=similar - _mean_of_known(across),
        pc_support=support,
        pc_support_outside=outside,
        pc_alignment=_mean_of_pairs(pc_alignment[window, window]),
        removal_effect=(interval.length - remaining) / layers if certain else float("nan"),
        supported=support >= (thresholds.support_share if np.isnan(outside) else thresholds.support_ratio * outside),
        dissolved=remaining <= limit,
    )


def _minimum_length(layers: int, thresholds: BlockThresholds) -> int:
    return max(thresholds.minimum_layers, int(np.ceil(thresholds.minimum_share * layers)))


def _longest_length(similarity: NDArray[np.floating], least: int, thresholds: BlockThresholds) -> int:
    """Return the length of the longest qualifying interval, 0 without one; a NaN layer splits the map and no more."""
    found = [
        _longest(similarity, start, stop, least, thresholds) for start, stop in _runs(~np.isnan(np.diag(similarity)))
    ]
    return max((interval.length for interval in found if interval is not None), default=0)


def _runs(kept: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return [start, stop) of every run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], kept, [False]]).astype(int)))
    return [(int(start), int(stop)) for start, stop in zip(edges[::2], edges[1::2], strict=True)]


def _split(
    similarity: NDArray[np.floating], start: int, stop: int, least: int, thresholds: BlockThresholds
) -> list[Interval]:
    found = _longest(similarity, start, stop, least, thresholds)
    if found is None:
        return []
    before = _split(similarity, start, found.start, least, thresholds)
    after = _split(similarity, found.stop, stop, least, thresholds)
    return [found, *before, *after]


def _longest(
    similarity: NDArray[np.floating], start: int, stop: int, least: int, thresholds: BlockThresholds
) -> Interval | None:
    """Return the longest qualifying interval within [start, stop), the most similar of equally long ones.

    Prefix sums give the mean of every interval in constant time; the quantile, which they cannot give, is
    computed for those only that pass the mean.
    """
    window = similarity[start:stop, start:stop].astype(np.float64)
    sums = np.zeros((len(window) + 1, len(window) + 1))
    sums[1:, 1:] = window.cumsum(0).cumsum(1)
    diagonal = np.concatenate([[0.0], np.diag(window).cumsum()])
    for length in range(len(window), least - 1, -1):
        first = np.arange(len(window) - length + 1)
        last = first + length
        total = sums[last, last] - sums[first, last] - sums[last, first] + sums[first, first]
        means = (total - (diagonal[last] - diagonal[first])) / (length * (length - 1))
        for position in np.argsort(-means, kind="stable"):
            if not means[position] >= thresholds.similarity:
                break
            if _is_even(window[position : position + length, position : position + length], thresholds):
                return Interval(start + int(position), start + int(position) + length)
    return None


def _is_even(square: NDArray[np.floating], thresholds: BlockThresholds) -> bool:
    """Return whether no tenth of the pairs and no single layer falls short of the mean by more than the slack."""
    floor = thresholds.similarity - thresholds.slack
    of_layer = (square.sum(1) - np.diag(square)) / (len(square) - 1)
    return bool(np.quantile(_pairs(square), thresholds.quantile) >= floor and of_layer.min() >= floor)


def _pairs(square: NDArray[np.floating]) -> NDArray[np.floating]:
    return square[np.triu_indices(len(square), 1)]


def _mean_of_pairs(square: NDArray[np.floating]) -> float:
    return float(np.mean(_pairs(square)))


def _mean_of_known(values: NDArray[np.floating]) -> float:
    known = values[~np.isnan(values)]
    return float(np.mean(known)) if known.size else float("nan")
