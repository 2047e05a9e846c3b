"""What is left of a block on the samples that each mask keeps, by the rule that found it."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from outcrop.numerics import (
    Interval,
    KeptMaps,
    RemovalStatistics,
    similar_intervals,
    square_of,
    weigh_interval,
)


@dataclass(frozen=True)
class RemovalEvidence:
    """What is left of one interval, by mask; NaN where it is not known, or there is no interval.

    Attributes:
        measures: ``similarity``, ``contrast``, ``contrast_without_pc1``, ``pc_support`` of the interval as it was, as
            :class:`outcrop.numerics.BlockEvidence` defines them, and ``score``: the share of the layers in the
            similar interval that overlaps most with it, 0 where none does.
        errors: Standard errors of all but the score, by jackknife over groups of batches.
        is_block: Whether the detector finds a block that holds at least half of the interval.
    """

    measures: dict[str, Float[np.ndarray, " mask"]]
    errors: dict[str, Float[np.ndarray, " mask"]]
    is_block: Bool[np.ndarray, " mask"]


MEASURED = ("similarity", "contrast", "contrast_without_pc1", "pc_support")


def weigh_removal(statistics: RemovalStatistics, interval: Interval | None) -> RemovalEvidence:
    """Return what is left of an interval on the samples that each mask keeps.

    Whether there still is a block is decided as it was in the first place: the map is searched again, and what is found
    is weighed by all signatures (:class:`outcrop.numerics.BlockThresholds`).

    Args:
        statistics: Of the searched layers.
        interval: Among these; None where the model has none.
    """
    masks = len(statistics.kept_count)
    if interval is None:
        unknown = np.full(masks, np.nan)
        nothing = dict.fromkeys(MEASURED, unknown)
        return RemovalEvidence({**nothing, "score": unknown}, nothing, np.zeros(masks, dtype=bool))
    whole = KeptMaps(statistics.similarity, statistics.similarity_without_pc1, statistics.pc_share)
    score, is_block = np.empty(masks), np.empty(masks, dtype=bool)
    for mask in range(masks):
        score[mask], is_block[mask] = _found_again(whole, mask, interval)
    values = _measures(whole, interval)
    left = np.array([_measures(maps, interval) for maps in statistics.left_out()]).reshape(-1, len(MEASURED), masks)
    groups = len(left)
    errors = np.full(values.shape, np.nan) if groups < 2 else np.sqrt((groups - 1) * left.var(axis=0))
    return RemovalEvidence(
        {**dict(zip(MEASURED, values, strict=True)), "score": score}, dict(zip(MEASURED, errors, strict=True)), is_block
    )


def _measures(maps: KeptMaps, interval: Interval) -> NDArray[np.float64]:
    """Return (measure, mask)."""
    found = []
    for similarity, without, share in zip(maps.similarity, maps.similarity_without_pc1, maps.pc_share, strict=True):
        inside, contrast = square_of(similarity, interval)
        _, contrast_without = square_of(without, interval)
        found.append((inside, contrast, contrast_without, float(np.mean(share[interval.start : interval.stop]))))
    return np.array(found, dtype=np.float64).T


def _found_again(maps: KeptMaps, mask: int, interval: Interval) -> tuple[float, bool]:
    """Return the score of what is found of the interval, and whether it is a block that holds half of it."""
    similarity = maps.similarity[mask]
    found = [(_overlap(one, interval), one) for one in similar_intervals(similarity)]
    overlap, nearest = max(found, key=lambda one: one[0], default=(0, interval))
    if not overlap:
        return 0.0, False
    holding = [one for shared, one in found if 2 * shared >= interval.length]
    is_block = any(
        weigh_interval(
            one,
            similarity,
            pc_share=maps.pc_share[mask],
            pc_alignment=np.full_like(similarity, np.nan),
            similarity_without_pc=maps.similarity_without_pc1[mask],
        ).is_block
        for one in holding
    )
    return nearest.length / len(similarity), is_block


def _overlap(first: Interval, second: Interval) -> int:
    return max(0, min(first.stop, second.stop) - max(first.start, second.start))
