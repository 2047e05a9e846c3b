"""The first principal component of many subsets of one group of samples, from one Gram matrix."""

import numpy as np
import torch
from jaxtyping import Float
from scipy.linalg import eigh_tridiagonal
from torch import Tensor

from outcrop.numerics.kernels.principal import TOLERANCE, leading_component

STEPS = (8, 12, 16, 20, 26, 32, 40, 56, 80, 112)
"""Multiplications by the matrix after which subsets are asked whether they have converged; noise takes some 70."""

TOGETHER = 20
"""Steps up to which the small matrices of all subsets are decomposed in full, together: their number weighs more."""

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
    subsets, samples = kept.shape
    vectors = torch.zeros_like(kept)
    # The start is the same on every device and in every process, so results are too.
    start = torch.randn(samples, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    going = torch.arange(subsets, device=kept.device)
    basis = torch.nn.functional.normalize(_centred(start.to(kept).expand(subsets, -1), kept), dim=1).unsqueeze(1)
    diagonal, beside = kept.new_zeros(subsets, 0), kept.new_zeros(subsets, 0)
    for steps in STEPS:
        if not len(going):
            break
        basis, diagonal, beside = _lengthened(gram, kept[going], basis, diagonal, beside, steps)
        largest, best = _leading_pairs(diagonal, beside[:, :-1])
        done = beside[:, -1] * best[:, -1].abs() <= TOLERANCE * largest.abs()
        if steps == STEPS[-1]:
            done = torch.ones_like(done)
        vectors[going[done]] = (basis[done, :steps].mT @ best[done].unsqueeze(2)).squeeze(2)
        going, basis, diagonal, beside = going[~done], basis[~done], diagonal[~done], beside[~done]
    return vectors


def _leading_pairs(diagonal: Tensor, beside: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest eigenvalue (matrix,) and its eigenvector (matrix, row) of symmetric tridiagonal matrices."""
    if diagonal.shape[1] <= TOGETHER:
        matrices = torch.diag_embed(diagonal) + torch.diag_embed(beside, 1) + torch.diag_embed(beside, -1)
        values, vectors = torch.linalg.eigh(matrices)
        return values[:, -1], vectors[:, :, -1]
    last = (diagonal.shape[1] - 1,) * 2
    found = [
        eigh_tridiagonal(on, off, select="i", select_range=last)
        for on, off in zip(diagonal.cpu().numpy(), beside.cpu().numpy(), strict=True)
    ]
    largest, vectors = (np.stack([pair[place] for pair in found]) for place in (0, 1))
    return torch.from_numpy(largest[:, 0]).to(diagonal), torch.from_numpy(vectors[:, :, 0]).to(diagonal)


def _lengthened(
    gram: Tensor, kept: Tensor, basis: Tensor, diagonal: Tensor, beside: Tensor, steps: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return a Krylov basis and its tridiagonal matrix after more steps, with the vector that follows."""
    before = diagonal.shape[1]
    longer = kept.new_empty(len(kept), steps + 1, kept.shape[1])
    longer[:, : before + 1] = basis
    on, off = [diagonal], [beside]
    weights = kept / kept.sum(1, keepdim=True)
    longest = (diagonal.abs() + beside).amax(1) if before else kept.new_zeros(len(kept))
    for step in range(before, steps):
        current = longer[:, step]
        following = (current @ gram).mul_(kept)
        alpha = (following * current).sum(1)
        following -= alpha.unsqueeze(1) * current
        if step:
            following -= off[-1][:, -1:] * longer[:, step - 1]
        following -= weights * following.sum(1, keepdim=True)
        length = following.norm(dim=1)
        longest = torch.maximum(longest, alpha.abs() + length)
        # Rows of zeros then change no eigenvalue above zero.
        further = length > COMPLETE * longest
        length = torch.where(further, length, 0.0)
        longer[:, step + 1] = following * torch.where(further, 1 / length, 0.0).unsqueeze(1)
        on.append(alpha.unsqueeze(1))
        off.append(length.unsqueeze(1))
    return longer, torch.cat(on, dim=1), torch.cat(off, dim=1)
