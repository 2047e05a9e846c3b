"""Random orthogonal matrices and their kin, which rotate the channels of a representation."""

import math
from typing import get_args

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from outcrop.errors import ParameterError, did_you_mean
from outcrop_zoo.interventions.specs import RotationKind

Matrix = Float[Tensor, "feature feature"]

_LARGEST_SCALE = 2.0
_TOLERANCE = 1e-4


def rotation_matrix(
    kind: RotationKind,
    features: int,
    *,
    seed: int,
    dimensions: int | None = None,
    fraction: float | None = None,
) -> Matrix:
    """Return a random matrix R (feature, feature) in float64, for ``R h`` with h a column of features.

    * ``haar``: uniform over all orthogonal matrices. QR of a Gaussian matrix, columns multiplied by the sign of R's
      diagonal, without which it is not uniform (Mezzadri 2007, arXiv math-ph/0609050).
    * ``special_haar``: the same with determinant 1: no reflection.
    * ``block``: uniform in a random subspace of some ``dimensions``, the identity outside.
    * ``geodesic``: a ``fraction`` of the way from the identity to ``special_haar`` of the same seed.
    * ``householder``: the reflection at a random hyperplane.
    * ``permutation``, ``positive_diagonal`` (factors log-uniform in [1/2, 2]) and their product
      ``scaled_permutation``: symmetries of ReLU, which a network can undo exactly: positive controls.
    * ``signed_permutation``: a symmetry of odd activation functions, not of ReLU.

    Cost: features cubed.

    Args:
        kind: One of the above.
        features: At least 1.
        seed: The same seed gives the same matrix.
        dimensions: Of the subspace, from 1 to the number of features; for ``block`` only.
        fraction: In [0, 1]; for ``geodesic`` only.

    Raises:
        ParameterError: An unknown kind, or an option that is out of range, missing or not of this kind.
    """
    _check(kind, features, dimensions, fraction)
    generator = Generator().manual_seed(seed)
    identity = torch.eye(features, dtype=torch.float64)
    if kind == "haar":
        return _haar(features, features, generator)
    if kind in ("special_haar", "geodesic"):
        special = _special(_haar(features, features, generator))
        return special if fraction is None else geodesic(special, fraction)
    if kind == "block":
        count = dimensions or features
        basis, inside = _haar(features, count, generator), _haar(count, count, generator)
        return identity + basis @ (inside - torch.eye(count, dtype=torch.float64)) @ basis.T
    if kind == "householder":
        normal = _haar(features, 1, generator)
        return identity - 2 * normal @ normal.T
    scales = torch.ones(features, dtype=torch.float64)
    matrix = identity
    if kind != "positive_diagonal":
        matrix = identity[torch.randperm(features, generator=generator)]
    if kind == "signed_permutation":
        scales = 1 - 2 * torch.randint(0, 2, (features,), generator=generator).double()
    elif kind != "permutation":
        exponents = 2 * torch.rand(features, generator=generator, dtype=torch.float64) - 1
        scales = _LARGEST_SCALE**exponents
    return scales[:, None] * matrix


def geodesic(rotation: Matrix, fraction: float) -> Matrix:
    """Return ``expm(t logm(R))``: R at t = 1, the identity at t = 0, the shortest way in between.

    Computed by turning every plane of R's real Schur form by a part of its angle, so that the result is orthogonal
    for any t, and at half turns too, where the logarithm is not unique.

    Args:
        rotation: (feature, feature), orthogonal with determinant 1.
        fraction: t, any number.

    Raises:
        ParameterError: The matrix is not orthogonal, or reflects: no way leads from the identity to it.
    """
    from scipy.linalg import schur

    check_orthogonal(rotation)
    if torch.linalg.det(rotation.double()) < 0:
        raise ParameterError("The rotation has determinant -1, a reflection; a geodesic needs determinant 1.")
    form, basis = (torch.from_numpy(part) for part in schur(rotation.double().numpy(), output="real"))
    turned = torch.eye(len(rotation), dtype=torch.float64)
    half_turns: list[int] = []
    place = 0
    while place < len(form):
        if place + 1 < len(form) and abs(float(form[place + 1, place])) > _TOLERANCE**2:
            angle = math.atan2(float(form[place + 1, place]), float(form[place, place]))
            _turn(turned, place, place + 1, fraction * angle)
            place += 2
        else:
            if form[place, place] < 0:
                half_turns.append(place)
            place += 1
    # Determinant 1: directions that are reversed come in pairs, each a half turn of a plane.
    for first, second in zip(half_turns[::2], half_turns[1::2], strict=True):
        _turn(turned, first, second, fraction * math.pi)
    return basis @ turned @ basis.T


def check_orthogonal(matrix: Matrix) -> None:
    """Check that a matrix is orthogonal, to four digits.

    Raises:
        ParameterError: It is not square, or not orthogonal.
    """
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ParameterError(f"A rotation is a square matrix; got shape {tuple(matrix.shape)}.")
    values = matrix.double()
    error = float((values.T @ values - torch.eye(len(values), dtype=torch.float64, device=values.device)).abs().max())
    if not error <= _TOLERANCE:
        raise ParameterError(
            f"The matrix is not orthogonal: R'R differs from the identity by {error:.2g}, expected at most "
            f"{_TOLERANCE:.0e}. Use an orthogonal one, such as rotation_matrix('haar', ...)."
        )


def _check(kind: str, features: int, dimensions: int | None, fraction: float | None) -> None:
    kinds = get_args(RotationKind)
    if kind not in kinds:
        raise ParameterError(f"Unknown rotation {kind!r}: choose {', '.join(kinds)}.{did_you_mean(kind, kinds)}")
    if features < 1:
        raise ParameterError(f"A rotation of {features} features is none; give at least 1.")
    if (kind == "block") != (dimensions is not None) or not (dimensions is None or 1 <= dimensions <= features):
        raise ParameterError(
            f"rotation {kind!r} of {features} features with dimensions={dimensions}: give dimensions, from 1 to the "
            "number of features, with 'block', and only with it."
        )
    if (kind == "geodesic") != (fraction is not None) or not (fraction is None or 0 <= fraction <= 1):
        raise ParameterError(
            f"rotation {kind!r} with fraction={fraction}: give fraction, from 0 to 1, with 'geodesic', and only with "
            "it."
        )


def _haar(rows: int, columns: int, generator: Generator) -> Tensor:
    """Return orthonormal columns (row, column), uniformly distributed."""
    gaussian = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    basis, triangle = torch.linalg.qr(gaussian)
    signs = torch.where(triangle.diagonal() < 0, -1.0, 1.0)
    uniform: Tensor = basis * signs
    return uniform


def _special(matrix: Tensor) -> Tensor:
    if torch.linalg.det(matrix) > 0:
        return matrix
    return torch.cat([-matrix[:, :1], matrix[:, 1:]], dim=1)


def _turn(matrix: Tensor, first: int, second: int, angle: float) -> None:
    cosine, sine = math.cos(angle), math.sin(angle)
    matrix[first, first] = matrix[second, second] = cosine
    matrix[second, first], matrix[first, second] = sine, -sine
