"""What is taken out of a kernel matrix before it is compared: a confounder's kernel, or the first component."""

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from outcrop.numerics.kernels.hsic import double_centre

DIRECT = 128
"""Samples up to which LAPACK is as fast as an iteration."""


def without_confounder(
    gram: Float[np.ndarray, "sample sample"], confounder: Float[np.ndarray, "sample sample"], *, diagonal: bool
) -> NDArray[np.float64]:
    """Return the residual of a kernel matrix, entry by entry, after least squares on another one with an intercept.

    Cui et al. 2022 (arXiv 2202.00095). The residual may have negative eigenvalues; they are kept, for setting them to
    0 would add a bias that the estimator does not know of. Cost: n^2.

    Args:
        gram: Symmetric kernel matrix.
        confounder: Another one of the same samples. One whose entries are all equal takes nothing away.
        diagonal: Whether the entries on the diagonal take part. An estimator that ignores them must not let them
            decide: with many features they are far larger than all others and would set the slope by themselves.
    """
    counted = np.ones(gram.shape, dtype=bool) if diagonal else ~np.eye(len(gram), dtype=bool)
    regressor = confounder - confounder.mean(where=counted)
    variance = float(np.vdot(regressor, regressor * counted))
    slope = float(np.vdot(regressor, gram * counted)) / variance if variance > 0 else 0.0
    residual = gram - slope * regressor
    return np.asarray(residual - residual.mean(where=counted), dtype=np.float64)


def without_first_component(gram: Float[np.ndarray, "sample sample"]) -> NDArray[np.float64]:
    """Return ``K - lambda_1 u_1 u_1'`` with the largest eigenvalue and its eigenvector of the double-centred K.

    What the centring takes off is left in: HSIC does not see it, a regression does. For the linear kernel it is the
    Gram matrix of ``X - s_1 u_1 v_1'`` (arXiv 2202.07184, appendix C) without a matrix (feature, feature); for others,
    of the features that the kernel implies. Cost: some 20 to 100 times n^2; ``4/3 n^3`` up to 128 samples and for a
    flat spectrum.

    Args:
        gram: Symmetric kernel matrix.
    """
    # scipy takes long to import, and most callers of CKA do without.
    import scipy.linalg
    import scipy.sparse.linalg

    centred = double_centre(gram)
    samples = len(centred)
    size = float(np.abs(centred).max())
    if size == 0:
        return np.array(gram, dtype=np.float64)
    scaled = centred / size
    value = vector = None
    if samples > DIRECT:
        # The start is the same in every process, so results are too.
        start = np.random.default_rng(0).normal(size=samples)
        try:
            value, vector = scipy.sparse.linalg.eigsh(scaled, k=1, which="LA", v0=start, maxiter=30)
        except scipy.sparse.linalg.ArpackNoConvergence:
            value = None
    if value is None or vector is None:
        value, vector = scipy.linalg.eigh(scaled, subset_by_index=[samples - 1, samples - 1], check_finite=False)
    return np.asarray(gram - (size * value[0]) * (vector @ vector.T), dtype=np.float64)
