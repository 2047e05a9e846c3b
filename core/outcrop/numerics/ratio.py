"""From summed HSIC to CKA, and how uncertain it is."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray


def similarity_ratio(hsic: Float[np.ndarray, "*group layer layer"]) -> NDArray[np.float64]:
    """Return CKA of summed (or mean) HSIC: ``H_ij / sqrt(H_ii H_jj)``, NaN where a layer's own HSIC is not positive."""
    own = np.diagonal(hsic, axis1=-2, axis2=-1)
    norm = np.sqrt(np.where(own > 0, own, np.nan))
    return np.asarray(hsic / norm[..., :, None] / norm[..., None, :], dtype=np.float64)


def jackknife_error(groups: Float[np.ndarray, "group layer layer"]) -> NDArray[np.float64]:
    """Return the standard error of CKA by leaving out one group of batches at a time (Efron and Stein 1981).

    Args:
        groups: Summed HSIC of each group; groups share no sample.

    Returns:
        (layer, layer); NaN with fewer than two groups, and where CKA itself is.
    """
    count = len(groups)
    if count < 2:
        return np.full(groups.shape[1:], np.nan)
    total = groups.sum(axis=0)
    similarity = similarity_ratio(total)
    departure, squares = np.zeros_like(total), np.zeros_like(total)
    for group in groups:
        left = similarity_ratio(total - group) - similarity
        departure += left
        squares += left**2
    # Departures are small beside the similarity, so that their mean square holds its digits.
    variance = np.maximum(squares - departure**2 / count, 0.0)
    return np.asarray(np.sqrt((count - 1) / count * variance), dtype=np.float64)


def bootstrap_similarity(
    groups: Float[np.ndarray, "group layer layer"], *, replicates: int, rng: np.random.Generator
) -> Iterator[NDArray[np.float64]]:
    """Yield CKA (layer, layer) of groups of batches drawn with replacement, once per replicate.

    Args:
        groups: Summed HSIC of each group; groups share no sample.
        replicates: How many to draw.
        rng: Source of randomness.
    """
    counts = rng.multinomial(len(groups), np.full(len(groups), 1 / len(groups)), size=replicates)
    flat = groups.reshape(len(groups), -1)
    for count in counts:
        yield similarity_ratio((count @ flat).reshape(groups.shape[1:]))
