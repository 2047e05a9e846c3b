"""The first principal component of many subsets of one group of samples, from one Gram matrix."""

import numpy as np
import torch
from jaxtyping import Float
from scipy.linalg import lapack
from torch import Tensor

from outcrop.numerics.kernels.principal import TOLERANCE, leading_component

STEPS = (8, 12, 18, 26, 36, 48, 56, 64, 80, 112)
"""Multiplications by the matrix after which subsets are asked whether they have converged; noise takes some 70."""

CHUNK = 32
"""Subsets whose matrices are held at a time."""

COMPLETE = 1e-10
"""Length, beside the products' own, below which what a step adds is rounding: the space holds all that can be found."""


def subset_components(
    gram: Float[Tensor, "sample sample"], kept: Float[Tensor, "subset sample"]
) -> tuple[Float[Tensor, " subset"], Float[Tensor, "subset sample"]]:
    """Return the largest eigenvalue and its unit eigenvector of the mean-free matrix of every subset.

    Lanczos iteration, all subsets together: one product of the matrix with a block of vectors, each of which is 0
    outside its subset, does for all of them. Vectors are not made orthogonal to all before: what rounding leaves of
    them grows with the convergence of the eigenvector that is looked for, and not before (Paige 1980,
    doi:10.1016/0024-3795(80)90167-6). A subset whose vector the steps do not bring to
    ``|K u - lambda u| <= 1e-8 lambda`` goes to :func:`outcrop.numerics.leading_component`. Cost: ``2 n^2`` for each
    subset and step, 8 steps where one component dominates, some 70 of noise, and what that function takes otherwise.

    Args:
        gram: Inner products about any common origin, float64.
        kept: 1 for samples of the subset, 0 for others; at least one sample each.

    Returns:
        (subset,) eigenvalues, and (subset, sample) vectors, 0 outside the subset, of arbitrary sign. Zeros where the
        samples of a subset do not differ.
    """
    counts = kept.sum(1)
    values, vectors = torch.zeros_like(counts), torch.zeros_like(kept)
    trace = _traces(gram, kept, counts)
    # What is left of equal samples is rounding of the products.
    rest = torch.nonzero(trace > 8 * torch.finfo(gram.dtype).eps * (kept @ gram.diagonal().abs())).squeeze(1)
    if not len(rest):
        return values, vectors
    used = kept[rest]
    found = torch.nn.functional.normalize(_apply(gram, used, _iterate(gram, used)), dim=1)
    image = _apply(gram, used, found)
    sizes = (found * image).sum(1)
    residual = (image - sizes.unsqueeze(1) * found).norm(dim=1)
    # A vector of rounding is no unit vector and has no size.
    left = torch.nonzero(~((residual <= TOLERANCE * sizes) & (sizes > 0))).squeeze(1)
    for start in range(0, len(left), CHUNK):
        part = left[start : start + CHUNK]
        sizes[part], vector = leading_component(_centred_matrices(gram, used[part]))
        # Rows outside the subset are 0 in the matrix, and to rounding in the vector.
        found[part] = vector * used[part]
    values[rest], vectors[rest] = sizes, found
    return values, vectors


def subset_traces(
    gram: Float[Tensor, "sample sample"], kept: Float[Tensor, "subset sample"]
) -> Float[Tensor, " subset"]:
    """Return the summed squared distance of every subset's samples from their mean."""
    return _traces(gram, kept, kept.sum(1))


def _traces(gram: Tensor, kept: Tensor, counts: Tensor) -> Tensor:
    sums = ((kept @ gram) * kept).sum(1)
    return (kept @ gram.diagonal() - sums / counts).clamp_(min=0.0)


def _apply(gram: Tensor, kept: Tensor, vectors: Tensor) -> Tensor:
    """Return the mean-free matrices of subsets times a mean-free vector each."""
    return _centred(vectors @ gram, kept)


def _centred(vectors: Tensor, kept: Tensor) -> Tensor:
    vectors = vectors * kept
    return vectors - kept * (vectors.sum(1) / kept.sum(1)).unsqueeze(1)


def _centred_matrices(gram: Tensor, kept: Tensor) -> Tensor:
    weights = kept / kept.sum(1, keepdim=True)
    means = weights @ gram
    grand = (means * weights).sum(1)
    matrices = gram - means.unsqueeze(1) - means.unsqueeze(2) + grand[:, None, None]
    return matrices * kept.unsqueeze(1) * kept.unsqueeze(2)


def _iterate(gram: Tensor, kept: Tensor) -> Tensor:
    """Return vectors (subset, sample) that should be the first eigenvectors."""
    vectors = torch.zeros_like(kept)
    # The start is the same on every device and in every process, so results are too.
    start = torch.randn(kept.shape[1], dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    going = torch.arange(len(kept), device=kept.device)
    space = _Krylov(kept, torch.nn.functional.normalize(_centred(start.to(kept).expand_as(kept), kept), dim=1))
    for steps in STEPS:
        while len(space.diagonal) < steps:
            space.lengthen(gram)
        diagonal, beside = torch.stack(space.diagonal, dim=1), torch.stack(space.beside, dim=1)
        largest, best = _leading_pairs(diagonal, beside)
        done = beside[:, -1] * best[:, -1].abs() <= TOLERANCE * largest.abs()
        if steps == STEPS[-1]:
            done = torch.ones_like(done)
        if bool(done.any()):
            vectors[going[done]] = space.combined(best)[done]
            going = going[~done]
            space.keep(~done)
        if not len(going):
            break
    return vectors


def _leading_pairs(diagonal: Tensor, beside: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest eigenvalue (matrix,) and its eigenvector (matrix, row) of symmetric tridiagonal matrices.

    LAPACK is asked directly: what scipy's ``eigh_tridiagonal`` does around it takes four times as long as the small
    matrices themselves. A matrix on which it fails gives a vector that the caller's residuals refuse.
    """
    rows = diagonal.shape[1]
    by_index = 2
    found = [
        lapack.dstemr(on, off.copy(), by_index, 0.0, 0.0, rows, rows)  # It works in the memory of the second.
        for on, off in zip(diagonal.cpu().numpy(), beside.cpu().numpy(), strict=True)
    ]
    largest = np.array([values[0] for _, values, _, _ in found])
    best = np.stack([vectors[:, 0] for _, _, vectors, _ in found])
    return torch.from_numpy(largest).to(diagonal), torch.from_numpy(best).to(diagonal)


class _Krylov:
    """Krylov spaces of the matrices of several subsets, of the same length.

    Attributes:
        basis: Unit vectors of each subset (subset, sample), one more than steps; zeros once a space is complete.
        diagonal: For each step, the diagonal entry of the tridiagonal matrix of each subset.
        beside: For each step, the entry beside it, towards the next.
    """

    def __init__(self, kept: Tensor, start: Tensor) -> None:
        self.basis = [start]
        self.diagonal: list[Tensor] = []
        self.beside: list[Tensor] = []
        self._kept = kept
        self._weights = kept / kept.sum(1, keepdim=True)
        self._longest = kept.new_zeros(len(kept))

    def lengthen(self, gram: Tensor) -> None:
        """Make one step."""
        current = self.basis[-1]
        following = (current @ gram).mul_(self._kept)
        along = torch.linalg.vecdot(following, current)
        following.addcmul_(along.unsqueeze(1), current, value=-1)
        if self.beside:
            following.addcmul_(self.beside[-1].unsqueeze(1), self.basis[-2], value=-1)
        following.addcmul_(self._weights, following.sum(1, keepdim=True), value=-1)
        length = torch.linalg.vector_norm(following, dim=1)
        self._longest = torch.maximum(self._longest, along.abs() + length)
        # Rows of zeros then change no eigenvalue above zero.
        further = length > COMPLETE * self._longest
        self.basis.append(following.mul_(torch.where(further, 1 / length, 0.0).unsqueeze(1)))
        self.diagonal.append(along)
        self.beside.append(torch.where(further, length, 0.0))

    def combined(self, weights: Tensor) -> Tensor:
        """Return a sum of each subset's basis vectors (subset, sample) by weights (subset, step)."""
        found = torch.zeros_like(self._kept)
        for weight, vectors in zip(weights.T, self.basis[:-1], strict=True):
            found.addcmul_(weight.unsqueeze(1), vectors)
        return found

    def keep(self, chosen: Tensor) -> None:
        """Go on with some of the subsets."""
        for lists in (self.basis, self.diagonal, self.beside):
            lists[:] = [one[chosen] for one in lists]
        self._kept, self._weights = self._kept[chosen], self._weights[chosen]
        self._longest = self._longest[chosen]
