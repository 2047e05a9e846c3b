"""Kernel matrices of samples: linear, Gaussian and cosine, in float64."""

from collections.abc import Iterator
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from outcrop.errors import ParameterError, did_you_mean

Kernel = Literal["linear", "rbf", "cosine"]
KERNELS: tuple[Kernel, ...] = get_args(Kernel)

CHUNK = 1 << 23
"""Values converted to float64 at a time (64 MiB)."""

CONSTANT = 8 * np.finfo(np.float64).eps
"""A feature that departs from its mean by this share of it or less is constant: the mean itself is rounded."""


def gram_matrix(
    values: Float[np.ndarray, "sample feature"], *, kernel: str = "linear", squared_distance: float | None = None
) -> NDArray[np.float64]:
    """Return the kernel matrix (sample, sample) in float64.

    * ``linear``: inner products of mean-free features (HSIC is the same without the mean; float digits are not).
    * ``rbf``: ``exp(-d^2 / (2 s^2))`` of Euclidean distances ``d``, ``s^2`` given. With ``s = 0``, the limit:
      1 for samples that coincide, 0 for others.
    * ``cosine``: inner products of the samples divided by their norms, features as they are; a sample of norm 0
      is similar to none.

    Args:
        values: Features of the samples, of any real type.
        kernel: One of the above.
        squared_distance: ``s^2`` of ``rbf``, see :func:`median_squared_distance`.

    Raises:
        ParameterError: Unknown kernel, or ``rbf`` without a distance.
    """
    check_kernel(kernel)
    if kernel == "linear":
        return _products(values, centre=True)
    if kernel == "cosine":
        products = _products(values, centre=False)
        norms = np.sqrt(np.diag(products))
        inverse = np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0)
        return np.asarray(products * inverse[:, None] * inverse[None, :], dtype=np.float64)
    if squared_distance is None:
        raise ParameterError("The rbf kernel needs a squared distance; median_squared_distance gives one.")
    distances = squared_distances(values)
    if squared_distance == 0:
        return np.asarray(distances == 0, dtype=np.float64)
    return np.asarray(np.exp(distances / (-2.0 * squared_distance)), dtype=np.float64)


def squared_distances(values: Float[np.ndarray, "sample feature"]) -> NDArray[np.float64]:
    """Return squared Euclidean distances (sample, sample) in float64, never negative."""
    products = _products(values, centre=True)
    norms = np.diag(products)
    distances = norms[:, None] + norms[None, :] - 2.0 * products
    # What rounding leaves between coinciding samples must not count as a distance.
    distances[distances <= 16 * np.finfo(np.float64).eps * (norms[:, None] + norms[None, :])] = 0.0
    np.fill_diagonal(distances, 0.0)
    return distances


def median_squared_distance(values: Float[np.ndarray, "sample feature"]) -> float:
    """Return the median over all n^2 squared distances, those of samples to themselves among them.

    The convention of the code published with Kornblith et al. 2019 (arXiv 1905.00414).
    """
    return float(np.median(squared_distances(values)))


def check_kernel(kernel: str) -> None:
    """Refuse an unknown kernel.

    Raises:
        ParameterError: With the kernels that exist.
    """
    if kernel not in KERNELS:
        raise ParameterError(f"Unknown kernel {kernel!r}: choose {', '.join(KERNELS)}.{did_you_mean(kernel, KERNELS)}")


def centred_parts(values: Float[np.ndarray, "sample feature"], *, step: int) -> Iterator[NDArray[np.float64]]:
    """Yield mean-free features in float64, some at a time: (sample, up to ``step`` features).

    Args:
        values: Features of the samples, of any real type. One that is constant up to rounding becomes 0.
        step: Features of a part.
    """
    for start in range(0, values.shape[1], step):
        part = values[:, start : start + step].astype(np.float64)
        mean = part.mean(axis=0)
        part -= mean
        # numpy adds up columns one by one: over thousands of samples the first mean is off by many roundings.
        part -= part.mean(axis=0)
        part[:, np.abs(part).max(axis=0) <= CONSTANT * np.abs(mean)] = 0.0
        yield part


def _products(values: NDArray[np.generic], *, centre: bool) -> NDArray[np.float64]:
    """Return inner products over all features, converting a few features at a time."""
    samples, features = values.shape
    products = np.zeros((samples, samples))
    step = max(1, CHUNK // samples)
    if centre:
        for part in centred_parts(values, step=step):
            products += part @ part.T
        return products
    for start in range(0, features, step):
        part = values[:, start : start + step].astype(np.float64)
        products += part @ part.T
    return products
