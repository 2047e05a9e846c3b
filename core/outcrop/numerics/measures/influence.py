"""How much each sample carries of the similarity between layers, in closed form.

A U-centred kernel matrix has a zero diagonal and rows that sum to zero, and HSIC1 of any subset of the samples is the
same from it as from the kernel matrix: they differ by ``m_i + m_j``, which U-centring takes away. With
``A`` and ``B`` U-centred, ``T = <A, B>`` and ``q_i = sum_j A_ij B_ij``, the trace form of HSIC1 (Song et al. 2012,
JMLR 13, equation 4) of all samples but ``i`` therefore has no row sums left but those that ``i`` leaves behind::

    (n - 1) (n - 4) HSIC1 without i  =  T - 2 q_i - 2 q_i / (n - 3)  =  T - 2 (n - 2) / (n - 3) q_i

So leaving out each of n samples costs n^2 in all, not n^3. And since the ``q_i`` sum to ``T``, ``q_i / T``
divides HSIC1 of all samples among them.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike, NDArray

from outcrop.errors import ParameterError
from outcrop.numerics.kernels.gram_matrix import gram_matrix, median_squared_distance
from outcrop.numerics.kernels.hsic import LEAST_SAMPLES, u_centre
from outcrop.numerics.measures.ratio import similarity_ratio

ROUNDING = 1e-12
"""Share of a layer's own HSIC1 below which what is left of it is rounding."""


@dataclass(frozen=True)
class Influence:
    """What each sample carries of the mean CKA of all pairs of different layers.

    Attributes:
        similarity: The mean CKA, of all samples.
        share: (sample,) share of it that is the sample's own, the shares sum to 1: the mean over pairs of
            ``q_i / sqrt(T_aa T_bb)``, divided by the similarity. Negative for a sample that speaks against it. NaN for
            samples that are in no batch of 4 or more.
        change: (sample,) the mean CKA less that without the sample: positive where the sample makes the
            layers more similar. Samples that agree stand in for one another, so it is small where the share is large
            and many have one. NaN where CKA is not defined without the sample.
    """

    similarity: float
    share: Float[np.ndarray, " sample"]
    change: Float[np.ndarray, " sample"]

    @property
    def effective_samples(self) -> float:
        """Return the effective number of samples that carry the similarity, ``1 / sum share^2``; NaN without shares."""
        squares = float(np.nansum(self.share**2))
        return 1 / squares if squares else float("nan")


def sample_influence(
    *layers: Float[np.ndarray, "sample ..."], kernel: str = "linear", bandwidth: float = 0.5
) -> Influence:
    """Return how much each sample carries of the unbiased CKA of two layers, or of the mean CKA of several.

    Cost: n^2 for every two layers, after their kernel matrices.

    Args:
        layers: Features of the same samples, at least two layers; dimensions after the first are flattened.
        kernel: See :func:`outcrop.numerics.gram_matrix`.
        bandwidth: Of ``rbf``, as a fraction of the root of the median squared distance.

    Raises:
        ParameterError: Fewer than two layers or 4 samples, other samples in one layer than in another, or an unknown
            kernel.
    """
    return gram_influence([_gram(np.asarray(layer), kernel, bandwidth) for layer in layers])


def gram_influence(grams: "list[Float[np.ndarray, 'sample sample']]") -> Influence:
    """Return the same as :func:`sample_influence` from kernel matrices, centred or not.

    Raises:
        ParameterError: Fewer than two matrices, of other samples one than another, or of fewer than 4.
    """
    centred = _centred(grams)
    samples = centred.shape[1]
    rows = np.ascontiguousarray(centred.transpose(1, 0, 2))
    first, second = np.triu_indices(len(centred))
    carried = (rows @ rows.transpose(0, 2, 1))[:, first, second]
    factor = np.full(samples, leave_one_out_factor(samples))
    return influence_of(carried, factor, layers=len(centred), samples=np.arange(samples))


def similarity_without(grams: "list[Float[np.ndarray, 'sample sample']]", dropped: ArrayLike) -> float:
    """Return the mean unbiased CKA of all pairs of different layers without a set of samples.

    From the same U-centred matrices, at the cost of the rows that are dropped, however many sets are tried.

    Args:
        grams: Kernel matrices of the same samples, centred or not.
        dropped: Positions of the samples to leave out, or a mask of all samples.

    Raises:
        ParameterError: As :func:`gram_influence`; or fewer than 4 samples would be left.
    """
    centred = _centred(grams)
    samples = centred.shape[1]
    chosen = np.zeros(samples, dtype=bool)
    chosen[np.asarray(dropped)] = True
    left = samples - int(chosen.sum())
    if left < LEAST_SAMPLES:
        raise ParameterError(f"Unbiased CKA needs at least {LEAST_SAMPLES} samples; {left} would be left of {samples}.")
    crossing = centred[:, ~chosen][:, :, chosen].sum(axis=2)
    rows = centred[:, chosen]
    within = rows[:, :, chosen]
    total = np.einsum("aij,bij->ab", centred, centred, optimize=True)
    total -= 2 * np.einsum("aij,bij->ab", rows, rows, optimize=True)
    total += np.einsum("aij,bij->ab", within, within, optimize=True)
    sums = within.sum(axis=(1, 2))
    total += np.outer(sums, sums) / ((left - 1) * (left - 2)) - 2 / (left - 2) * crossing @ crossing.T
    upper = np.triu_indices(len(centred), 1)
    return float(similarity_ratio(total)[upper].mean())


def leave_one_out_factor(samples: int) -> float:
    """Return what ``q_i`` is multiplied by where sample i is left out of a batch."""
    return 2 * (samples - 2) / (samples - 3)


def influence_of(
    carried: Float[np.ndarray, "row pair"],
    factor: Float[np.ndarray, " row"],
    *,
    layers: int,
    samples: Int[np.ndarray, " row"],
) -> Influence:
    """Return the influence from the products of all batches.

    Args:
        carried: ``q`` of every sample that was used; pairs are those of the upper
            triangle, the diagonal among them, in the order of :func:`numpy.triu_indices`.
        factor: :func:`leave_one_out_factor` of the batch that a sample is in.
        layers: How many there are.
        samples: Position of each row among all samples, which number as many as the greatest says.
    """
    upper = np.triu_indices(layers)
    first, second = (side[upper[0] != upper[1]] for side in upper)
    pairs, own = np.flatnonzero(upper[0] != upper[1]), np.flatnonzero(upper[0] == upper[1])
    totals = carried.sum(axis=0)
    # A layer without structure has no similarity; its own sum is then 0, or below by rounding.
    positive = np.where(totals[own] > 0, totals[own], np.nan)
    norm = np.sqrt(positive)
    ratio = totals[pairs] / (norm[first] * norm[second])
    similarity = float(ratio.mean())
    share = (carried[:, pairs] / (norm[first] * norm[second])).mean(axis=1) / similarity
    change = np.empty(len(carried))
    # A few rows at a time: all of them at once would hold the products three times.
    for start in range(0, len(carried), 256):
        rows = slice(start, start + 256)
        left = totals - factor[rows, None] * carried[rows]
        # What rounding leaves of a layer that only this sample gave structure is not a layer.
        positive = np.where(left[:, own] > ROUNDING * totals[own], left[:, own], np.nan)
        norms = np.sqrt(positive)
        change[rows] = (ratio - left[:, pairs] / (norms[:, first] * norms[:, second])).mean(axis=1)
    count = int(samples.max(initial=-1)) + 1
    placed = [np.full(count, np.nan) for _ in range(2)]
    for target, values in zip(placed, (share, change), strict=True):
        target[samples] = values
    return Influence(similarity, *placed)


def _gram(values: NDArray[np.generic], kernel: str, bandwidth: float) -> NDArray[np.float64]:
    features = values.reshape(len(values), -1)
    squared = bandwidth**2 * median_squared_distance(features) if kernel == "rbf" else None
    return gram_matrix(features, kernel=kernel, squared_distance=squared)


def _centred(grams: "list[NDArray[np.float64]]") -> NDArray[np.float64]:
    if len(grams) < 2:
        raise ParameterError(f"Similarity is between layers: give at least 2; got {len(grams)}.")
    shapes = {np.shape(gram) for gram in grams}
    if len(shapes) > 1:
        counts = ", ".join(str(shape[0]) for shape in sorted(shapes))
        raise ParameterError(f"All layers must have the same samples; got {counts}.")
    samples = len(grams[0])
    if samples < LEAST_SAMPLES:
        raise ParameterError(f"Unbiased CKA needs at least {LEAST_SAMPLES} samples; got {samples}.")
    return np.stack([u_centre(gram) for gram in grams])
