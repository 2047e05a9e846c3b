"""Gram matrices of a group of samples, from any tensor, that lose no digits to offset, overflow or underflow."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

OFFSET = 8.0
"""Squared norm of the mean over the variance, from which features are centred before their product.

Below, float32 leaves the centred Gram matrix six digits; above, the mean would eat them one by one.
"""

FEATURE_CHUNK = 1 << 22
"""Values centred at a time (16 MiB), so that centring needs no second copy of a layer."""

# Squared norms beyond these leave float32's range, or its full precision, somewhere in the matrix.
_LARGEST, _SMALLEST = 1e36, 1e-24

ROUNDING = 16.0
"""Multiples of the type's resolution below which a Gram matrix holds rounding only."""

REMAINDER = 1e-2
"""Share of variance outside the first principal component, up to which the product is done again in float64.

What single precision rounds is a share of the whole matrix, so a small remainder drowns in it: at 1e-2 it keeps
four digits or more, at 1e-5 none. The features themselves still hold it.
"""


@dataclass(frozen=True)
class CentredGram:
    """Gram matrix of mean-free features, and what was seen on the way.

    Attributes:
        gram: (sample, sample), float64, rows sum to zero; to be multiplied by ``2 ** exponent``.
        exponent: Power of two, 0 unless the features' squares leave the range of their type.
        trace: Of the matrix as stored; the summed squared distance from the mean.
        variance_share: ``trace`` as a share of the summed squared norms, offset included; 0 to 1.
        epsilon: Resolution of the type of the features.
        noise: Share of the trace below which what a removed component leaves is rounding, of the product or of the
            features themselves.
        non_finite: Number of NaN or infinite features; where there are any, the matrix is zero.
    """

    gram: Tensor
    exponent: int
    trace: float
    variance_share: float
    epsilon: float
    noise: float
    non_finite: int


def centred_gram(values: Float[Tensor, "sample ..."]) -> CentredGram:
    """Return the Gram matrix of the mean-free features of one group of samples.

    The product runs in the type of the features (half precision is widened to float32) and everything after it in
    float64. The product itself tells how large the mean is (the sum of its entries over n^2, against its
    trace over n), so only layers with an offset pay for centring the features; and whether one component holds nearly
    all variance, so only such layers pay for a product in float64. Cost: 3/4 n^2 p, up to four times that.

    Args:
        values: Any strides; dimensions are flattened in the order that needs no copy.
    """
    features = flatten_samples(values)
    stored = float(torch.finfo(values.dtype).eps) if values.is_floating_point() or values.is_complex() else 0.0
    with full_precision(features.device):
        return _centred(features, stored)


def _centred(features: Tensor, stored: float) -> CentredGram:
    epsilon = float(torch.finfo(features.dtype).eps)
    exponent = 0
    gram = symmetric_product(features).to(_wide(features.device), torch.float64)
    grand, size = _mean_and_size(gram)
    if not _SMALLEST * features.shape[1] < size < _LARGEST:
        if non_finite := features.numel() - int(torch.isfinite(features).sum()):
            return CentredGram(torch.zeros_like(gram), 0, 0.0, 0.0, epsilon, 1.0, non_finite)
        features, exponent = _in_range(features)
        gram = symmetric_product(features).to(gram)
        grand, size = _mean_and_size(gram)
    if grand > OFFSET * (size - grand):
        gram = _product_about_mean(features, features.dtype).to(gram)
    trace, norm = _centre(gram)
    # share^2 <= sum of squared eigenvalues / trace^2, so no layer of a large share escapes; and the sum is <= share.
    again = features.dtype == torch.float32 and norm >= (1 - REMAINDER) * trace > 0
    if again:
        gram = _product_about_mean(features.to(gram.device), torch.float64)
        trace, _ = _centre(gram)
    share = trace / (size * len(gram)) if size else 0.0
    product = float(torch.finfo(torch.float64).eps) if again else epsilon
    # Features are off by up to 2 eps as they are stored, and by a few eps of the type that they were computed in.
    held = max(ROUNDING * epsilon, 2 * stored) ** 2 / share if share else 1.0
    return CentredGram(gram, 2 * exponent, trace, share, epsilon, min(max(ROUNDING * product, held), 1.0), 0)


def _centre(gram: Tensor) -> tuple[float, float]:
    """Centre a matrix in place; return its trace and its Frobenius norm."""
    rows = gram.mean(dim=1, keepdim=True)
    gram -= rows
    gram -= rows.T - rows.mean()
    trace, norm = torch.stack([gram.diagonal().sum(), gram.norm()]).tolist()
    return max(trace, 0.0), norm


def flatten_samples(values: Float[Tensor, "sample ..."]) -> Float[Tensor, "sample feature"]:
    """Return a float32 or float64 view (sample, feature), copied only where type or strides require it.

    Features come in the order of memory, not of dimensions: similarity does not depend on it, and tensors in
    ``channels_last`` need no copy.
    """
    values = values.detach()
    if values.is_complex():
        values = torch.view_as_real(values)
    if values.dtype not in (torch.float32, torch.float64):
        # float32 holds every half-precision value and every 8 or 16 bit integer, not every longer one.
        wide = values.dtype in (torch.int32, torch.int64)
        values = values.to(torch.float64 if wide else torch.float32)
    order = sorted(range(1, values.ndim), key=lambda dim: values.stride()[dim], reverse=True)
    return values.permute(0, *order).reshape(len(values), -1 if values.numel() else 0)


def symmetric_product(features: Float[Tensor, "row feature"]) -> Float[Tensor, "row row"]:
    """Return ``X X'``, computing three quarters of it and mirroring the rest."""
    rows = len(features)
    if rows < 64:
        return features @ features.T
    half = rows // 2
    product = features.new_empty(rows, rows)
    product[:half] = features[:half] @ features.T
    product[half:, half:] = features[half:] @ features[half:].T
    product[half:, :half] = product[:half, half:].T
    return product


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Keep autocast and reduced float32 products (TF32, bfloat16) of the surroundings out of a computation."""
    precision = torch.get_float32_matmul_precision()
    if precision != "highest":
        torch.set_float32_matmul_precision("highest")
    try:
        if torch.is_autocast_enabled(device.type):
            with torch.autocast(device.type, enabled=False):
                yield
        else:
            yield
    finally:
        if precision != "highest":
            torch.set_float32_matmul_precision(precision)


def _wide(device: torch.device) -> torch.device:
    """Return where float64 work is done: on the device, unless it (Apple's) has no float64."""
    return torch.device("cpu") if device.type == "mps" else device


def _mean_and_size(gram: Tensor) -> tuple[float, float]:
    """Return the mean entry (squared norm of the mean sample) and the mean diagonal (mean squared norm)."""
    mean, size = torch.stack([gram.mean(), gram.diagonal().mean()]).tolist()
    return mean, size


def _in_range(features: Tensor) -> tuple[Tensor, int]:
    """Return features times ``2 ** -exponent``, the largest near 1, and the exponent; powers of two round nothing."""
    largest = features.abs().max() if features.numel() else features.new_zeros(())
    exponent = int(torch.frexp(largest).exponent)
    # In two steps: 2 ** -exponent itself may leave the range of the type.
    half = exponent // 2
    steps = features.new_tensor([-half, half - exponent])
    return torch.ldexp(torch.ldexp(features, steps[0]), steps[1]), exponent


def _product_about_mean(features: Tensor, dtype: torch.dtype) -> Tensor:
    step = max(1, FEATURE_CHUNK // len(features))
    product = features.new_zeros(len(features), len(features), dtype=dtype)
    for start in range(0, features.shape[1], step):
        part = features[:, start : start + step].to(dtype)
        product += symmetric_product(part - part.mean(dim=0))
    return product
