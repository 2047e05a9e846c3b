"""Sums over groups of samples that become the statistics of a :class:`outcrop.numerics.GramAccumulator`."""

import math
from typing import Self

import numpy as np
from numpy.typing import NDArray

from outcrop.models.model import Layer
from outcrop.numerics.gram_statistics import ComponentScope, GramStatistics, GroupSums
from outcrop.numerics.kernels import Kernel
from outcrop.numerics.packed import BatchSums
from outcrop.numerics.products import ROUNDING, CentredGram
from outcrop.numerics.ratio import jackknife_error, similarity_ratio

RESIDUAL = 1e-7
"""Size, relative to a kernel matrix, below which what is left of it without the input's is rounding: residuals are
sums of squares that cancel in float64."""

_UNKNOWN = np.iinfo(np.int64).min


class GramTotals:
    """Sums of HSIC and what goes with it, one row for each layer, and their exact merging.

    Every layer's Gram matrices are held in units of a fixed power of two, that of its first batch: nothing
    overflows, nothing is rounded, and the ratio does not notice.
    """

    def __init__(self, layers: int, *, principal: bool, residual: bool = False) -> None:
        self.principal = principal
        self.residual = residual
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
        self.groups_without = GroupSums()

    @classmethod
    def grown(
        cls, totals: "GramTotals | None", layers: int, *, principal: bool, residual: bool = False
    ) -> "GramTotals":
        """Return totals for more layers, keeping what the first batch noted of those before."""
        larger = cls(layers, principal=principal, residual=residual)
        if totals is not None:
            for name in ("feature_count", "non_finite", "exponent", "epsilon", "noise", "variance_share", "size"):
                getattr(larger, name)[: len(totals.size)] = getattr(totals, name)
        return larger

    def note(self, row: int, found: CentredGram, samples: int) -> float:
        """Take note of one layer's matrix in one batch; return the factor that brings it to the layer's units."""
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

    def share_unit(self, row: int, other: int) -> bool:
        """Return whether two layers are held in the same units; one that has none yet takes the other's."""
        if self.exponent[row] == _UNKNOWN:
            self.exponent[row] = self.exponent[other]
        return bool(self.exponent[row] == self.exponent[other])

    def in_units(self, row: int, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return features (or projections) in those units whose squares are the layer's."""
        if self.exponent[row] == _UNKNOWN:
            return values
        half, odd = divmod(-int(self.exponent[row]), 2)
        return np.asarray(np.ldexp(values, half) * math.sqrt(2.0) ** odd, dtype=np.float64)

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
            self.groups.add(_upper(hsic))
        if sums.hsic_without_pc1 is None or sums.alignment is None or sums.pc_share is None:
            return
        hsic_without = sums.hsic_without_pc1[square]
        self.hsic_without += hsic_without
        if first_pass:
            self.groups_without.limit = group_limit
            self.groups_without.add(_upper(hsic_without))
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
        for mine, others in ((self.groups, other.groups), (self.groups_without, other.groups_without)):
            mine.limit = group_limit
            if others.sums:
                maps = (_symmetric(group, len(order))[square] * units for group in others.sums)
                mine.merge((_upper(group) for group in maps), others.batches)

    def statistics(
        self,
        order: NDArray[np.int64],
        layers: tuple[tuple[str, Layer], ...],
        *,
        kernel: Kernel,
        bandwidths: NDArray[np.float64],
        component_scope: ComponentScope,
        sample_count: int,
        skipped_samples: int,
        batch_count: int,
    ) -> GramStatistics:
        """Return the statistics, rows in the given order."""
        square = np.ix_(order, order)
        degenerate = self._degenerate()
        emptied = degenerate | (np.diag(self.hsic_without) <= self._floor(self.noise))
        groups = _unpacked(self.groups, order, degenerate)
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
            groups_without_pc1=_unpacked(self.groups_without, order, emptied) if self.principal else None,
            kernel=kernel,
            bandwidths=bandwidths,
            component_scope=component_scope,
            sample_count=sample_count,
            skipped_samples=skipped_samples,
            batch_count=batch_count,
        )

    def _floor(self, noise: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return HSIC of a layer with itself up to which it is rounding, of so much relative to the matrix."""
        least = np.maximum(noise, RESIDUAL) if self.residual else noise
        return np.asarray(least**2 * self.size, dtype=np.float64)

    def _degenerate(self) -> NDArray[np.bool_]:
        """Return the layers whose Gram matrices hold rounding only, or values that are not finite."""
        constant = self.variance_share <= (2 * self.epsilon) ** 2
        structureless = np.diag(self.hsic) <= self._floor(ROUNDING * self.epsilon)
        return np.asarray(constant | structureless | (self.non_finite > 0), dtype=np.bool_)


def _masked(maps: NDArray[np.float64], rows: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return maps (..., layer, layer) with NaN in the given rows and columns."""
    maps = maps.copy()
    maps[..., rows, :] = np.nan
    maps[..., :, rows] = np.nan
    return maps


def _upper(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what is on and above the diagonal: groups of many layers are large, and symmetric."""
    return matrix[np.triu_indices(len(matrix))]


def _symmetric(upper: NDArray[np.float64], layers: int) -> NDArray[np.float64]:
    matrix = np.empty((layers, layers))
    indices = np.triu_indices(layers)
    matrix[indices] = upper
    matrix.T[indices] = upper
    return matrix


def _unpacked(groups: GroupSums, order: NDArray[np.int64], unknown: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return maps (group, layer, layer) of rows in the given order, NaN where a layer is unknown."""
    maps = np.empty((len(groups.sums), len(order), len(order)))
    for group, upper in zip(maps, groups.sums, strict=True):
        group[:] = _symmetric(upper, len(order))[np.ix_(order, order)]
    maps[:, unknown[order], :] = np.nan
    maps[:, :, unknown[order]] = np.nan
    return maps
