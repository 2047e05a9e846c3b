"""Sums over groups of samples that become the statistics of a :class:`outcrop.numerics.GramAccumulator`."""

import math
from typing import Self

import numpy as np
from numpy.typing import NDArray

from outcrop.models.model import Layer
from outcrop.numerics.gram_statistics import GramStatistics, GroupSums
from outcrop.numerics.packed import BatchSums
from outcrop.numerics.products import ROUNDING, CentredGram
from outcrop.numerics.ratio import jackknife_error, similarity_ratio

_UNKNOWN = np.iinfo(np.int64).min


class GramTotals:
    """Sums of HSIC and what goes with it, one row for each layer, and their exact merging.

    Every layer's Gram matrices are held in units of a fixed power of two, that of its first batch: nothing
    overflows, nothing is rounded, and the ratio does not notice.
    """

    def __init__(self, layers: int, *, principal: bool) -> None:
        self.principal = principal
        self.feature_count = np.zeros(layers, dtype=np.int64)
        self.non_finite = np.zeros(layers, dtype=np.int64)
        self.exponent = np.full(layers, _UNKNOWN)
        self.epsilon = np.zeros(layers)
        self.noise = np.zeros(layers)
        self.variance_share = np.zeros(layers)
        self.size = np.zeros(layers)
        self.hsic = np.zeros((layers, layers))
        self.hsic_without = np.zeros((layers, layers))
        self.alignment = np.zeros((layers, layers))
        self.alignment_weight = np.zeros((layers, layers))
        self.share = np.zeros(layers)
        self.share_weight = np.zeros(layers)
        self.groups = GroupSums()

    @classmethod
    def grown(cls, totals: "GramTotals | None", layers: int, *, principal: bool) -> "GramTotals":
        """Return totals for more layers, keeping what the first batch noted of those before."""
        larger = cls(layers, principal=principal)
        if totals is not None:
            for name in ("feature_count", "non_finite", "exponent", "epsilon", "noise", "variance_share", "size"):
                getattr(larger, name)[: len(totals.size)] = getattr(totals, name)
        return larger

    def note(self, row: int, found: CentredGram) -> float:
        """Take note of one layer's matrix in one batch; return the factor that brings it to the layer's units."""
        samples = len(found.gram)
        self.non_finite[row] += found.non_finite
        self.epsilon[row] = max(self.epsilon[row], found.epsilon)
        self.variance_share[row] = max(self.variance_share[row], found.variance_share)
        if not found.trace:
            return 0.0
        self.noise[row] = max(self.noise[row], found.noise)
        if self.exponent[row] == _UNKNOWN:
            self.exponent[row] = found.exponent + math.frexp(found.trace / samples)[1]
        scale = math.ldexp(1.0, int(found.exponent - self.exponent[row]))
        self.size[row] += samples * (samples - 3) * (scale * found.trace / samples) ** 2
        return scale

    def add(
        self, sums: BatchSums, rows: NDArray[np.int64], *, samples: int, first_pass: bool, group_limit: int
    ) -> None:
        """Add one batch, whose layers came in the order of ``rows``."""
        order = np.argsort(rows)
        square = np.ix_(order, order)
        hsic = sums.hsic[square]
        self.hsic += hsic
        if first_pass:
            self.groups.limit = group_limit
            self.groups.add(hsic)
        if sums.hsic_without_pc1 is None or sums.alignment is None or sums.pc_share is None:
            return
        self.hsic_without += sums.hsic_without_pc1[square]
        share = sums.pc_share[order]
        seen = np.isfinite(share)
        self.share += samples * np.where(seen, share, 0.0)
        self.share_weight += samples * seen
        self.alignment += samples * sums.alignment[square]
        self.alignment_weight += samples * np.outer(seen, seen)

    def merge(self, other: Self, order: NDArray[np.int64], *, group_limit: int) -> None:
        """Add the totals of others, whose rows in the order of ours are ``order``."""
        square = np.ix_(order, order)
        theirs = other.exponent[order]
        known = (self.exponent != _UNKNOWN) & (theirs != _UNKNOWN)
        factor = np.ldexp(1.0, np.where(known, theirs - self.exponent, 0))
        self.exponent = np.where(self.exponent == _UNKNOWN, theirs, self.exponent)
        units = np.outer(factor, factor)
        self.feature_count = np.maximum(self.feature_count, other.feature_count[order])
        self.non_finite += other.non_finite[order]
        self.epsilon = np.maximum(self.epsilon, other.epsilon[order])
        self.noise = np.maximum(self.noise, other.noise[order])
        self.variance_share = np.maximum(self.variance_share, other.variance_share[order])
        self.size += other.size[order] * factor**2
        self.hsic += other.hsic[square] * units
        self.hsic_without += other.hsic_without[square] * units
        self.alignment += other.alignment[square]
        self.alignment_weight += other.alignment_weight[square]
        self.share += other.share[order]
        self.share_weight += other.share_weight[order]
        self.groups.limit = group_limit
        groups = other.groups.stacked()
        if len(groups):
            self.groups.merge(groups[:, order][:, :, order] * units, other.groups.batches)

    def statistics(
        self,
        order: NDArray[np.int64],
        layers: tuple[tuple[str, Layer], ...],
        *,
        sample_count: int,
        skipped_samples: int,
        batch_count: int,
    ) -> GramStatistics:
        """Return the statistics, rows in the given order."""
        square = np.ix_(order, order)
        degenerate = self._degenerate()
        emptied = degenerate | (np.diag(self.hsic_without) <= self.noise**2 * self.size)
        groups = self.groups.stacked()[:, order][:, :, order]
        groups = _masked(groups, degenerate[order])
        with np.errstate(invalid="ignore"):
            alignment = self.alignment / np.where(self.alignment_weight > 0, self.alignment_weight, np.nan)
            share = self.share / np.where(self.share_weight > 0, self.share_weight, np.nan)
        return GramStatistics(
            layers=layers,
            similarity=similarity_ratio(_masked(self.hsic, degenerate))[square],
            standard_error=jackknife_error(groups),
            similarity_without_pc1=(
                similarity_ratio(_masked(self.hsic_without, emptied))[square] if self.principal else None
            ),
            pc_alignment=_masked(alignment, degenerate)[square] if self.principal else None,
            pc_share=np.where(degenerate, np.nan, share)[order] if self.principal else None,
            degenerate=degenerate[order],
            non_finite_count=self.non_finite[order],
            feature_count=self.feature_count[order],
            groups=groups,
            sample_count=sample_count,
            skipped_samples=skipped_samples,
            batch_count=batch_count,
        )

    def _degenerate(self) -> NDArray[np.bool_]:
        """Return the layers whose Gram matrices hold rounding only, or values that are not finite."""
        constant = self.variance_share <= (2 * self.epsilon) ** 2
        structureless = np.diag(self.hsic) <= (ROUNDING * self.epsilon) ** 2 * self.size
        return np.asarray(constant | structureless | (self.non_finite > 0), dtype=np.bool_)


def _masked(maps: NDArray[np.float64], rows: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return maps (..., layer, layer) with NaN in the given rows and columns."""
    maps = maps.copy()
    maps[..., rows, :] = np.nan
    maps[..., :, rows] = np.nan
    return maps
