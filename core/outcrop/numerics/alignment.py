"""Centred kernel alignment of two sets of features of the same samples."""

import math
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from outcrop.errors import InputError, ParameterError, did_you_mean
from outcrop.numerics.hsic import LEAST_SAMPLES, biased_hsic, unbiased_hsic
from outcrop.numerics.kernels import check_kernel, gram_matrix, median_squared_distance

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

    Cost: ``n^2 (p + q)`` for n samples of p and q features; ``minibatch``: ``passes * n * batch_size * (p + q)``.

    Args:
        x: (sample, ...); further dimensions are flattened. An array, or a tensor on any device.
        y: (sample, ...), of the same samples in the same order.
        estimator: One of the above.
        kernel: ``linear``, ``rbf`` or ``cosine``, see :func:`outcrop.numerics.gram_matrix`.
        bandwidth: Standard deviation of the ``rbf`` kernel, as a fraction of the median distance between samples
            (the root of the median squared distance). The ``minibatch`` estimator takes the median over
            2,048 samples where there are more, the same for all batches.
        batch_size: Samples of a batch of the ``minibatch`` estimator.
        passes: How often the ``minibatch`` estimator shuffles and goes through all samples.
        seed: Of the shuffling.

    Returns:
        The alignment; NaN where one side has no similarity structure (constant features, or samples all equally
        far from one another), for which it is not defined.

    Raises:
        ParameterError: An unknown estimator or kernel, or an option out of its range.
        InputError: Fewer than 4 samples, different numbers of samples, or values that are not finite.
    """
    _check_options(estimator, kernel, bandwidth, batch_size, passes)
    first, second = _features(x, "x"), _features(y, "y")
    if len(first) != len(second):
        raise InputError(
            f"CKA compares representations of the same samples; x has {len(first)} samples and y has {len(second)}."
        )
    if len(first) < LEAST_SAMPLES:
        raise InputError(f"CKA needs at least {LEAST_SAMPLES} samples; got {len(first)}.")
    spread = (0.0, 0.0)
    if kernel == "rbf":
        subset = _bandwidth_samples(len(first), estimator, seed)
        spread = (
            bandwidth**2 * median_squared_distance(first[subset]),
            bandwidth**2 * median_squared_distance(second[subset]),
        )
    cross = own_first = own_second = 0.0
    size_first = size_second = 0.0
    for batch in _batches(len(first), estimator, batch_size, passes, seed):
        k = gram_matrix(first[batch], kernel=kernel, squared_distance=spread[0])
        l_ = gram_matrix(second[batch], kernel=kernel, squared_distance=spread[1])
        hsic = biased_hsic if estimator == "biased" else unbiased_hsic
        weight = len(k) * (len(k) - 3)
        cross += weight * hsic(k, l_)
        own_first += weight * hsic(k, k)
        own_second += weight * hsic(l_, l_)
        size_first += weight * float(np.diag(k).mean()) ** 2
        size_second += weight * float(np.diag(l_).mean()) ** 2
    if own_first <= NO_STRUCTURE**2 * size_first or own_second <= NO_STRUCTURE**2 * size_second:
        return math.nan
    return cross / (math.sqrt(own_first) * math.sqrt(own_second))


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


def _features(values: "ArrayLike | Tensor", name: str) -> NDArray[np.generic]:
    """Return finite values as an array (sample, feature), copied only where they have to be."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(values, torch.Tensor):
        tensor = values.detach().cpu()
        # numpy has no bfloat16.
        values = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise InputError(f"CKA takes real numbers; {name} holds values of type {array.dtype}.")
    if array.ndim == 0:
        raise InputError(f"CKA takes arrays (sample, ...); {name} is a single number.")
    array = array.reshape(len(array), math.prod(array.shape[1:]))
    wrong = array.size - np.count_nonzero(np.isfinite(array))
    if wrong:
        raise InputError(f"CKA needs finite values; {wrong} of the {array.size} values of {name} are NaN or infinite.")
    return array


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
