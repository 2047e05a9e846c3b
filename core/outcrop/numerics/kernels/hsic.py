"""The Hilbert-Schmidt independence criterion of two kernel matrices, biased and unbiased, in float64."""

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

LEAST_SAMPLES = 4
"""The unbiased estimator divides by ``n (n - 3)``."""


def double_centre(gram: Float[np.ndarray, "sample sample"]) -> NDArray[np.float64]:
    """Return ``C K C`` with ``C = 1 - 11'/n``: the Gram matrix of the mean-free features, in float64."""
    gram = np.asarray(gram, dtype=np.float64)
    rows = gram.mean(axis=1, keepdims=True)
    return np.asarray(gram - rows - rows.T + rows.mean(), dtype=np.float64)


def u_centre(gram: Float[np.ndarray, "sample sample"]) -> NDArray[np.float64]:
    """Return the U-centred kernel matrix: zero diagonal, every row sums to zero.

    With ``K`` of zero diagonal and ``m = rowsum(K) / (n - 2)``, ``m -= sum(m) / (2 (n - 1))``, it is
    ``K_ij - m_i - m_j`` off the diagonal (Szekely and Rizzo 2014, doi:10.1214/14-AOS1255). The result does not
    change when a constant is added to any feature.

    Args:
        gram: Symmetric kernel matrix of at least 4 samples.
    """
    gram = np.array(gram, dtype=np.float64)
    samples = len(gram)
    np.fill_diagonal(gram, 0.0)
    mean = gram.sum(axis=1) / (samples - 2)
    mean -= mean.sum() / (2 * (samples - 1))
    gram -= mean[:, None] + mean[None, :]
    np.fill_diagonal(gram, 0.0)
    return gram


def unbiased_hsic(first: Float[np.ndarray, "sample sample"], second: Float[np.ndarray, "sample sample"]) -> float:
    """Return HSIC1, whose expectation over samples is the population's value.

    ``<u_centre(K), u_centre(L)> / (n (n - 3))``, identical to the trace form of Song et al. 2012 (JMLR 13, eq. 4)
    that arXiv 2010.15327 quotes as equation 3. It may be negative. Cost: n^2.

    Args:
        first: Symmetric kernel matrix of at least 4 samples.
        second: Another one of the same samples.
    """
    samples = len(first)
    return float(np.vdot(u_centre(first), u_centre(second))) / (samples * (samples - 3))


def biased_hsic(first: Float[np.ndarray, "sample sample"], second: Float[np.ndarray, "sample sample"]) -> float:
    """Return ``tr(K C L C) / (n - 1)^2`` (Gretton et al. 2005, doi:10.1007/11564089_7). Cost: n^2.

    Not for features that outnumber the samples: independent features then approach the maximum.

    Args:
        first: Symmetric kernel matrix.
        second: Another one of the same samples.
    """
    # Centring one of the two is enough for the trace, and centring both keeps the digits of offset kernels.
    return float(np.vdot(double_centre(first), double_centre(second))) / (len(first) - 1) ** 2
