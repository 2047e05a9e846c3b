"""Mean squared canonical correlation of two sets of features of the same samples."""

import math
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike, NDArray

from outcrop.errors import InputError
from outcrop.numerics.measures.procrustes import centred_coordinates
from outcrop.numerics.measures.samples import matched_features, resolution

if TYPE_CHECKING:
    from torch import Tensor

LEAST_SAMPLES = 3


def canonical_correlation(x: "ArrayLike | Tensor", y: "ArrayLike | Tensor", *, mean_free: bool = True) -> float:
    """Return the mean of the squared canonical correlations, ``|Q_y' Q_x|^2 / min(p, q)``, in [0, 1].

    Q_x and Q_y are orthonormal bases of the mean-free features (``R^2_CCA`` of Kornblith et al. 2019,
    arXiv 1905.00414, table 1). It does not change with any invertible linear map of either side, so all directions
    count the same, those of little variance as much as the first: noise there lowers it, and the directions that a
    network computes with hardly show. Where features depend on one another, p and q are the dimensions that they
    span; directions no larger than the rounding of the input's type do not count.

    Refused where there are more features than samples less two: one side can then express any mean-free function of the
    samples, and the value is 1 whatever the features. Far below that it is still not 0 for independent features, but
    ``max(p, q) / (n - 1)`` on average; take ten times as many samples as features at least.

    Cost: ``n (p + q)^2``.

    Args:
        x: (sample, ...); further dimensions are flattened. An array, or a tensor on any device.
        y: (sample, ...), of the same samples in the same order.
        mean_free: Whether means are subtracted, as a correlation needs. The code published with Kornblith et al. leaves
            them in: its values, which this gives without, move with shifts of the features.

    Returns:
        The mean; NaN where the features of one side are constant (0, if not mean-free), for which it is not defined.

    Raises:
        InputError: More features than samples less two, fewer than 3 samples, different numbers of samples, or values
            that are not finite.
    """
    sides = matched_features(x, y, measure="Canonical correlation", least=LEAST_SAMPLES)
    for side, name in zip(sides, ("x", "y"), strict=True):
        samples, features = side.shape
        if features > samples - 2:
            raise InputError(
                "Canonical correlation needs at least two samples more than features, or it is 1 whatever they are; "
                f"{name} has {features} features of {samples} samples: take more samples, fewer features, or CKA."
            )
    first, second = (
        _basis(centred_coordinates(side) if mean_free else side.astype(np.float64), _noise(side, resolution(given)))
        for side, given in zip(sides, (x, y), strict=True)
    )
    dimensions = min(first.shape[1], second.shape[1])
    return float(np.linalg.norm(first.T @ second) ** 2) / dimensions if dimensions else math.nan


def _basis(values: Float[np.ndarray, "sample feature"], noise: float) -> NDArray[np.float64]:
    """Return an orthonormal basis (sample, dimension) of the directions above the noise."""
    vectors, sizes, _ = np.linalg.svd(values, full_matrices=False)
    floor = max(noise, np.finfo(np.float64).eps * max(values.shape) * float(sizes.max(initial=0.0)))
    return np.ascontiguousarray(vectors[:, sizes > floor])


def _noise(values: Float[np.ndarray, "sample feature"], spacing: float) -> float:
    """Return the spectral norm that rounding errors of the values have, as a matrix of independent entries."""
    if not values.size:
        return 0.0
    typical = math.sqrt(float(np.mean(np.square(values, dtype=np.float64))))
    return spacing * typical * sum(math.sqrt(length) for length in values.shape)
