"""Gram matrices of a group of samples, from any tensor, that lose no digits to offset, overflow or underflow."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from outcrop.capture.numpy_threads import numpy_has_one_thread

OFFSET = 8.0
"""Squared norm of the mean over the variance, from which features are centred before their product.

Below, float32 leaves the centred Gram matrix six digits; above, the mean would eat them one by one.
"""

FEATURE_CHUNK = 1 << 20
"""Values centred at a time (4 MiB), so that they stay in the caches and centring needs no second copy of a layer."""

DEVICE_CHUNK = 1 << 24  # on an accelerator, which wants large operations

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
        product_epsilon: Resolution of the type in which the matrix was multiplied.
        offset: Whether the mean of the features is large beside their variance.
        row_means: (sample,): of the kernel matrix before it was double-centred, up to a constant; None where they
            are 0, as those of mean-free features.
    """

    gram: Tensor
    exponent: int
    trace: float
    variance_share: float
    epsilon: float
    noise: float
    non_finite: int
    product_epsilon: float
    offset: bool
    row_means: Tensor | None = None


def centred_gram(
    values: Float[Tensor, "sample ..."], *, unit_norm: bool = False, expect_offset: bool = False
) -> CentredGram:
    """Return the Gram matrix of the mean-free features of one group of samples.

    The product runs in the type of the features (half precision is widened to float32) and everything after it in
    float64. The product itself tells how large the mean is (the sum of its entries over n^2, against its
    trace over n), so only layers with an offset pay for centring the features; and whether one component holds nearly
    all variance, so only such layers pay for a product in float64. Cost: at most 3/4 n^2 p, up to four times that.

    Args:
        values: Any strides; dimensions are flattened in the order that needs no copy.
        unit_norm: Whether samples are divided by their norms first (the cosine kernel); those of norm 0 stay as they
            are.
        expect_offset: Whether the layer had an offset before: features are centred at once, which is right in any
            case and costs less than a product that turns out useless.
    """
    features = flatten_samples(values)
    stored = float(torch.finfo(values.dtype).eps) if values.is_floating_point() or values.is_complex() else 0.0
    with full_precision(features.device):
        found = _centred_at_once(features, stored) if expect_offset and not unit_norm else None
        return _centred(features, stored, unit_norm) if found is None else found


def _centred_at_once(features: Tensor, stored: float) -> CentredGram | None:
    """Return the matrix of features that are centred first; None where their squares leave the range of their type."""
    product, grand = _product_about_mean(features, features.dtype, None)
    gram = product.to(_wide(features.device), torch.float64)
    trace, norm = _centre(gram)
    size = trace / len(gram) + grand
    if not _SMALLEST * features.shape[1] < size < _LARGEST:
        return None
    return _examined(features, stored, _Centred(gram, trace, norm, size, 0, grand > OFFSET / 2 * (size - grand)), None)


class _Centred(NamedTuple):
    """A double-centred matrix, its trace and Frobenius norm; mean squared norm of samples, offset included."""

    gram: Tensor
    trace: float
    norm: float
    size: float
    exponent: int
    offset: bool


def _centred(features: Tensor, stored: float, unit_norm: bool) -> CentredGram:
    epsilon = float(torch.finfo(features.dtype).eps)
    exponent = 0
    gram = symmetric_product(features).to(_wide(features.device), torch.float64)
    rows, grand, size, norm = _row_means(gram)
    if not _SMALLEST * features.shape[1] < size < _LARGEST:
        if non_finite := features.numel() - int(torch.isfinite(features).sum()):
            return CentredGram(torch.zeros_like(gram), 0, 0.0, 0.0, epsilon, 1.0, non_finite, epsilon, False)
        features, exponent = _in_range(features)
        gram = symmetric_product(features).to(gram)
        rows, grand, size, norm = _row_means(gram)
    inverse = None
    if unit_norm:
        # Squares of small samples beside large ones leave the range of the type.
        precise = float(gram.diagonal().amin()) <= _SMALLEST * features.shape[1]
        inverse = _inverse_norms(features) if precise else gram.diagonal().rsqrt()
        gram *= inverse.unsqueeze(1)
        gram *= inverse
        rows, grand, size, norm = _row_means(gram)
        if precise or _has_offset(grand, size):
            inverse = inverse if precise else _inverse_norms(features)
            size = float((inverse > 0).sum()) / len(gram)
            grand = math.inf
        exponent = 0
    offset = _has_offset(grand, size)
    if offset:
        gram = _product_about_mean(features, features.dtype, inverse)[0].to(gram)
        trace, norm = _centre(gram)
    else:
        _subtract_means(gram, rows)
        trace = max(len(gram) * (size - grand), 0.0)
    return _examined(features, stored, _Centred(gram, trace, norm, size, exponent, offset), inverse)


def _examined(features: Tensor, stored: float, found: _Centred, inverse: Tensor | None) -> CentredGram:
    """Return a matrix with what it holds of rounding, made again in float64 where one component is nearly all of it."""
    gram, trace, norm, size, exponent, offset = found
    epsilon = float(torch.finfo(features.dtype).eps)
    # share^2 <= sum of squared eigenvalues / trace^2, so no layer of a large share escapes; and the sum is <= share.
    again = features.dtype == torch.float32 and norm >= (1 - REMAINDER) * trace > 0
    if again:
        gram, _ = _product_about_mean(features.to(gram.device), torch.float64, inverse)
        trace, _ = _centre(gram)
    share = trace / (size * len(gram)) if size else 0.0
    product = float(torch.finfo(torch.float64).eps) if again else epsilon
    # Features are off by up to 2 eps as they are stored, and by a few eps of the type that they were computed in.
    held = max(ROUNDING * epsilon, 2 * stored) ** 2 / share if share else 1.0
    noise = min(max(ROUNDING * product, held), 1.0)
    # Samples of norm s have inner products (s^2 + s'^2 - distance^2) / 2, and s^2 is 1 or 0.
    means = None if inverse is None else ((inverse > 0).to(gram) - gram.diagonal()) / 2
    return CentredGram(gram, 2 * exponent, trace, share, epsilon, noise, 0, product, offset, means)


def _has_offset(grand: float, size: float) -> bool:
    """Return whether the squared norm of the mean is large beside the variance, given the mean squared norm."""
    return grand > OFFSET * (size - grand)


def _centre(gram: Tensor) -> tuple[float, float]:
    """Centre a matrix in place; return its trace and its Frobenius norm."""
    _subtract_means(gram, gram.mean(dim=1))
    trace, norm = torch.stack([gram.diagonal().sum(), torch.linalg.vector_norm(gram)]).tolist()
    return max(trace, 0.0), norm


def _subtract_means(gram: Tensor, rows: Tensor) -> None:
    gram -= rows.unsqueeze(1)
    gram -= rows - rows.mean()


def flatten_samples(values: Float[Tensor, "sample ..."]) -> Float[Tensor, "sample feature"]:
    """Return a float32 or float64 view (sample, feature), copied only where type or strides require it.

    Features come in the order of memory, not of dimensions: similarity does not depend on it, and tensors in
    ``channels_last`` need no copy.
    """
    values = values.detach()
    if values.is_complex():
        values = torch.view_as_real(values.resolve_conj())
    if values.dtype not in (torch.float32, torch.float64):
        # float32 holds every half-precision value and every 8 or 16 bit integer, not every longer one.
        wide = values.dtype in (torch.int32, torch.int64)
        values = values.to(torch.float64 if wide else torch.float32)
    order = sorted(range(1, values.ndim), key=lambda dim: values.stride()[dim], reverse=True)
    return values.permute(0, *order).reshape(len(values), -1 if values.numel() else 0)


def symmetric_product(features: Float[Tensor, "row feature"]) -> Float[Tensor, "row row"]:
    """Return ``X X'``, computing about half of it and mirroring the rest."""
    rows = len(features)
    if rows < 64:
        return features @ features.T
    if features.device.type == "cpu" and torch.get_num_threads() == 1 and numpy_has_one_thread():
        # numpy calls BLAS' own symmetric product, which torch does not offer. Its threads and torch's would wait for
        # one another, so it is for where each has one.
        array = features.numpy(force=True)
        with np.errstate(all="ignore"):  # what leaves the range of the type is seen in the matrix
            return torch.from_numpy(array @ array.T)
    half = rows // 2
    product = features.new_zeros(rows, rows)
    # Features by the million do not stay in a processor's caches from one half to the next.
    for part in _parts(features) if features.device.type == "cpu" else (features,):
        product[:half, :half].addmm_(part[:half], part[:half].T)
        product[half:].addmm_(part[half:], part.T)
    product[:half, half:] = product[half:, :half].T
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


def _row_means(gram: Tensor) -> tuple[Tensor, float, float, float]:
    """Return what a matrix tells before it is centred, in one transfer from its device.

    Returns:
        Its row means; its mean entry (squared norm of the mean sample); its mean diagonal entry (mean squared norm);
        and the Frobenius norm that it has once centred, good to the digits of float64 where the mean is small.
    """
    samples, rows = len(gram), gram.mean(dim=1)
    mean, size, norm, effect = torch.stack(
        [rows.mean(), gram.diagonal().mean(), torch.linalg.vector_norm(gram), torch.linalg.vector_norm(rows)]
    ).tolist()
    # Products, since powers of what is out of range raise; such features are scaled and asked again.
    centred = norm * norm - 2 * samples * effect * effect + samples * mean * samples * mean
    return rows, mean, size, math.sqrt(centred) if 0 < centred < math.inf else 0.0


def _inverse_norms(features: Tensor) -> Tensor:
    """Return 1 / norm of every sample in float64, 0 for a norm of 0."""
    device = _wide(features.device)
    squares = torch.zeros(len(features), dtype=torch.float64, device=device)
    for part in _parts(features):
        squares += part.to(device, torch.float64).square().sum(dim=1)
    return torch.where(squares > 0, squares.rsqrt(), 0.0)


def _parts(features: Tensor) -> Iterator[Tensor]:
    """Yield the features, so many at a time that a copy in another type takes little memory."""
    step = max(1, (FEATURE_CHUNK if features.device.type == "cpu" else DEVICE_CHUNK) // len(features))
    for start in range(0, features.shape[1], step):
        yield features[:, start : start + step]


def _in_range(features: Tensor) -> tuple[Tensor, int]:
    """Return features times ``2 ** -exponent``, the largest near 1, and the exponent; powers of two round nothing."""
    largest = features.abs().max() if features.numel() else features.new_zeros(())
    exponent = int(torch.frexp(largest).exponent)
    # In two steps: 2 ** -exponent itself may leave the range of the type.
    half = exponent // 2
    steps = features.new_tensor([-half, half - exponent])
    return torch.ldexp(torch.ldexp(features, steps[0]), steps[1]), exponent


def _product_about_mean(features: Tensor, dtype: torch.dtype, inverse_norms: Tensor | None) -> tuple[Tensor, float]:
    """Return the product of features less their mean, and the squared norm of that mean."""
    product = features.new_zeros(len(features), len(features), dtype=dtype)
    grand = features.new_zeros((), dtype=dtype)
    weights = features.new_full((len(features),), 1 / len(features), dtype=dtype)
    for part in _parts(features):
        scaled = part.to(dtype) if inverse_norms is None else part.to(inverse_norms) * inverse_norms.unsqueeze(1)
        mean = torch.mv(scaled.T, weights.to(scaled))
        grand += torch.dot(mean, mean)
        product += symmetric_product((scaled - mean).to(product))
    return product, float(grand)
