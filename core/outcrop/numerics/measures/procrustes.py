"""Orthogonal Procrustes distance of two sets of features of the same samples."""

import math
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike, NDArray

from outcrop.errors import ParameterError, did_you_mean
from outcrop.numerics.kernels.gram_matrix import CHUNK, centred_parts
from outcrop.numerics.measures.samples import matched_features

if TYPE_CHECKING:
    from torch import Tensor

Form = Literal["squared", "distance", "angle"]
FORMS: tuple[Form, ...] = get_args(Form)

LEAST_SAMPLES = 3
"""Two mean-free samples are one direction, and always fit."""


def procrustes_distance(x: "ArrayLike | Tensor", y: "ArrayLike | Tensor", *, form: str = "squared") -> float:
    """Return how far two representations stay apart after the best rotation, shift and isotropic scaling.

    Features are made mean-free and divided by their Frobenius norm; then, with the nuclear norm (the sum of singular
    values) ``c = |X'Y|_*``, in [0, 1]:

    * ``squared``: ``min_R |X R - Y|^2 = 2 - 2 c``, in [0, 2] (Ding et al. 2021, arXiv 2108.01661).
    * ``distance``: its root, in [0, 1.41]; a metric.
    * ``angle``: ``arccos c``, in [0, 1.57]; a metric (Williams et al. 2021, arXiv 2110.14739).

    0 where one is the other one rotated, shifted and scaled. Rotations here may reflect, and take the representation
    of fewer features into the space of the other.

    Not where features outnumber samples: like biased CKA, the distance of independent features then goes to its
    minimum (squared, of Gaussian features, 256 samples: 1.17 with 64 features, 0.13 with 1,024, 0.03 with 4,096).
    Below a squared distance of about 1e-15 only rounding is left.

    Cost: ``n p q`` and a singular value decomposition ``(min(n, p), min(n, q))``; 2 to 4 times ``n^2 p`` where features
    outnumber samples. No matrix (feature, feature) is formed then.

    Args:
        x: (sample, ...); further dimensions are flattened. An array, or a tensor on any device.
        y: (sample, ...), of the same samples in the same order; the numbers of features may differ.
        form: One of the above.

    Returns:
        The distance; NaN where the features of one side are constant, for which it is not defined.

    Raises:
        ParameterError: An unknown form.
        InputError: Fewer than 3 samples, different numbers of samples, or values that are not finite.
    """
    if form not in FORMS:
        raise ParameterError(f"Unknown form {form!r}: choose {', '.join(FORMS)}.{did_you_mean(form, FORMS)}")
    features = matched_features(x, y, measure="The Procrustes distance", least=LEAST_SAMPLES)
    first, second = (centred_coordinates(side) for side in features)
    sizes = float(np.linalg.norm(first)), float(np.linalg.norm(second))
    if min(sizes) == 0:
        return math.nan
    product = (first / sizes[0]).T @ (second / sizes[1])
    # Mathematically at most 1; what rounding adds must not make a distance imaginary.
    overlap = min(1.0, float(np.linalg.svd(product, compute_uv=False).sum()))
    if form == "angle":
        return math.acos(overlap)
    return math.sqrt(2.0 - 2.0 * overlap) if form == "distance" else 2.0 - 2.0 * overlap


def centred_coordinates(values: Float[np.ndarray, "sample feature"]) -> NDArray[np.float64]:
    """Return mean-free features in float64, rotated into as many coordinates as there are samples where that is fewer.

    Inner products between samples, and all that follows from them, stay the same. The rotation is a QR decomposition
    of the features some at a time, which keeps the digits that the root of a Gram matrix would lose.

    Args:
        values: Features of the samples, of any real type.
    """
    samples, features = values.shape
    if features <= samples:
        return np.hstack([*centred_parts(values, step=max(1, features)), np.zeros((samples, 0))])
    triangle = np.zeros((0, samples))
    for part in centred_parts(values, step=max(samples, CHUNK // samples)):
        triangle = np.asarray(np.linalg.qr(np.vstack([triangle, part.T]), mode="r"), dtype=np.float64)
    return np.ascontiguousarray(triangle.T)
