"""Search every model's map for blocks, and say how certain what was found is."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from outcrop import Layer
from outcrop.models.activations import is_activation
from outcrop.numerics import (
    DEFAULT_THRESHOLDS,
    BlockEvidence,
    GramStatistics,
    Interval,
    bootstrap_counts,
    removal_effect,
    similar_intervals,
    similarity_ratio,
    square_of,
    weigh_blocks,
)

LEAST_GROUPS = 8
"""With fewer groups of batches to draw from, a bootstrap interval says more about their number than about the data."""

SCORE_REPLICATES = 200
"""Replicates that are searched for blocks anew, which takes milliseconds where a mean takes microseconds."""

MEASURES = ("score", "similarity", "contrast", "contrast_without_pc", "pc_support", "removal_effect")
"""What bootstrap intervals are given for."""

_SEARCHED = ("score", "removal_effect")

Bounds = Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Evaluation:
    """What was found in one model.

    Attributes:
        model: Its name.
        kind: Layers that were searched: ``block``, ``act`` or ``all``.
        layers: Those layers, in topological order.
        evidence: Every interval of similar layers.
        bounds: Lower and upper end of each interval's measures, NaN where not known.
    """

    model: str
    kind: str
    layers: tuple[Layer, ...]
    evidence: tuple[BlockEvidence, ...]
    bounds: tuple[Bounds, ...]

    @property
    def verdict(self) -> str:
        """Return what was found, in words."""
        if len(self.layers) < DEFAULT_THRESHOLDS.minimum_layers:
            return "too few layers"
        if any(evidence.is_block for evidence in self.evidence):
            return "block"
        return "similar layers, not a block" if self.evidence else "no block"


def evaluate(
    statistics: GramStatistics, *, detect_on: str, replicates: int, confidence: float, rng: np.random.Generator
) -> tuple[Evaluation, ...]:
    """Return what is found in the map of every model.

    Args:
        statistics: Of all layers of all models.
        detect_on: ``auto``, ``block``, ``act`` or ``all``.
        replicates: Of the bootstrap; 0 for no intervals.
        confidence: Of the intervals.
        rng: Source of randomness.
    """
    models = dict.fromkeys(model for model, _ in statistics.layers)
    return tuple(
        _evaluate_model(statistics, model, detect_on, replicates=replicates, confidence=confidence, rng=rng)
        for model in models
    )


def searched_rows(layers: Mapping[int, Layer], detect_on: str) -> tuple[str, list[int]]:
    """Return which kind of layers is searched, and their rows.

    Args:
        layers: Layers of one model by row.
        detect_on: ``auto`` takes block outputs, else values after activations, else all: the first of these that
            leaves as many layers as a block must have. Both avoid the checkerboard of residual networks.
    """
    rows = {
        "block": [row for row, layer in layers.items() if layer.kind == "block"],
        "act": [
            row
            for row, layer in layers.items()
            if layer.kind == "act" or (layer.kind in ("block", "output") and is_activation(layer.operation))
        ],
        "all": list(layers),
    }
    if detect_on != "auto":
        return detect_on, rows[detect_on]
    enough = (kind for kind in rows if len(rows[kind]) >= DEFAULT_THRESHOLDS.minimum_layers)
    kind = next(enough, "all")
    return kind, rows[kind]


def _evaluate_model(
    statistics: GramStatistics,
    model: str,
    detect_on: str,
    *,
    replicates: int,
    confidence: float,
    rng: np.random.Generator,
) -> Evaluation:
    own = {row: layer for row, (owner, layer) in enumerate(statistics.layers) if owner == model}
    kind, rows = searched_rows(own, detect_on)
    if (
        statistics.pc_share is None
        or statistics.pc_alignment is None
        or statistics.similarity_without_pc1 is None
        or statistics.groups_without_pc1 is None
        or statistics.groups_pc_share is None
        or statistics.groups_pc_samples is None
    ):
        raise ValueError("Blocks are weighed with principal components; accumulate with principal_component=True.")
    square = np.ix_(rows, rows)
    evidence = weigh_blocks(
        statistics.similarity[square],
        pc_share=statistics.pc_share[rows],
        pc_alignment=statistics.pc_alignment[square],
        similarity_without_pc=statistics.similarity_without_pc1[square],
    )
    groups = _Groups(
        statistics.groups[:, rows][:, :, rows],
        statistics.groups_without_pc1[:, rows][:, :, rows],
        statistics.groups_pc_share[:, rows],
        statistics.groups_pc_samples[:, rows],
    )
    bounds = _bounds(evidence, groups, replicates=replicates, confidence=confidence, rng=rng)
    return Evaluation(model, kind, tuple(own[row] for row in rows), tuple(evidence), bounds)


@dataclass(frozen=True)
class _Drawn:
    """What other batches would have given: similarity, the same without the component, and its shares."""

    similarity: NDArray[np.float64]
    without: NDArray[np.float64]
    share: NDArray[np.float64]


@dataclass(frozen=True)
class _Groups:
    """Sums of the same groups of batches, of one model's layers; see :class:`outcrop.numerics.GramStatistics`."""

    hsic: NDArray[np.float64]
    hsic_without: NDArray[np.float64]
    share: NDArray[np.float64]
    samples: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.hsic)

    def drawn(self, counts: NDArray[np.int64]) -> _Drawn:
        """Return what the groups give where each is taken so many times."""
        samples = counts @ self.samples
        return _Drawn(
            similarity_ratio(np.tensordot(counts, self.hsic, axes=1)),
            similarity_ratio(np.tensordot(counts, self.hsic_without, axes=1)),
            (counts @ self.share) / np.where(samples > 0, samples, np.nan),
        )


def _bounds(
    evidence: Sequence[BlockEvidence],
    groups: _Groups,
    *,
    replicates: int,
    confidence: float,
    rng: np.random.Generator,
) -> tuple[Bounds, ...]:
    """Return percentile intervals over replicates, widened to hold the value itself; NaN where that is not known."""
    unknown = (float("nan"), float("nan"))
    if not evidence or not replicates or len(groups) < LEAST_GROUPS:
        return tuple(dict.fromkeys(MEASURES, unknown) for _ in evidence)
    drawn = np.stack(
        [
            _measure(groups.drawn(counts), evidence, search=index < SCORE_REPLICATES)
            for index, counts in enumerate(bootstrap_counts(len(groups), replicates=replicates, rng=rng))
        ]
    )
    tail = (1 - confidence) / 2
    bounds = []
    for position, found in enumerate(evidence):
        ends = {}
        for column, name in enumerate(MEASURES):
            values = drawn[: SCORE_REPLICATES if name in _SEARCHED else None, position, column]
            known = np.isfinite(getattr(found, name)) and np.isfinite(values).all()
            low, high = np.quantile(values, [tail, 1 - tail]) if known else unknown
            ends[name] = _widened((low, high), getattr(found, name)) if known else unknown
        bounds.append(ends)
    return tuple(bounds)


def _measure(drawn: _Drawn, evidence: Iterable[BlockEvidence], *, search: bool) -> NDArray[np.float64]:
    """Return (interval, measure): what each interval would measure on other batches.

    The score is that of the interval found again where it lies; both that and the effect of removal ask for a search.
    """
    again = similar_intervals(drawn.similarity) if search else None
    rows = []
    for found in evidence:
        interval = found.interval
        inside, contrast = square_of(drawn.similarity, interval)
        measured = {
            "score": _score_again(interval, again, len(drawn.similarity)),
            "similarity": inside,
            "contrast": contrast,
            "contrast_without_pc": square_of(drawn.without, interval)[1],
            "pc_support": float(drawn.share[interval.start : interval.stop].mean()),
            "removal_effect": removal_effect(interval, drawn.without) if search else float("nan"),
        }
        rows.append([measured[name] for name in MEASURES])
    return np.array(rows)


def _score_again(interval: Interval, again: Sequence[Interval] | None, layers: int) -> float:
    """Return the score of the interval that overlaps most with one found before; 0 where none does, NaN unsearched."""
    if again is None:
        return float("nan")
    found = max(again, key=lambda other: _overlap(interval, other), default=None)
    return found.length / layers if found is not None and _overlap(interval, found) else 0.0


def _overlap(first: Interval, second: Interval) -> int:
    return max(0, min(first.stop, second.stop) - max(first.start, second.start))


def _widened(bounds: tuple[float, float], value: float) -> tuple[float, float]:
    return (min(float(bounds[0]), value), max(float(bounds[1]), value))
