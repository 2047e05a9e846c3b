"""Where any samples lie on directions that were found from others, and how far from their mean."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from outcrop.capture.accumulator import ReducingAccumulator
from outcrop.errors import AnalysisError, ParameterError
from outcrop.models.model import Layer
from outcrop.numerics.components.directions import Directions
from outcrop.numerics.components.feature_sums import LayerFeatures, widened
from outcrop.numerics.stream.gram_options import LayerKey
from outcrop.numerics.stream.layer_rows import LayerRows, check_values

_COLUMNS = 3  # score, norm and centred norm, before the cosines


@dataclass(frozen=True)
class ProjectionStatistics:
    """Where samples lie in layers; layers in topological order, one model after the other, samples by position.

    Values that are not defined are NaN; a sample with values that are not finite touches no other.

    Attributes:
        layers: (model, layer) of every row.
        sample_index: Position of each sample in the data that was streamed, ascending.
        scores: ``(x - mean) . v``, in the units of the activations.
        norms: ``|x|``.
        centred_norms: ``|x - mean|``; ``sqrt(centred_norms^2 - scores^2)`` is what lies beside the direction.
        cosines: Of ``x - mean`` with other directions, by their name.
    """

    layers: tuple[tuple[str, Layer], ...]
    sample_index: Int[np.ndarray, " sample"]
    scores: Float[np.ndarray, "layer sample"]
    norms: Float[np.ndarray, "layer sample"]
    centred_norms: Float[np.ndarray, "layer sample"]
    cosines: Mapping[str, Float[np.ndarray, "layer sample"]]

    def scores_by_layer(self, sample_count: int | None = None) -> dict[LayerKey, NDArray[np.float64]]:
        """Return the scores by model and layer name, each in the place of its sample's position.

        Args:
            sample_count: Number of samples of the data; by default up to the last that came. NaN for those that did
                not come.
        """
        placed = np.full((len(self.layers), sample_count or int(self.sample_index.max()) + 1), np.nan)
        placed[:, self.sample_index] = self.scores
        return {(model, layer.name): row for (model, layer), row in zip(self.layers, placed, strict=True)}


class ProjectionAccumulator(ReducingAccumulator):
    """Projects samples on directions that were found from other samples: scores out of sample.

    Score of a sample on a layer's direction, its norms with and without the mean, and the cosine of what is beside the
    mean to other directions, such as the mean direction of dominant samples (arXiv 2202.07184, section 4). In float64.

    One pass. Memory: for each layer 8 bytes a feature and direction, the mean being one, and for each layer and sample
    8 bytes a number. Time: 2 operations for every value and direction, and 4 for the norms.

    Layers without directions are passed over.
    """

    def __init__(
        self, directions: Directions, others: Mapping[str, Mapping[LayerKey, NDArray[np.float64]]] | None = None
    ) -> None:
        """Prepare for the pass.

        Args:
            directions: Means and directions of the layers.
            others: (feature,) vectors by model and layer name, by a name of their own; their length does not matter,
                and what a layer has none of is NaN there. ``vectors`` of :class:`Directions` or ``SetDirections`` are
                some.

        Raises:
            ParameterError: There is no direction.
        """
        if not directions.layers:
            raise ParameterError("Projections need directions of one layer at least; got none.")
        self._directions = directions
        self._others = {name: dict(vectors) for name, vectors in (others or {}).items()}
        self._rows = LayerRows()
        self._features = LayerFeatures()
        self._parts: dict[LayerKey, list[NDArray[np.float64]]] = {}
        self._positions: list[NDArray[np.int64]] = []

    def reduce(
        self, model: str, layer: Layer, sample_index: NDArray[np.int64], values: Tensor
    ) -> NDArray[np.float64] | None:
        """Return score, norm, centred norm and cosines (sample, number) of one group; None for layers passed over.

        Raises:
            AnalysisError: Values and samples do not fit each other, or values and directions.
        """
        key = (model, layer.name)
        if key not in self._directions.means:
            return None
        check_values(model, layer, sample_index, values)
        features = self._features.of(key, values)
        vectors = self._features.kept(key, layer, features.device, lambda: self._vectors(key))
        mean, along = vectors[0], vectors[1:]
        products = along.new_zeros(len(features), len(along))
        squares = along.new_zeros(2, len(features))
        for columns, part in widened(features):
            squares[0] += part.square().sum(1)
            part -= mean[columns]
            squares[1] += part.square().sum(1)
            products += part @ along[:, columns].T
        lengths = squares.sqrt()
        cosines = products[:, 1:] / lengths[1, :, None]
        return np.asarray(torch.cat([products[:, :1], lengths.T, cosines], dim=1).cpu().numpy())

    def take(
        self, model: str, layer: Layer, sample_index: NDArray[np.int64], reduced: NDArray[np.float64] | None
    ) -> None:
        """Keep what a group gives.

        Raises:
            AnalysisError: The layers, or the samples within a group, change.
        """
        if reduced is not None:
            self._rows.take(model, layer, sample_index)
            self._parts.setdefault((model, layer.name), []).append(reduced)

    def reduced_bytes(self, _layer: Layer, samples: int) -> int:
        """Return the size of the numbers of one group."""
        return 8 * samples * (_COLUMNS + len(self._others))

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
        """Add what another accumulator of the same directions has seen of other samples.

        Raises:
            AnalysisError: Directions or layers differ.
        """
        mine, theirs = self._all_vectors(), other._all_vectors()
        if mine.keys() != theirs.keys() or any(
            not np.array_equal(vectors, theirs[key], equal_nan=True) for key, vectors in mine.items()
        ):
            raise AnalysisError("Only accumulators of the same directions can be merged; theirs differ.")
        if not other._positions:
            return
        self._rows.merge(other._rows)
        for key, parts in other._parts.items():
            self._parts.setdefault(key, []).extend(parts)
        self._positions += other._positions

    def finish(self) -> ProjectionStatistics:
        """Return where all samples lie.

        Raises:
            AnalysisError: No layer with directions came, or a sample came twice.
        """
        if not self._positions:
            raise AnalysisError("No layer with directions came; stream the layers that the directions are of.")
        positions = np.concatenate(self._positions)
        order = np.argsort(positions)
        found = positions[order]
        repeated = found[1:][found[1:] == found[:-1]]
        if len(repeated):
            raise AnalysisError(f"Sample {repeated[0]} came twice; projections take every sample once.")
        layers = tuple(self._rows.layers[row] for row in self._rows.topological())
        table = np.stack([np.concatenate(self._parts[model, layer.name])[order] for model, layer in layers])
        return ProjectionStatistics(
            layers=layers,
            sample_index=found,
            scores=table[..., 0],
            norms=table[..., 1],
            centred_norms=table[..., 2],
            cosines={name: table[..., _COLUMNS + place] for place, name in enumerate(self._others)},
        )

    def _vectors(self, key: LayerKey) -> NDArray[np.float64]:
        """Return the mean, the direction and the others as unit vectors of one layer (vector, feature)."""
        mean = self._directions.means[key]
        rows = [mean, self._directions.vectors[key]]
        for vectors in self._others.values():
            given = vectors.get(key, np.full(len(mean), np.nan))
            if given.shape != mean.shape:
                raise AnalysisError(
                    f"Another direction of layer {key[1]!r} of model {key[0]!r} is of shape {given.shape}, and its "
                    f"mean of {mean.shape}; take both from the same layer."
                )
            with np.errstate(invalid="ignore", divide="ignore"):
                rows.append(given / np.linalg.norm(given))
        return np.stack(rows)

    def _all_vectors(self) -> dict[tuple[str, LayerKey], NDArray[np.float64]]:
        kinds = {"mean": self._directions.means, "direction": self._directions.vectors}
        kinds |= {f"other {name}": vectors for name, vectors in self._others.items()}
        return {(kind, key): vector for kind, vectors in kinds.items() for key, vector in vectors.items()}
