"""Find intervals of mutually similar, contiguous layers in a similarity map."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray


@dataclass(frozen=True)
class BlockThresholds:
    """What counts as a block. Fixed before any bundled model was trained, and never tuned on one.

    What is not known (NaN) never speaks for a block. Degenerate layers end an interval; means over what lies outside
    leave them out, and where no other layer is outside, it counts as nothing outside: then there is no contrast, and
    nothing to tell a block from. A layer of which removing the first component leaves rounding only has no similarity
    to tell without it: an interval is dissolved only if it would be even if such layers stayed similar (1) to
    all others inside and unrelated (0) to all outside.

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
        removal_share: Removing the first component must leave at most this share of the block's contrast.
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
    least = minimum_length(len(similarity), thresholds)
    found: list[Interval] = []
    for start, stop in _runs(~np.isnan(np.diag(similarity))):
        found.extend(_split(similarity, start, stop, least, thresholds))
    return sorted(found, key=lambda interval: interval.start)


def minimum_length(layers: int, thresholds: BlockThresholds) -> int:
    """Return how many layers an interval must have, of a map of so many layers."""
    return max(thresholds.minimum_layers, int(np.ceil(thresholds.minimum_share * layers)))


def longest_length(similarity: NDArray[np.floating], least: int, thresholds: BlockThresholds) -> int:
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
    return bool(np.quantile(pairs_of(square), thresholds.quantile) >= floor and of_layer.min() >= floor)


def pairs_of(square: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the entries above the diagonal."""
    return square[np.triu_indices(len(square), 1)]
