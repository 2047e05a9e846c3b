"""Representational similarity analysis: two representations compared by the dissimilarities of their samples."""

import math
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike, NDArray

from outcrop.errors import ParameterError, did_you_mean
from outcrop.numerics.kernels.gram_matrix import CHUNK, squared_distances
from outcrop.numerics.measures.samples import matched_features

if TYPE_CHECKING:
    from torch import Tensor

Dissimilarity = Literal["correlation", "euclidean"]
DISSIMILARITIES: tuple[Dissimilarity, ...] = get_args(Dissimilarity)
Comparison = Literal["spearman", "pearson"]
COMPARISONS: tuple[Comparison, ...] = get_args(Comparison)

LEAST_SAMPLES = 3

EQUAL = 64 * np.finfo(np.float64).eps
"""Dissimilarities that spread by this share of the largest one, or less, are equal."""


def representational_similarity(
    x: "ArrayLike | Tensor",
    y: "ArrayLike | Tensor",
    *,
    dissimilarity: str = "correlation",
    comparison: str = "spearman",
) -> float:
    """Return the correlation of the dissimilarities between samples in two representations, in [-1, 1].

    Representational similarity analysis (Kriegeskorte et al. 2008, doi:10.3389/neuro.06.004.2008): the dissimilarities
    of all ``n (n - 1) / 2`` pairs of samples, each pair once and none of a sample with itself, correlated over pairs.

    * Dissimilarity ``correlation``: 1 minus the Pearson correlation of two samples over features, as they are (a mean
      pattern that all samples share makes all of them alike). ``euclidean``: the distance; shifts do not matter.
    * Comparison ``spearman``: of ranks, ties given their mean rank. ``pearson``: of the values.

    Unrelated representations give 0 on average, whatever the number of features; pairs share samples and are not
    independent, so an ordinary p-value of this correlation is wrong.

    Cost: ``n^2 (p + q)``, and sorting ``n^2 / 2`` pairs for ranks; memory: four matrices (sample, sample).

    Args:
        x: (sample, ...); further dimensions are flattened. An array, or a tensor on any device.
        y: (sample, ...), of the same samples in the same order.
        dissimilarity: One of the above.
        comparison: One of the above.

    Returns:
        The correlation; NaN where it is not defined: on one side all samples are equally dissimilar (constant features
        among them), or, with ``correlation``, some sample has the same value in all features.

    Raises:
        ParameterError: An unknown dissimilarity or comparison.
        InputError: Fewer than 3 samples, different numbers of samples, or values that are not finite.
    """
    for kind, given, known in (
        ("dissimilarity", dissimilarity, DISSIMILARITIES),
        ("comparison", comparison, COMPARISONS),
    ):
        if given not in known:
            raise ParameterError(f"Unknown {kind} {given!r}: choose {', '.join(known)}.{did_you_mean(given, known)}")
    sides = matched_features(x, y, measure="Representational similarity", least=LEAST_SAMPLES)
    pairs = []
    for side in sides:
        values = _pairs(side, dissimilarity)
        if np.isnan(values).any() or np.ptp(values) <= EQUAL * values.max():
            return math.nan
        if comparison == "spearman":
            # scipy takes long to import; only ranks need it.
            from scipy.stats import rankdata

            values = rankdata(values)
        pairs.append(values - values.mean())
    norms = [float(np.linalg.norm(values)) for values in pairs]
    return float(np.vdot(*pairs)) / (norms[0] * norms[1])


def _pairs(values: Float[np.ndarray, "sample feature"], dissimilarity: str) -> NDArray[np.float64]:
    """Return the dissimilarities above the diagonal, row by row; NaN for a pair without one."""
    upper = np.triu_indices(len(values), 1)
    if dissimilarity == "euclidean":
        return np.asarray(np.sqrt(squared_distances(values)[upper]), dtype=np.float64)
    products = _row_products(values)
    norms = np.sqrt(np.diag(products))
    inverse = np.divide(1.0, norms, out=np.full_like(norms, np.nan), where=norms > 0)
    return np.asarray(1.0 - (products * inverse[:, None] * inverse[None, :])[upper], dtype=np.float64)


def _row_products(values: Float[np.ndarray, "sample feature"]) -> NDArray[np.float64]:
    """Return inner products of samples whose mean over features is subtracted, converting a few features at a time."""
    samples, features = values.shape
    products = np.zeros((samples, samples))
    if not features:
        return products
    mean = values.mean(axis=1, keepdims=True, dtype=np.float64)
    largest = np.zeros((samples, 1))
    step = max(1, CHUNK // samples)
    for start in range(0, features, step):
        part = values[:, start : start + step].astype(np.float64) - mean
        largest = np.maximum(largest, np.abs(part).max(axis=1, keepdims=True))
        products += part @ part.T
    # The mean itself is rounded: what is left of a sample of equal values is no pattern.
    constant = (largest <= features * np.finfo(np.float64).eps * np.abs(mean))[:, 0]
    products[constant] = 0.0
    products[:, constant] = 0.0
    return products
