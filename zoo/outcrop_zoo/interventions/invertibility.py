"""How far a rotated representation is from anything that the layers before it can produce."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from outcrop.errors import InputError, ParameterError
from outcrop_zoo.interventions.rotation_matrices import check_orthogonal


def inversion_deficit(
    features: Float[Tensor, "sample feature ..."],
    matrix: Float[Tensor, "feature feature"],
    *,
    lower: float = 0.0,
    upper: float = math.inf,
) -> float:
    """Return a lower bound of the error that remains when what lies before a rotation tries to undo it.

    To undo R, the layers before it must produce z with ``R z = h``, within the range of their activation function.
    For orthogonal R the best they can do is ``z = clip(R'h)``, which leaves

        deficit = E |clip(R'h) - R'h|^2 / E |h|^2

    of the representation's squared length (about the origin, not the mean); for ReLU that is
    ``E |min(R'h, 0)|^2 / E |h|^2``. 0 for permutations, and about 1/2 for uniformly random rotations. A bound:
    what real layers reach may be worse. It says nothing of whether the task needs what is lost.

    Cost: one product (sample times position, feature) with the matrix, in float64.

    Args:
        features: h, the values at the site before they are rotated: (sample, feature) or (sample, feature, y, x).
        matrix: R, orthogonal.
        lower: Least value of the activation function: 0 for ReLU and sigmoid, -1 for tanh, -0.17 for GELU.
        upper: Its largest value: infinite for ReLU and GELU, 1 for sigmoid and tanh.

    Returns:
        The deficit, in [0, 1] where 0 lies in the range; NaN where all features are 0, for which it is not defined.

    Raises:
        ParameterError: The matrix is not orthogonal, or the range is empty.
        InputError: The features do not fit the matrix, are not finite, or there are none.
    """
    check_orthogonal(matrix)
    if not lower < upper:
        raise ParameterError(f"The range from {lower} to {upper} is empty; lower must be less than upper.")
    if features.ndim < 2 or features.shape[1] != len(matrix) or not features.numel():
        raise InputError(
            f"The rotation has {len(matrix)} features, and got values of shape {tuple(features.shape)}; "
            "give (sample, feature, ...)."
        )
    vectors = features.detach().double().movedim(1, -1).flatten(0, -2)
    if not torch.isfinite(vectors).all():
        raise InputError("The features hold values that are not finite; leave those samples out.")
    wanted = vectors @ matrix.double().to(vectors.device)  # rows h' R, the transpose of R'h
    total = float(vectors.square().sum())
    return float((wanted.clamp(lower, upper) - wanted).square().sum()) / total if total else math.nan
