"""Centred kernel alignment of two sets of features of the same samples."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from outcrop.errors import InputError, ParameterError, did_you_mean
from outcrop.numerics.kernels.confounds import without_confounder
from outcrop.numerics.kernels.confounds import without_first_component as remove_first_component
from outcrop.numerics.kernels.gram_matrix import check_kernel, gram_matrix, median_squared_distance
from outcrop.numerics.kernels.hsic import LEAST_SAMPLES, biased_hsic, unbiased_hsic
from outcrop.numerics.measures.samples import features_of, matched_features

if TYPE_CHECKING:
    from torch import Tensor

Estimator = Literal["unbiased", "biased", "minibatch"]
ESTIMATORS: tuple[Estimator, ...] = get_args(Estimator)

BANDWIDTH_SAMPLES = 2048
"""The minibatch estimator takes the median distance over at most so many samples."""

NO_STRUCTURE = 1e-13
"""HSIC of a kernel matrix with itself, relative to its squared mean diagonal, at which rounding is all that is left."""


def cka(
    x: "ArrayLike | Tensor",
    y: "ArrayLike | Tensor",
    *,
    estimator: str = "unbiased",
    kernel: str = "linear",
    bandwidth: float = 0.5,
    regress_out: "ArrayLike | Tensor | None" = None,
    without_first_component: bool = False,
    batch_size: int = 256,
    passes: int = 1,
    seed: int = 0,
) -> float:
    """Return the centred kernel alignment ``HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L))`` of two representations.

    All arithmetic is in float64 on mean-free features, whatever the type of the input; nothing is clamped, so
    the unbiased estimators go below 0 for unrelated features. Estimators:

    * ``unbiased``: HSIC1 of all samples (Song et al. 2012, JMLR 13); "debiased" CKA. Independent features give 0.
    * ``biased``: Kornblith et al. 2019 (arXiv 1905.00414). Not where features outnumber samples: independent
      Gaussian features reach 0.94 with 256 samples and 4,096 features.
    * ``minibatch``: ratio of the means of HSIC1 over batches drawn without replacement, each weighted by
      ``n (n - 3)`` of its samples (arXiv 2010.15327, equation 2). Consistent with ``unbiased``, in memory of one
      batch. A last batch of fewer than 4 samples is left out.

    Networks look alike, untrained ones too, where the samples themselves come in clusters. Two ways to look beneath:

    * ``regress_out``: deconfounded CKA (Cui et al. 2022, arXiv 2202.00095). The kernel matrix of the inputs, with
      the same kernel, is fitted to each of both kernel matrices, entry by entry, with an intercept and a slope, and
      the residuals are compared. ``unbiased`` and ``minibatch`` fit the entries off the diagonal, since they see no
      others, and inputs that are unrelated to both take nothing away; ``biased`` fits all n^2, as published, and its
      diagonals, alike in all kernels, let unrelated inputs take away a part of its bias. ``minibatch`` fits every
      batch anew. Negative eigenvalues of the residuals are kept. A straight line is fitted: what is similar only
      because both bend the similarity of inputs in the same way stays.
    * ``without_first_component``: both without their first principal component, that of each batch for
      ``minibatch`` and that of all samples else (arXiv 2202.07184, appendix C). For kernels other than ``linear``:
      the first eigenvector of the double-centred kernel matrix. With both, it is removed before the regression, and
      the inputs keep theirs.

    Cost: ``n^2 (p + q)`` for n samples of p and q features; ``minibatch``: ``passes * n * batch_size * (p + q)``.

    Args:
        x: (sample, ...); further dimensions are flattened. An array, or a tensor on any device.
        y: (sample, ...), of the same samples in the same order.
        estimator: One of the above.
        kernel: ``linear``, ``rbf`` or ``cosine``, see :func:`outcrop.numerics.gram_matrix`.
        bandwidth: Standard deviation of the ``rbf`` kernel, as a fraction of the median distance between samples
            (the root of the median squared distance). The ``minibatch`` estimator takes the median over
            2,048 samples where there are more, the same for all batches.
        regress_out: (sample, ...), the inputs of the same samples or another confounder. One that is constant takes
            nothing away.
        without_first_component: Whether to leave out the first principal component of both.
        batch_size: Samples of a batch of the ``minibatch`` estimator.
        passes: How often the ``minibatch`` estimator shuffles and goes through all samples.
        seed: Of the shuffling.

    Returns:
        The alignment; NaN where one side has no similarity structure (constant features, or samples all equally
        far from one another), or none but what is taken out, for which it is not defined.

    Raises:
        ParameterError: An unknown estimator or kernel, or an option out of its range.
        InputError: Fewer than 4 samples, different numbers of samples, or values that are not finite.
    """
    _check_options(estimator, kernel, bandwidth, batch_size, passes)
    sides = list(matched_features(x, y, measure="CKA", least=LEAST_SAMPLES))
    samples = len(sides[0])
    if regress_out is not None:
        sides.append(features_of(regress_out, "regress_out", measure="CKA"))
        if len(sides[2]) != samples:
            raise InputError(f"regress_out holds {len(sides[2])} samples and x {samples}: give the inputs of the same.")
    spread = [0.0] * len(sides)
    if kernel == "rbf":
        subset = _bandwidth_samples(samples, estimator, seed)
        spread = [bandwidth**2 * median_squared_distance(side[subset]) for side in sides]
    hsic = biased_hsic if estimator == "biased" else unbiased_hsic
    cross, own, size = 0.0, np.zeros(2), np.zeros(2)
    for batch in _batches(samples, estimator, batch_size, passes, seed):
        grams = [
            gram_matrix(side[batch], kernel=kernel, squared_distance=square)
            for side, square in zip(sides, spread, strict=True)
        ]
        weight = len(grams[0]) * (len(grams[0]) - 3)
        size += [weight * float(np.diag(gram).mean()) ** 2 for gram in grams[:2]]
        pair = [remove_first_component(gram) for gram in grams[:2]] if without_first_component else grams[:2]
        if regress_out is not None:
            pair = [without_confounder(gram, grams[2], diagonal=estimator == "biased") for gram in pair]
        cross += weight * hsic(pair[0], pair[1])
        own += [weight * hsic(gram, gram) for gram in pair]
    if (own <= NO_STRUCTURE**2 * size).any():
        return math.nan
    return cross / (math.sqrt(own[0]) * math.sqrt(own[1]))


def _check_options(estimator: str, kernel: str, bandwidth: float, batch_size: int, passes: int) -> None:
    if estimator not in ESTIMATORS:
        raise ParameterError(
            f"Unknown estimator {estimator!r}: choose {', '.join(ESTIMATORS)}.{did_you_mean(estimator, ESTIMATORS)}"
        )
    check_kernel(kernel)
    if not 0 < bandwidth < math.inf:
        raise ParameterError(f"bandwidth is a fraction of the median distance and must be above 0; got {bandwidth}.")
    if batch_size < LEAST_SAMPLES:
        raise ParameterError(f"batch_size must be at least {LEAST_SAMPLES}; got {batch_size}.")
    if passes < 1:
        raise ParameterError(f"passes must be at least 1; got {passes}.")


def _bandwidth_samples(samples: int, estimator: str, seed: int) -> NDArray[np.int64] | slice:
    if estimator != "minibatch" or samples <= BANDWIDTH_SAMPLES:
        return slice(None)
    return np.random.default_rng(seed).choice(samples, BANDWIDTH_SAMPLES, replace=False)


def _batches(
    samples: int, estimator: str, batch_size: int, passes: int, seed: int
) -> Iterator[NDArray[np.int64] | slice]:
    if estimator != "minibatch":
        yield slice(None)
        return
    rng = np.random.default_rng(seed)
    for _ in range(passes):
        order = rng.permutation(samples)
        for start in range(0, samples, batch_size):
            batch = order[start : start + batch_size]
            if len(batch) >= LEAST_SAMPLES:
                yield batch
