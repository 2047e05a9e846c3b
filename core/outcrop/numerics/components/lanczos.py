"""Block Lanczos iteration: Ritz pairs of a block tridiagonal matrix, and orthonormal blocks."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Solution:
    """What one layer's passes so far tell, samples in the order of their positions.

    Attributes:
        values: (component,), squared singular values of the mean-free features, descending.
        weights: (vector, component), Ritz vectors in terms of all basis vectors so far.
        residuals: (component,), ``|A v - value v|`` over the largest value.
        rows: (sample, vector), mean-free features times the newest basis vectors.
        diagonal: (vector, vector), their products with each other.
        distances: (sample,), squared distance from the mean.
    """

    values: Tensor
    weights: Tensor
    residuals: Tensor
    rows: Tensor
    diagonal: Tensor
    distances: Tensor


def ritz_pairs(diagonals: Sequence[Tensor], couplings: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return eigenvalues, descending, and eigenvectors of a block tridiagonal matrix.

    Its blocks are those that Lanczos iteration gives. Products of later with earlier vectors, which rounding alone
    makes, are left out: with them, a component that has converged would be counted twice.

    Args:
        diagonals: ``V_j' A V_j``.
        couplings: ``V_{j+1}' A V_j``, one fewer.
    """
    matrix = torch.block_diag(*diagonals)  # type: ignore[no-untyped-call] # torch leaves it untyped
    size = len(diagonals[0])
    for index, coupling in enumerate(couplings):
        this, following = (slice(size * step, size * (step + 1)) for step in (index, index + 1))
        matrix[following, this], matrix[this, following] = coupling, coupling.T
    values, vectors = torch.linalg.eigh(matrix)
    return values.flip(0), vectors.flip(1)


def orthonormal(vectors: Float[Tensor, "vector feature"], noise: float) -> Float[Tensor, "vector feature"]:
    """Return as many orthonormal vectors of the same span; zeros for directions whose length is up to ``noise``."""
    kept: Tensor | None = None
    for _ in range(3):  # Each time squares the error that rounding leaves of nearly parallel vectors.
        lengths, turn = torch.linalg.eigh(vectors @ vectors.T)
        if kept is None:
            least = max(noise**2, float(lengths[-1]) * len(vectors) * torch.finfo(vectors.dtype).eps)
            kept = lengths > least
            scale = torch.where(kept, lengths, 1).rsqrt() * kept
        else:
            scale = torch.where(lengths > 0.25, lengths.clamp(min=0.25).rsqrt(), 0.0)
        vectors = (turn * scale).T @ vectors
    return vectors
