"""What streamed principal components tell about layers: shares, the samples that carry them, their alignment."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from outcrop.models.model import Layer


@dataclass(frozen=True)
class ComponentStatistics:
    """Principal components of every layer over all samples.

    Layers are in topological order, one model after the other; samples by their position in the data. Values that
    are not defined are NaN.

    Attributes:
        layers: (model, layer) of every row.
        sample_index: Position of each sample in the data, ascending.
        share: Of the total variance that the leading components hold, descending: squared singular values of the
            mean-free features over their sum. NaN where a layer has fewer components.
        residual: Of each of these, ``|A v - value v|`` over the first value, ``A`` being the features' scatter
            matrix: the squared singular values are within that much (of the first) of true ones.
        projections: Mean-free features times the first component, ``S_1 u_1i``. The sign is arbitrary; it is the one
            that makes the sum of the cubes positive.
        norms: Length of each sample's mean-free features.
        effective_samples: Effective number of samples that carry the first component, ``1 / sum u_1i^4``: the number
            of samples where all carry it alike, 1 where a single one does.
        alignment: Squared cosine between the first components of two layers, as vectors over the samples
            (arXiv 2202.07184, section 4).
        passes: Passes over the samples that the layer took part in.
        converged: Whether the first component's residual is within the tolerance.
        degenerate: Layers without variance, or with values that are not finite; all else about them is NaN.
        non_finite_count: Values that are NaN or infinite.
        feature_count: Features of one sample.
    """

    layers: tuple[tuple[str, Layer], ...]
    sample_index: Int[np.ndarray, " sample"]
    share: Float[np.ndarray, "layer component"]
    residual: Float[np.ndarray, "layer component"]
    projections: Float[np.ndarray, "layer sample"]
    norms: Float[np.ndarray, "layer sample"]
    effective_samples: Float[np.ndarray, " layer"]
    alignment: Float[np.ndarray, "layer layer"]
    passes: Int[np.ndarray, " layer"]
    converged: Bool[np.ndarray, " layer"]
    degenerate: Bool[np.ndarray, " layer"]
    non_finite_count: Int[np.ndarray, " layer"]
    feature_count: Int[np.ndarray, " layer"]

    @property
    def unconverged(self) -> Bool[np.ndarray, " layer"]:
        """Return which layers have a first component that the passes have not found to the tolerance."""
        return np.asarray(~self.converged & ~self.degenerate)

    def projections_by_layer(self, sample_count: int | None = None) -> Mapping[tuple[str, str], NDArray[np.float64]]:
        """Return the projections by model and layer name, each in the place of its sample's position in the data.

        Zeros where a layer has no component to remove; NaN for samples that were not among those decomposed.

        Args:
            sample_count: Number of samples of the data; by default up to the last of those decomposed.
        """
        placed = np.full((len(self.layers), sample_count or int(self.sample_index.max()) + 1), np.nan)
        placed[:, self.sample_index] = np.where(self.degenerate[:, None], 0.0, self.projections)
        return {(model, layer.name): row for (model, layer), row in zip(self.layers, placed, strict=True)}


@dataclass(frozen=True)
class LayerResult:
    """What is kept of one layer once its first component is known; attributes as of :class:`ComponentStatistics`."""

    share: Float[np.ndarray, " component"]
    residual: Float[np.ndarray, " component"]
    projections: Float[np.ndarray, " sample"]
    norms: Float[np.ndarray, " sample"]
    passes: int
    degenerate: bool
    non_finite: int
    features: int


def participation(projections: Float[np.ndarray, "layer sample"]) -> Float[np.ndarray, " layer"]:
    """Return the effective number of samples that carry each row: ``(sum s^2)^2 / sum s^4``.

    The participation ratio of Bell and Dean 1970 (doi 10.1039/DF9705000055), from 1 to the number of samples.
    """
    unit = unit_rows(projections)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(1 / (unit**4).sum(axis=1))


def squared_cosines(projections: Float[np.ndarray, "layer sample"]) -> Float[np.ndarray, "layer layer"]:
    """Return the squared cosine between every two rows."""
    unit = unit_rows(projections)
    cosines = unit @ unit.T
    # A row's cosine with itself is 1; rounding must not say otherwise, nor make one of two equal rows larger.
    np.fill_diagonal(cosines, np.where(np.isnan(unit[:, 0]), np.nan, 1.0))
    return np.asarray(cosines**2)


def unit_rows(values: Float[np.ndarray, "layer sample"]) -> Float[np.ndarray, "layer sample"]:
    """Return rows of length 1; NaN for rows of zeros."""
    # Scaled first, so that no square leaves the range.
    with np.errstate(invalid="ignore", divide="ignore"):
        scaled = values / np.abs(values).max(axis=1, keepdims=True)
        return np.asarray(scaled / np.linalg.norm(scaled, axis=1, keepdims=True))
