"""Sums over groups of samples that become the statistics of a :class:`outcrop.numerics.GramAccumulator`."""

from typing import Self

import numpy as np
from numpy.typing import NDArray

from outcrop.models.model import Layer
from outcrop.numerics.kernels.gram_matrix import Kernel
from outcrop.numerics.measures.ratio import jackknife_error, similarity_ratio
from outcrop.numerics.stream.gram_statistics import ComponentScope, GramStatistics, GroupSums
from outcrop.numerics.stream.matrix_notes import MatrixNotes
from outcrop.numerics.stream.packed import BatchSums

RESIDUAL = 1e-7
"""Size, relative to a kernel matrix, below which what is left of it without the input's is rounding: residuals are
sums of squares that cancel in float64."""


class GramTotals:
    """Sums of HSIC and what goes with it, one row for each layer, and their exact merging."""

    def __init__(self, layers: int, *, principal: bool, residual: bool = False) -> None:
        self.principal = principal
        self.residual = residual
        self.feature_count = np.zeros(layers, dtype=np.int64)
        self.notes = MatrixNotes((layers,))
        self.hsic = np.zeros((layers, layers))
        self.hsic_without = np.zeros((layers, layers))
        self.alignment = np.zeros((layers, layers))
        self.alignment_weight = np.zeros((layers, layers))
        # Shares times samples, and those samples.
        self.shares = np.zeros((2, layers))
        self.groups = GroupSums()
        self.groups_without = GroupSums()
        self.groups_shares = GroupSums()

    @classmethod
    def grown(
        cls, totals: "GramTotals | None", layers: int, *, principal: bool, residual: bool = False
    ) -> "GramTotals":
        """Return totals for more layers, keeping what the first batch noted of those before."""
        larger = cls(layers, principal=principal, residual=residual)
        if totals is not None:
            larger.feature_count[: len(totals.feature_count)] = totals.feature_count
            larger.notes.take(totals.notes)
        return larger

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
        shares = samples * np.stack([np.where(seen, share, 0.0), seen])
        self.shares += shares
        if first_pass:
            self.groups_shares.limit = group_limit
            self.groups_shares.add(shares)
        self.alignment += samples * sums.alignment[square]
        self.alignment_weight += samples * np.outer(seen, seen)

    def merge(self, other: Self, order: NDArray[np.int64], *, group_limit: int) -> None:
        """Add the totals of others, whose rows in the order of ours are ``order``."""
        square = np.ix_(order, order)
        factor = self.notes.merge(other.notes, order)
        units = np.outer(factor, factor)
        self.feature_count = np.maximum(self.feature_count, other.feature_count[order])
        self.hsic += other.hsic[square] * units
        self.hsic_without += other.hsic_without[square] * units
        self.alignment += other.alignment[square]
        self.alignment_weight += other.alignment_weight[square]
        self.shares += other.shares[:, order]
        for mine, others in ((self.groups, other.groups), (self.groups_without, other.groups_without)):
            mine.limit = group_limit
            if others.sums:
                maps = (_symmetric(group, len(order))[square] * units for group in others.sums)
                mine.merge((_upper(group) for group in maps), others.batches)
        self.groups_shares.limit = group_limit
        if other.groups_shares.sums:
            self.groups_shares.merge((one[:, order] for one in other.groups_shares.sums), other.groups_shares.batches)

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
        least = RESIDUAL if self.residual else 0.0
        degenerate = self.notes.degenerate(np.diag(self.hsic), least=least)
        left = np.maximum(self.notes.noise, least)
        emptied = degenerate | self.notes.is_rounding(np.diag(self.hsic_without), left)
        groups = _unpacked(self.groups, order, degenerate)
        shares = np.reshape(self.groups_shares.sums, (-1, 2, len(order)))[:, :, order]
        with np.errstate(invalid="ignore"):
            alignment = self.alignment / np.where(self.alignment_weight > 0, self.alignment_weight, np.nan)
            share = self.shares[0] / np.where(self.shares[1] > 0, self.shares[1], np.nan)
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
            non_finite_count=self.notes.non_finite[order],
            feature_count=self.feature_count[order],
            groups=groups,
            groups_without_pc1=_unpacked(self.groups_without, order, emptied) if self.principal else None,
            groups_pc_share=np.where(degenerate[order], np.nan, shares[:, 0]) if self.principal else None,
            groups_pc_samples=shares[:, 1] if self.principal else None,
            kernel=kernel,
            bandwidths=bandwidths,
            component_scope=component_scope,
            sample_count=sample_count,
            skipped_samples=skipped_samples,
            batch_count=batch_count,
        )


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
