"""Directions in the features of layers along which given projections of samples lie, and the layers' means."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from jaxtyping import Bool, Int
from numpy.typing import NDArray
from torch import Tensor

from outcrop.capture.accumulator import ReducingAccumulator
from outcrop.errors import AnalysisError, ParameterError
from outcrop.models.model import Layer
from outcrop.numerics.components.feature_sums import LayerFeatures, wide_device, widened
from outcrop.numerics.stream.gram_options import LayerKey
from outcrop.numerics.stream.layer_rows import LayerRows, check_values


@dataclass(frozen=True)
class Directions:
    """Mean features and one direction of every layer; layers in topological order, one model after the other.

    Features of a sample are flattened in the order of the layer's dimensions; complex ones count as two. Values that
    they are applied to must be flattened the same way, as :class:`outcrop.numerics.ProjectionAccumulator` does.

    Attributes:
        layers: (model, layer) of every row.
        means: (feature,), float64, in the units of the activations, by model and layer name: the mean over the samples.
            NaN where values are not finite.
        vectors: (feature,), float64, of length 1, by model and layer name. NaN where ``degenerate``.
        sample_count: Number of samples that each layer's are of.
        degenerate: Layers without a direction: all projections are zero, the features do not vary with them, or values
            are not finite.
    """

    layers: tuple[tuple[str, Layer], ...]
    means: Mapping[LayerKey, NDArray[np.float64]]
    vectors: Mapping[LayerKey, NDArray[np.float64]]
    sample_count: Int[np.ndarray, " layer"]
    degenerate: Bool[np.ndarray, " layer"]


class DirectionsAccumulator(ReducingAccumulator):
    """Finds the mean features of layers and the direction in them that projections of the samples lie along.

    With ``s`` the projections ``S_1 u_1i`` of mean-free features on the first principal component (arXiv 2202.07184,
    section 4), as :class:`outcrop.numerics.ComponentsAccumulator` gives them, ``X_c' s / |s|^2`` is the component's
    unit vector ``v_1`` over the features, which scores samples that had no part in it. For any other scores it is the
    direction of the features' regression on them, brought to length 1. The sign is that of the projections.

    One pass. Memory: 16 bytes a feature of every layer; features themselves are widened a few MiB at a time.
    Sums are taken in float64: ``X_c' s = X' s - m sum(s)``, exact to about 1e-16 of the largest mean.
    Time: 4 operations for every value.

    Layers without projections are passed over. Values that are not finite leave their own layer without a direction.
    """

    def __init__(self, projections: Mapping[LayerKey, NDArray[np.float64]]) -> None:
        """Prepare for the pass.

        Args:
            projections: (sample position,), in the units of the activations, by model and layer name, as
                :meth:`outcrop.numerics.ComponentStatistics.projections_by_layer` returns them. Samples whose projection
                is NaN, or that lie behind the last one given, are not used.

        Raises:
            ParameterError: There are none, or they are infinite or not one for each sample.
        """
        if not projections:
            raise ParameterError("Directions need projections of one layer at least; got none.")
        for (model, name), given in projections.items():
            if given.ndim != 1 or np.isinf(given).any():
                raise ParameterError(
                    f"Projections of layer {name!r} of model {model!r} must be one finite number for each sample, or "
                    f"NaN; got an array of shape {given.shape}{', some infinite' if np.isinf(given).any() else ''}."
                )
        self._projections = {key: np.asarray(given, dtype=np.float64) for key, given in projections.items()}
        self._rows = LayerRows()
        self._features = LayerFeatures()
        self._sums: dict[LayerKey, Tensor] = {}
        self._positions: list[NDArray[np.int64]] = []

    def reduce(self, model: str, layer: Layer, sample_index: NDArray[np.int64], values: Tensor) -> Tensor | None:
        """Return the sum of the features of one group, and that of their products with the projections.

        Raises:
            AnalysisError: Values and samples do not fit each other, or the features change.
        """
        key = (model, layer.name)
        if key not in self._projections:
            return None
        check_values(model, layer, sample_index, values)
        features = self._features.of(key, values)
        given = self._projections[key]
        scores = np.full(len(sample_index), np.nan)
        known = sample_index < len(given)
        scores[known] = given[sample_index[known]]
        used = np.flatnonzero(~np.isnan(scores))
        device = wide_device(features.device)
        weights = torch.from_numpy(np.stack([np.ones(len(used)), scores[used]])).to(device)
        rows = None if len(used) == len(scores) else torch.from_numpy(used).to(features.device)
        sums = torch.zeros(2, features.shape[1], dtype=torch.float64, device=device)
        if len(used):
            for columns, part in widened(features, rows):
                sums[:, columns] = weights @ part
        return sums

    def take(self, model: str, layer: Layer, sample_index: NDArray[np.int64], reduced: Tensor | None) -> None:
        """Add the sums of a group to those of the layer.

        Raises:
            AnalysisError: The layers, or the samples within a group, change.
        """
        if reduced is None:
            return
        self._rows.take(model, layer, sample_index)
        key = (model, layer.name)
        if key in self._sums:
            self._sums[key] += reduced
        else:
            self._sums[key] = reduced

    def reduced_bytes(self, layer: Layer, _samples: int) -> int:
        """Return the size of the sums."""
        return super().reduced_bytes(layer, 2)

    def end_batch(self) -> None:
        """Take note that every layer has seen the group.

        Raises:
            AnalysisError: A layer that earlier groups had is missing.
        """
        samples = self._rows.samples
        if samples is not None:
            self._rows.end_group()
            self._positions.append(samples)

    def merge(self, other: Self) -> None:
        """Add what another accumulator of the same projections has seen of other samples.

        Raises:
            AnalysisError: Projections or layers differ.
        """
        mine, theirs = self._projections, other._projections
        if mine.keys() != theirs.keys() or any(
            not np.array_equal(given, theirs[key], equal_nan=True) for key, given in mine.items()
        ):
            raise AnalysisError("Only accumulators of the same projections can be merged; theirs differ.")
        if not other._positions:
            return
        self._rows.merge(other._rows)
        for key, sums in other._sums.items():
            aligned = self._features.aligned(key, other._features, sums)
            self._sums[key] = self._sums[key] + aligned.to(self._sums[key]) if key in self._sums else aligned.clone()
        self._positions += other._positions

    def finish(self) -> Directions:
        """Return means and directions.

        Raises:
            AnalysisError: No layer with projections came, a sample came twice, or one with a projection did not come.
        """
        if not self._positions:
            raise AnalysisError("No layer with projections came; stream the layers that the projections are of.")
        seen = np.sort(np.concatenate(self._positions))
        repeated = seen[1:][seen[1:] == seen[:-1]]
        if len(repeated):
            raise AnalysisError(f"Sample {repeated[0]} came twice; directions take every sample once.")
        layers = tuple(self._rows.layers[row] for row in self._rows.topological())
        means, vectors = {}, {}
        counts, degenerate = [], []
        named = self._features.named(self._sums)
        for model, layer in layers:
            key = (model, layer.name)
            scores = self._projections[key]
            missing = np.setdiff1d(np.flatnonzero(~np.isnan(scores)), seen, assume_unique=True)
            if len(missing):
                raise AnalysisError(
                    f"Sample {missing[0]} has a projection on layer {layer.name!r} of model {model!r} and did not "
                    "come; give NaN for samples that are not streamed."
                )
            used = scores[~np.isnan(scores)]
            means[key], vectors[key] = _direction(named[key], used)
            counts.append(len(used))
            degenerate.append(bool(np.isnan(vectors[key]).any()))
        return Directions(layers, means, vectors, np.array(counts), np.array(degenerate))


def _direction(
    sums: NDArray[np.float64], scores: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean and the unit direction of one layer from its two sums over samples."""
    unknown = np.full(sums.shape[1], np.nan)
    if not len(scores) or not np.isfinite(sums).all():
        return unknown, unknown
    mean = sums[0] / len(scores)
    slope = sums[1] - mean * scores.sum()
    # What rounding of the sums leaves of features that do not vary with the scores.
    noise = np.finfo(np.float64).eps * len(scores) * np.linalg.norm(mean) * np.linalg.norm(scores)
    length = np.linalg.norm(slope)
    return mean, slope / length if length > noise else unknown
