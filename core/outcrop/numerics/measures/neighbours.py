"""Mutual k-nearest neighbours: how much of its neighbourhood a sample keeps from one representation to another."""

import math
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike, NDArray

from outcrop.errors import InputError, ParameterError, did_you_mean
from outcrop.numerics.kernels.gram_matrix import gram_matrix, squared_distances
from outcrop.numerics.measures.samples import matched_features

if TYPE_CHECKING:
    from torch import Tensor

Metric = Literal["cosine", "euclidean"]
METRICS: tuple[Metric, ...] = get_args(Metric)

LEAST_SAMPLES = 3

ROUNDING = 256 * np.finfo(np.float64).eps
"""Distances that differ by this share of the terms they are made of, or less, are equal."""


def mutual_neighbours(
    x: "ArrayLike | Tensor",
    y: "ArrayLike | Tensor",
    *,
    neighbours: int = 10,
    metric: str = "cosine",
    corrected: bool = False,
) -> float:
    """Return the mean share of the k nearest neighbours of a sample that both representations have in common.

    ``m = mean_i |N_x(i) & N_y(i)| / k``, in [0, 1], a sample not being its own neighbour (Huh et al. 2024,
    arXiv 2405.07987, whose published code takes k = 10 and the cosine of features as they are). It looks at the nearest
    samples only, where CKA is ruled by the farthest.

    Unrelated representations have ``k / (n - 1)`` in common: exactly so on average over all orders of the samples of
    one side. Values of different k or n are therefore not comparable, unless ``corrected``:
    ``(m - e) / (1 - e)`` with ``e = k / (n - 1)``, 0 on average for unrelated ones and 1 for equal neighbourhoods.

    Metrics: ``cosine`` (the samples divided by their norms; shifts of features matter) or ``euclidean`` (they do not).
    Neither changes with rotations and isotropic scaling.

    Cost: ``n^2 (p + q)``; memory: three matrices (sample, sample).

    Args:
        x: (sample, ...); further dimensions are flattened. An array, or a tensor on any device.
        y: (sample, ...), of the same samples in the same order.
        neighbours: k, at most n - 2: all others are the nearest n - 1 of every sample.
        metric: One of the above.
        corrected: Whether to subtract what unrelated representations have in common.

    Returns:
        The share; NaN where all samples of one side are equally far from one another (constant features among them),
        for which it is not defined.

    Raises:
        ParameterError: An unknown metric, or k out of its range.
        InputError: Ties between the k-th and the next neighbour, so that the nearest k are not defined; fewer than 3
            samples, different numbers of samples, or values that are not finite.
    """
    if metric not in METRICS:
        raise ParameterError(f"Unknown metric {metric!r}: choose {', '.join(METRICS)}.{did_you_mean(metric, METRICS)}")
    sides = matched_features(x, y, measure="Mutual nearest neighbours", least=LEAST_SAMPLES)
    samples = len(sides[0])
    if not 1 <= neighbours <= samples - 2:
        raise ParameterError(
            f"neighbours must be from 1 to {samples - 2} of {samples} samples, two fewer than there are; "
            f"got {neighbours}."
        )
    nearest = []
    for side, name in zip(sides, ("x", "y"), strict=True):
        found = _nearest(side, neighbours, metric, name)
        if found is None:
            return math.nan
        nearest.append(found)
    share = int(np.count_nonzero(nearest[0] & nearest[1])) / (samples * neighbours)
    if not corrected:
        return share
    expected = neighbours / (samples - 1)
    return (share - expected) / (1 - expected)


def _nearest(
    values: Float[np.ndarray, "sample feature"], neighbours: int, metric: str, name: str
) -> NDArray[np.bool_] | None:
    """Return whether the second sample is near the first (sample, sample), None where all are equally far."""
    if metric == "euclidean":
        distances = squared_distances(values)
        # Squared norms of the mean-free samples, from the distances: what a squared distance is made of.
        norms = np.maximum(distances.mean(axis=1) - distances.mean() / 2, 0.0)
    else:
        distances = -gram_matrix(values, kernel="cosine")
        norms = np.ones(len(distances))
    others = distances[~np.eye(len(distances), dtype=bool)]
    if np.ptp(others) <= ROUNDING * norms.max():
        return None
    np.fill_diagonal(distances, np.inf)
    order = np.argpartition(distances, (neighbours - 1, neighbours), axis=1)
    edge = order[:, neighbours - 1 : neighbours + 1]
    last, following = np.take_along_axis(distances, edge, axis=1).T
    tied = np.count_nonzero(following - last <= ROUNDING * (norms + norms[edge].max(axis=1)))
    if tied:
        raise InputError(
            f"{tied} of the {len(distances)} samples of {name} have no definite {neighbours} nearest neighbours: the "
            "next sample is as far as the last of these. Leave out repeated samples, or choose another k."
        )
    near = np.zeros(distances.shape, dtype=bool)
    np.put_along_axis(near, order[:, :neighbours], True, axis=1)
    return near
