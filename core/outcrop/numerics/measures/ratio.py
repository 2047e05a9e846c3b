"""From summed HSIC to CKA, and how uncertain it is."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

OwnPair = tuple[NDArray[np.float64], NDArray[np.float64]]
"""HSIC with themselves of the layers on either axis of a map (..., layer_a) and (..., layer_b)."""


def similarity_ratio(
    hsic: Float[np.ndarray, "*group layer_a layer_b"], *, own: OwnPair | None = None
) -> NDArray[np.float64]:
    """Return CKA of summed (or mean) HSIC: ``H_ij / sqrt(H_ii H_jj)``, NaN where a layer's own HSIC is not positive.

    Args:
        hsic: Of all layers with all layers.
        own: That of each layer with itself, for maps between two lists of layers; None takes the diagonal.
    """
    norm_a, norm_b = (np.sqrt(np.where(one > 0, one, np.nan)) for one in own or _diagonals(hsic))
    return np.asarray(hsic / norm_a[..., :, None] / norm_b[..., None, :], dtype=np.float64)


def jackknife_error(
    groups: Float[np.ndarray, "group layer_a layer_b"], *, own: OwnPair | None = None
) -> NDArray[np.float64]:
    """Return the standard error of CKA by leaving out one group of batches at a time (Efron and Stein 1981).

    Args:
        groups: Summed HSIC of each group; groups share no sample.
        own: As of :func:`similarity_ratio`, of each group.

    Returns:
        (layer_a, layer_b); NaN with fewer than two groups, and where CKA itself is.
    """
    count = len(groups)
    if count < 2:
        return np.full(groups.shape[1:], np.nan)
    of_a, of_b = own or _diagonals(groups)
    total, total_a, total_b = groups.sum(axis=0), of_a.sum(axis=0), of_b.sum(axis=0)
    similarity = similarity_ratio(total, own=(total_a, total_b))
    departure, squares = np.zeros_like(total), np.zeros_like(total)
    for group, group_a, group_b in zip(groups, of_a, of_b, strict=True):
        left = similarity_ratio(total - group, own=(total_a - group_a, total_b - group_b)) - similarity
        departure += left
        squares += left**2
    # Departures are small beside the similarity, so that their mean square holds its digits.
    variance = np.maximum(squares - departure**2 / count, 0.0)
    return np.asarray(np.sqrt((count - 1) / count * variance), dtype=np.float64)


def bootstrap_counts(groups: int, *, replicates: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return how often each group is drawn in each replicate (replicate, group), with replacement.

    Args:
        groups: How many there are to draw from; each replicate draws as many.
        replicates: How many to draw.
        rng: Source of randomness.
    """
    return np.asarray(rng.multinomial(groups, np.full(groups, 1 / groups), size=replicates), dtype=np.int64)


def bootstrap_similarity(
    groups: Float[np.ndarray, "group layer layer"], *, replicates: int, rng: np.random.Generator
) -> Iterator[NDArray[np.float64]]:
    """Yield CKA (layer, layer) of groups of batches drawn with replacement, once per replicate.

    Args:
        groups: Summed HSIC of each group; groups share no sample.
        replicates: How many to draw.
        rng: Source of randomness.
    """
    flat = groups.reshape(len(groups), -1)
    for count in bootstrap_counts(len(groups), replicates=replicates, rng=rng):
        yield similarity_ratio((count @ flat).reshape(groups.shape[1:]))


def _diagonals(hsic: NDArray[np.float64]) -> OwnPair:
    own = np.diagonal(hsic, axis1=-2, axis2=-1)
    return own, own
