"""Rank samples by what was found without them: each half of the data by the first component of the other half."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from outcrop import Accumulator, RestrictedAccumulator
from outcrop.analysis.references import Reference
from outcrop.numerics import (
    ComponentsAccumulator,
    Directions,
    DirectionsAccumulator,
    ProjectionAccumulator,
    ProjectionStatistics,
    ranks_of,
)

if TYPE_CHECKING:
    from outcrop import Context

LayerKey = tuple[str, str]

TOLERANCE = 1e-3
"""Residual of the components: ranks are of projections, which it changes by a thousandth of the gap's share."""


def halves_by_batch(order: Int[np.ndarray, " sample"], batch_size: int) -> Int[np.ndarray, " sample"]:
    """Return the half, 0 or 1, that each sample is in, so that every batch of the order lies in one of them.

    What is measured on a batch is then never measured on samples that took part in its selection.

    Args:
        order: Positions of the samples, as they come in batches.
        batch_size: Samples of a batch; at most half of them all.
    """
    count = len(order)
    first = max(1, round(count / 2 / batch_size)) * batch_size
    half = np.ones(count, dtype=np.int64)
    half[order[:first]] = 0
    return half


@dataclass(frozen=True)
class Ranking:
    """Samples ranked within their half of the data.

    Attributes:
        half: The half, 0 or 1, that each sample is in.
        ranks: (sample,), 0 for the first that is left out of its half.
    """

    half: Int[np.ndarray, " sample"]
    ranks: Int[np.ndarray, " sample"]

    @classmethod
    def by(cls, sizes: Float[np.ndarray, " sample"], half: Int[np.ndarray, " sample"]) -> "Ranking":
        """Return the ranking by size, the largest first, of equals the first; what is not known comes last."""
        ranks = np.empty(len(sizes), dtype=np.int64)
        for own in (np.flatnonzero(half == number) for number in (0, 1)):
            order = np.argsort(-sizes[own], kind="stable")
            ranks[own[order]] = np.arange(len(own))
        return cls(half, ranks)

    def kept(self, fractions: Sequence[float]) -> Bool[np.ndarray, "fraction sample"]:
        """Return which samples are kept when a fraction of each half is left out."""
        sizes = np.bincount(self.half, minlength=2)
        least = np.array([[round(fraction * size) for size in sizes] for fraction in fractions])
        return np.asarray(self.ranks >= least[:, self.half])


@dataclass(frozen=True)
class Scores:
    """What samples are ranked by.

    Attributes:
        half: The half, 0 or 1, that each sample is in.
        sizes: By model, |projection| on the first principal component of the other half at the reference layer (pooled:
            minus the mean rank over those layers of the interval that both halves have one of); models of which a half
            has none are left out: its samples could be left out in any order.
        input_norms: Lengths of the inputs; None where they are not captured.
    """

    half: Int[np.ndarray, " sample"]
    sizes: Mapping[str, Float[np.ndarray, " sample"]]
    input_norms: Float[np.ndarray, " sample"] | None


def cross_fitted_scores(
    context: "Context",
    references: Sequence[Reference],
    *,
    pooled: bool,
    batch_size: int,
    beside: Sequence[Accumulator] = (),
) -> Scores:
    """Return what samples are ranked by, found from the other half of the data.

    The sample that defines a component has a large projection on it in any data: of pure noise, leaving out the samples
    with the largest lowers the component's share, and says nothing. Projections on a component that the sample had no
    part in have no such bias.

    Passes over the reference layers: as many as their components take, and two.

    Args:
        context: Of the run.
        references: Where each model is judged.
        pooled: Rank by the mean rank over the layers of the interval.
        batch_size: Samples of a group; at most half of the samples.
        beside: Fed with all layers of all models in one of the passes.
    """
    half = halves_by_batch(context.order(), batch_size)
    names = {one.model: one.layers if pooled else (one.layer,) for one in references}
    components = [
        RestrictedAccumulator(
            ComponentsAccumulator(count=1, tolerance=TOLERANCE, seed=context.seed), samples=half == number
        )
        for number in (0, 1)
    ]
    context.stream(*components, batch_size=batch_size, layers=names)
    found = [one.finish().projections_by_layer(context.sample_count) for one in components]
    directions = [DirectionsAccumulator(projections) for projections in found]
    context.stream(*directions, *beside, batch_size=batch_size, layers=None if beside else names)
    inputs = _input_layer(context)
    projections = [ProjectionAccumulator(_with_norms(one.finish(), context, inputs)) for one in directions]
    visited = {model: list(chosen) for model, chosen in names.items()}
    if inputs is not None:
        visited.setdefault(inputs[0], []).append(inputs[1])
    context.stream(*projections, batch_size=batch_size, layers=visited)
    first, second = (one.finish() for one in projections)
    scores = {
        key: np.abs(np.where(half == 0, second.scores_by_layer(len(half))[key], own))
        for key, own in first.scores_by_layer(len(half)).items()
    }
    sizes = {}
    for model, layers in names.items():
        known = [scores[model, name] for name in layers if np.isfinite(scores[model, name]).all()]
        if known:
            sizes[model] = _pooled(np.stack(known), half) if pooled else known[0]
    return Scores(half, sizes, _norms(first, inputs, len(half)))


def _pooled(scores: NDArray[np.float64], half: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return minus the mean over layers of the rank of each sample in its half."""
    mean = np.empty(scores.shape[1])
    for own in (half == number for number in (0, 1)):
        mean[own] = ranks_of(scores[:, own]).mean(axis=0)
    return -mean


def _input_layer(context: "Context") -> LayerKey | None:
    """Return model and name of the first layer that is a network's input, if one is selected."""
    found = [
        (model, layer.name) for model, layers in context.models.items() for layer in layers if layer.kind == "input"
    ]
    return found[0] if found else None


def _with_norms(directions: Directions, context: "Context", key: LayerKey | None) -> Directions:
    """Return directions with one more layer, of which lengths are wanted and nothing else."""
    if key is None or key in directions.means:
        return directions
    layer = next(layer for layer in context.models[key[0]] if layer.name == key[1])
    nothing = np.zeros(int(np.prod(layer.shape)))
    return Directions(
        layers=(*directions.layers, (key[0], layer)),
        means={**directions.means, key: nothing},
        vectors={**directions.vectors, key: nothing},
        sample_count=np.append(directions.sample_count, 0),
        degenerate=np.append(directions.degenerate, True),
    )


def _norms(found: ProjectionStatistics, key: LayerKey | None, count: int) -> NDArray[np.float64] | None:
    if key is None:
        return None
    norms = np.full(count, np.nan)
    rows = [row for row, (model, layer) in enumerate(found.layers) if (model, layer.name) == key]
    norms[found.sample_index] = found.norms[rows[0]]
    return norms
