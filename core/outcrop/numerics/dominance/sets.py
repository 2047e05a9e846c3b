"""Compare sets of samples, and rankings of them, between layers."""

import math

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from outcrop.errors import ParameterError


def shared_counts(members: Bool[np.ndarray, "layer sample"]) -> Int[np.ndarray, "layer layer"]:
    """Return how many samples every two sets have in common; on the diagonal, how many each has."""
    # float64 counts exactly, and has the fast product.
    wide = members.astype(np.float64)
    return np.rint(wide @ wide.T).astype(np.int64)


def jaccard(members: Bool[np.ndarray, "layer sample"]) -> Float[np.ndarray, "layer layer"]:
    """Return the Jaccard index of every two sets: how many samples both have, over how many either has.

    NaN where a set is empty: there is nothing to agree on.
    """
    shared = shared_counts(members)
    sizes = np.diag(shared)
    empty = sizes == 0
    either = np.maximum(sizes[:, None] + sizes - shared, 1)
    return np.where(empty[:, None] | empty, np.nan, shared / either)


def overlap_p_values(members: Bool[np.ndarray, "layer sample"]) -> Float[np.ndarray, "layer layer"]:
    """Return the probability that random sets of these sizes have as many samples in common, or more.

    The upper tail of the hypergeometric distribution, not corrected for the number of pairs. NaN where a set is empty.
    Cost: some 30 microseconds for each different triple of sizes and overlap.
    """
    from scipy.stats import hypergeom

    shared = shared_counts(members)
    sizes = np.diag(shared)
    # The distribution is symmetric in the two sets, and neighbouring layers repeat sizes.
    low, high = np.minimum(sizes[:, None], sizes), np.maximum(sizes[:, None], sizes)
    triples, place = np.unique(np.stack([shared, low, high], axis=-1).reshape(-1, 3), axis=0, return_inverse=True)
    common, smaller, larger = triples.T
    tails = np.asarray(hypergeom.sf(common - 1, members.shape[1], larger, smaller), dtype=np.float64)
    tails = np.where(smaller == 0, np.nan, np.clip(tails, 0.0, 1.0))
    found: NDArray[np.float64] = tails[place.ravel()].reshape(shared.shape)
    return found


def top_members(sizes: Float[np.ndarray, "layer sample"], fraction: float) -> Bool[np.ndarray, "layer sample"]:
    """Return the share of largest values of every row: rounded down, and one at least.

    Of equal values the first count as larger. Rows with a NaN have no members.

    Args:
        sizes: Such as |projection|.
        fraction: Above 0, and 1 at most.

    Raises:
        ParameterError: A fraction out of its range.
    """
    if not 0 < fraction <= 1:
        raise ParameterError(f"A fraction of samples must be above 0 and at most 1; got {fraction:g}.")
    # A product such as 0.3 * 10 may fall short of the whole number that it stands for.
    count = max(1, math.floor(fraction * sizes.shape[1] + 1e-9))
    members = np.zeros(sizes.shape, dtype=bool)
    np.put_along_axis(members, np.argsort(-sizes, axis=1, kind="stable")[:, :count], values=True, axis=1)
    return np.asarray(members & ~np.isnan(sizes).any(axis=1, keepdims=True))


def ranks_of(sizes: Float[np.ndarray, "layer sample"]) -> Float[np.ndarray, "layer sample"]:
    """Return the rank of every sample in every row, 1 for the largest value; equal values share their mean rank.

    Rows with a NaN have NaN ranks.
    """
    from scipy.stats import rankdata

    return np.asarray(rankdata(-sizes, axis=1, nan_policy="propagate"), dtype=np.float64)


def rank_correlation(
    first: Float[np.ndarray, "layer sample"], second: Float[np.ndarray, "layer sample"]
) -> Float[np.ndarray, " layer"]:
    """Return Spearman's correlation between the rows of one array and those of the other.

    The correlation of ranks, equal values sharing theirs. NaN where a row is constant or has a NaN.

    Raises:
        ParameterError: The shapes differ.
    """
    if first.shape != second.shape:
        raise ParameterError(f"Ranks are correlated row by row; got shapes {first.shape} and {second.shape}.")
    one, other = ranks_of(first), ranks_of(second)
    one -= one.mean(axis=1, keepdims=True)
    other -= other.mean(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (one * other).sum(axis=1) / np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))
    return np.asarray(np.clip(found, -1.0, 1.0))
