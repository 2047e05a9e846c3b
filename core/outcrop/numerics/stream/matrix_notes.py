"""What the kernel matrices of layers have shown over batches: units, sizes, and when they hold nothing."""

import math
from collections.abc import Sequence
from types import EllipsisType
from typing import Self

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from outcrop.numerics.kernels.products import ROUNDING, CentredGram

_UNKNOWN = np.iinfo(np.int64).min

At = int | tuple[int, ...]
"""Place of a layer."""


class MatrixNotes:
    """Notes on the matrices of layers, in arrays of any shape.

    Every layer's matrices are held in units of a fixed power of two, that of its first batch: nothing overflows,
    nothing is rounded, and the ratio that CKA is does not notice.

    Attributes:
        exponent: Of the unit ``2 ** exponent``.
        non_finite: Number of values seen that are NaN or infinite.
        size: What HSIC of a layer with itself is measured against: that of a matrix of nothing but its mean diagonal.
        noise: Share of a matrix below which what a removed component leaves is rounding, the largest of all batches.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        self.exponent = np.full(shape, _UNKNOWN)
        self.non_finite = np.zeros(shape, dtype=np.int64)
        self.size = np.zeros(shape)
        self.noise = np.zeros(shape)
        self._epsilon = np.zeros(shape)
        self._variance_share = np.zeros(shape)

    def note(self, at: At, found: CentredGram, samples: int) -> float:
        """Take note of one layer's matrix in one batch; return the factor that brings it to the layer's units."""
        self.non_finite[at] += found.non_finite
        self._epsilon[at] = max(self._epsilon[at], found.epsilon)
        self._variance_share[at] = max(self._variance_share[at], found.variance_share)
        if not found.trace:
            return 0.0
        self.noise[at] = max(self.noise[at], found.noise)
        if self.exponent[at] == _UNKNOWN:
            self.exponent[at] = found.exponent + math.frexp(found.trace / samples)[1]
        scale = math.ldexp(1.0, int(found.exponent - self.exponent[at]))
        self.size[at] += samples * (samples - 3) * (scale * found.trace / samples) ** 2
        return scale

    @property
    def epsilon(self) -> NDArray[np.float64]:
        """Return the resolution of the type of the features, the coarsest of all batches."""
        return self._epsilon

    def share_unit(self, at: At, other: At) -> bool:
        """Return whether two layers are held in the same units; one that has none yet takes the other's."""
        if self.exponent[at] == _UNKNOWN:
            self.exponent[at] = self.exponent[other]
        return bool(self.exponent[at] == self.exponent[other])

    def in_units(self, at: At, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return features (or projections) in those units whose squares are the layer's."""
        if self.exponent[at] == _UNKNOWN:
            return values
        half, odd = divmod(-int(self.exponent[at]), 2)
        return np.asarray(np.ldexp(values, half) * math.sqrt(2.0) ** odd, dtype=np.float64)

    def take(self, other: Self) -> None:
        """Take over the notes of others on the first layers of ours."""
        for name, values in vars(other).items():
            vars(self)[name][: len(values)] = values

    def merge(self, other: Self, order: "NDArray[np.int64] | EllipsisType" = ...) -> NDArray[np.float64]:
        """Add the notes of others, and return the factors that bring their matrices to our units.

        Args:
            other: Of the same layers.
            order: Their rows in the order of ours.
        """
        theirs = other.exponent[order]
        known = (self.exponent != _UNKNOWN) & (theirs != _UNKNOWN)
        factor = np.ldexp(1.0, np.where(known, theirs - self.exponent, 0))
        self.exponent = np.where(self.exponent == _UNKNOWN, theirs, self.exponent)
        self.non_finite += other.non_finite[order]
        self.size += other.size[order] * factor**2
        for name in ("noise", "_epsilon", "_variance_share"):
            vars(self)[name] = np.maximum(vars(self)[name], vars(other)[name][order])
        return np.asarray(factor, dtype=np.float64)

    def degenerate(self, own: Float[np.ndarray, "*layer"], *, least: float = 0.0) -> NDArray[np.bool_]:
        """Return which layers' matrices hold rounding only, or values that are not finite.

        Args:
            own: ``n (n - 3) HSIC1`` of each layer with itself, summed, in the layers' units.
            least: Share of a matrix up to which what it holds is rounding, where that is more than its type's.
        """
        constant = self._variance_share <= (2 * self._epsilon) ** 2
        structureless = self.is_rounding(own, np.maximum(ROUNDING * self._epsilon, least))
        return np.asarray(constant | structureless | (self.non_finite > 0), dtype=np.bool_)

    def is_rounding(self, own: Float[np.ndarray, "*layer"], share: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return whether HSIC of layers with themselves is no more than a share of their matrices would have."""
        return np.asarray(own <= share**2 * self.size, dtype=np.bool_)
