"""How layers respond: to the real samples, and to stimuli beside them."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Self

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from outcrop.numerics import (
    Directions,
    DirectionsAccumulator,
    ProjectionAccumulator,
    ProjectionStatistics,
    SetDirectionsAccumulator,
)

if TYPE_CHECKING:
    from collections.abc import Collection

    from outcrop import Context
    from outcrop.data import Data

LayerKey = tuple[str, str]

DOMINANT = "dominant"
"""Name of the dominant samples' mean direction among those that cosines are taken to."""


@dataclass(frozen=True)
class RealSamples:
    """What layers do with the samples of the data; layers in the order of the context, one model after the other.

    Attributes:
        layers: Model and name of every layer.
        directions: Means and first principal components in the features, of the real samples.
        dominant: Mean direction of the dominant samples' mean-free features, by layer.
        projections: Of the samples on the first component.
        norms: Length of the features, their mean included.
        degenerate: Layers without a component.
    """

    layers: tuple[LayerKey, ...]
    directions: Directions
    dominant: Mapping[LayerKey, NDArray[np.float64]]
    projections: Float[np.ndarray, "layer sample"]
    norms: Float[np.ndarray, "layer sample"]
    degenerate: Bool[np.ndarray, " layer"]

    @property
    def median_norms(self) -> Float[np.ndarray, " layer"]:
        """Return the median norm of each layer; NaN where one is not finite, or where it is zero."""
        medians = np.median(self.norms, axis=1)
        return np.where(np.isfinite(medians) & (medians > 0), medians, np.nan)

    def accumulator(self) -> ProjectionAccumulator:
        """Return what scores any samples on the layers' components."""
        return ProjectionAccumulator(self.directions, {DOMINANT: self.dominant})


@dataclass(frozen=True)
class Response:
    """How layers respond to stimuli; layers as in :class:`RealSamples`, NaN where something is not defined.

    Attributes:
        norm: Length of the features, their mean included.
        norm_percentile: Percentage of real samples whose norm is smaller.
        norm_ratio: Over the median of real samples.
        projection: Of what is beside the real samples' mean on their first component.
        projection_percentile: Percentage of real samples that lie nearer to the mean on it.
        cosine: Between what is beside the mean and the mean direction of the dominant samples.
        norm_without_pc1: Length of what is beside the mean and the first component.
    """

    norm: Float[np.ndarray, "layer stimulus"]
    norm_percentile: Float[np.ndarray, "layer stimulus"]
    norm_ratio: Float[np.ndarray, "layer stimulus"]
    projection: Float[np.ndarray, "layer stimulus"]
    projection_percentile: Float[np.ndarray, "layer stimulus"]
    cosine: Float[np.ndarray, "layer stimulus"]
    norm_without_pc1: Float[np.ndarray, "layer stimulus"]

    def joined(self, other: Self) -> Self:
        """Return the responses to these stimuli and then to others."""
        names = [field.name for field in fields(self)]
        return type(self)(**{name: np.hstack([getattr(self, name), getattr(other, name)]) for name in names})


def measure_real(
    context: "Context",
    projections: Mapping[LayerKey, NDArray[np.float64]],
    members: Mapping[str, NDArray[np.bool_]],
    *,
    batch_size: int,
) -> RealSamples:
    """Return what layers do with the real samples, in two passes over them.

    Args:
        context: Of the run.
        projections: (sample,) on the first component of each layer; NaN for layers without one.
        members: (sample,), whether a sample is dominant, by model; none for models without dominant samples.
        batch_size: Samples of a group.
    """
    layers = tuple((model, layer.name) for model, chosen in context.models.items() for layer in chosen)
    # Layers without a component have a mean and norms nevertheless.
    known = {key: np.nan_to_num(projections[key]) for key in layers}
    found = DirectionsAccumulator(known)
    context.stream(found, batch_size=batch_size)
    directions = found.finish()
    sets = {key: members.get(key[0], np.zeros(context.sample_count, dtype=np.bool_)) for key in layers}
    together = SetDirectionsAccumulator(directions, sets)
    scores = ProjectionAccumulator(directions)
    context.stream(together, scores, batch_size=batch_size)
    found_scores = scores.finish()
    degenerate = {
        (model, layer.name): bool(flag)
        for (model, layer), flag in zip(directions.layers, directions.degenerate, strict=True)
    }
    return RealSamples(
        layers=layers,
        directions=directions,
        dominant=together.finish().vectors,
        projections=np.stack([projections[key] for key in layers]),
        norms=_in_order(found_scores.norms, found_scores, layers),
        degenerate=np.array([degenerate[key] for key in layers]),
    )


def measure_response(
    context: "Context",
    real: RealSamples,
    data: "Data",
    *,
    batch_size: int,
) -> Response:
    """Return the responses of all layers to stimuli, in one pass over them."""
    accumulator = real.accumulator()
    context.stream(accumulator, batch_size=batch_size, shuffle=False, data=data)
    found = accumulator.finish()
    norms, scores, centred, cosines = (
        _in_order(values, found, real.layers)
        for values in (found.norms, found.scores, found.centred_norms, found.cosines[DOMINANT])
    )
    beside = centred**2 - scores**2
    return Response(
        norm=norms,
        norm_percentile=percentiles(norms, real.norms),
        norm_ratio=norms / real.median_norms[:, None],
        projection=scores,
        projection_percentile=percentiles(np.abs(scores), np.abs(real.projections)),
        # Rounding may carry a cosine a little past 1.
        cosine=np.clip(cosines, -1, 1),
        # It leaves a small negative number where nothing is beside the component.
        norm_without_pc1=np.sqrt(np.where(beside < 0, 0.0, beside)),
    )


def scores_at(
    context: "Context", real: RealSamples, layer: LayerKey, data: "Data", *, batch_size: int
) -> NDArray[np.float64]:
    """Return the projections (stimulus,) of stimuli on the first component of a single layer."""
    accumulator = ProjectionAccumulator(real.directions)
    chosen: dict[str, Collection[str]] = {layer[0]: [layer[1]]}
    context.stream(accumulator, batch_size=batch_size, shuffle=False, layers=chosen, data=data)
    return np.asarray(accumulator.finish().scores[0])


def percentiles(
    values: Float[np.ndarray, "layer stimulus"], real: Float[np.ndarray, "layer sample"]
) -> Float[np.ndarray, "layer stimulus"]:
    """Return the percentage of real samples below each value, those equal to it counted half.

    NaN where the value is, or where one of the layer's real samples is.
    """
    found = np.full(values.shape, np.nan)
    for row, (given, known) in enumerate(zip(values, real, strict=True)):
        if np.isfinite(known).all():
            ranked = np.sort(known)
            below, to = np.searchsorted(ranked, given, "left"), np.searchsorted(ranked, given, "right")
            found[row] = np.where(np.isfinite(given), 50.0 * (below + to) / len(ranked), np.nan)
    return found


def _in_order(
    values: Float[np.ndarray, "layer sample"], statistics: ProjectionStatistics, layers: tuple[LayerKey, ...]
) -> Float[np.ndarray, "layer sample"]:
    """Return values of statistics with rows in the order of given layers; infinite ones as NaN."""
    places = {(model, layer.name): row for row, (model, layer) in enumerate(statistics.layers)}
    return np.where(np.isfinite(values), values, np.nan)[[places[key] for key in layers]]
