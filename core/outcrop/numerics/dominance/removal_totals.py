"""Sums over groups of samples, for every mask of samples that are kept, and what they tell of one model's layers."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from outcrop.models.model import Layer
from outcrop.numerics.dominance.nested import Subsets, SubsetSums
from outcrop.numerics.kernels.products import ROUNDING, CentredGram
from outcrop.numerics.measures.ratio import similarity_ratio
from outcrop.numerics.stream.gram_statistics import GroupSums
from outcrop.numerics.stream.matrix_notes import MatrixNotes

LEFT = 1e-6
"""Size, relative to a Gram matrix, below which what is left without its first component is rounding: what the component
contributes to HSIC is subtracted from sums of squares in float64."""

GROUP_BYTES = 1 << 27
"""Memory that the sums of groups of batches may take for each model (128 MiB)."""


@dataclass(frozen=True)
class KeptMaps:
    """What layers are like on the samples that each mask keeps; NaN where it is not known.

    Attributes:
        similarity: Minibatch CKA (mask, layer, layer).
        similarity_without_pc1: The same without each batch's own first principal component.
        pc_share: Mean over batches of that component's share of variance (mask, layer).
    """

    similarity: Float[np.ndarray, "mask layer layer"]
    similarity_without_pc1: Float[np.ndarray, "mask layer layer"]
    pc_share: Float[np.ndarray, "mask layer"]


@dataclass(frozen=True)
class RemovalStatistics:
    """Similarity of one model's layers on the samples that each mask keeps, each as a run without the others gives it.

    Values that are not defined are NaN.

    Attributes:
        layers: In topological order.
        kept_count: Samples that each mask keeps, of those that came in batches of which it keeps at least 4.
        skipped_count: Samples that it keeps in batches of which it keeps fewer; they are not used.
        similarity: Minibatch CKA between all layers: ratio of means of HSIC1 (arXiv 2010.15327, equation 2). Not
            clamped.
        similarity_without_pc1: The same after each batch's own first principal component of the kept samples is removed
            (arXiv 2202.07184, appendix C); NaN where that leaves rounding only.
        pc_alignment: Mean over batches of the squared cosine between these components.
        pc_share: Mean over batches of their share of the kept samples' variance.
        degenerate: Layers without variance or structure on the kept samples, or with values that are not finite.
        non_finite_count: Values seen that are NaN or infinite, of samples kept or not; such a layer is left out.
        groups: Summed HSIC1, times n (n - 3), of each group of batches, on and above the diagonal of every map.
        groups_without_pc1: The same without the components.
        groups_pc_share: Summed shares times samples, and these samples, of each group.
        unknown: Layers whose similarity without the component is not known.
        batch_count: Batches.
    """

    layers: tuple[Layer, ...]
    kept_count: Int[np.ndarray, " mask"]
    skipped_count: Int[np.ndarray, " mask"]
    similarity: Float[np.ndarray, "mask layer layer"]
    similarity_without_pc1: Float[np.ndarray, "mask layer layer"]
    pc_alignment: Float[np.ndarray, "mask layer layer"]
    pc_share: Float[np.ndarray, "mask layer"]
    degenerate: Bool[np.ndarray, "mask layer"]
    unknown: Bool[np.ndarray, "mask layer"]
    non_finite_count: Int[np.ndarray, " layer"]
    groups: Float[np.ndarray, "group mask pair"]
    groups_without_pc1: Float[np.ndarray, "group mask pair"]
    groups_pc_share: Float[np.ndarray, "group two mask layer"]
    batch_count: int

    def left_out(self) -> Iterator[KeptMaps]:
        """Yield what all groups of batches but one give, for each group: what the jackknife asks for.

        With ``g`` groups and ``t_i`` what a number is without group i, its variance is
        ``(g - 1) / g sum (t_i - mean t)^2`` (Efron and Stein 1981). Groups share no sample.
        """
        totals = [sums.sum(axis=0) for sums in (self.groups, self.groups_without_pc1, self.groups_pc_share)]
        for one, without, shares in zip(self.groups, self.groups_without_pc1, self.groups_pc_share, strict=True):
            weighted, samples = totals[2] - shares
            yield KeptMaps(
                self._maps(totals[0] - one, self.degenerate),
                self._maps(totals[1] - without, self.unknown),
                np.where(self.degenerate | (samples <= 0), np.nan, weighted / np.where(samples > 0, samples, 1.0)),
            )

    def _maps(self, upper: NDArray[np.float64], unknown: NDArray[np.bool_]) -> NDArray[np.float64]:
        return _similarity(_symmetric(upper, len(self.layers)), unknown)


class RemovalTotals:
    """Sums of HSIC and what goes with it for one model, by mask and layer, and their exact merging."""

    def __init__(self, masks: int, layers: int) -> None:
        self.notes = MatrixNotes((layers,))
        self.used = np.zeros(masks, dtype=np.int64)
        self.skipped = np.zeros(masks, dtype=np.int64)
        # Sizes of matrices, squared, and variance as a share of squared norms: what tells rounding from structure.
        self.size = np.zeros((masks, layers))
        self.variance_share = np.zeros((masks, layers))
        self.hsic = np.zeros((masks, layers, layers))
        self.hsic_without = np.zeros((masks, layers, layers))
        self.alignment = np.zeros((masks, layers, layers))
        self.alignment_weight = np.zeros((masks, layers, layers))
        self.shares = np.zeros((2, masks, layers))
        limit = max(2, min(40, GROUP_BYTES // max(1, 8 * masks * layers * (layers + 1))))
        self.groups, self.groups_without, self.groups_shares = (GroupSums(limit) for _ in range(3))

    def note(
        self,
        row: int,
        found: CentredGram,
        subsets: Subsets,
        traces: NDArray[np.float64],
        mean_squares: NDArray[np.float64],
    ) -> float:
        """Take note of one layer in one batch; return the factor that brings its matrix to the layer's units.

        Args:
            row: Of the layer.
            found: Its matrix on all samples of the batch.
            subsets: Of the batch.
            traces: (subset,): summed squared distance of a subset's samples from their own mean.
            mean_squares: (subset,): mean squared distance of its samples from the mean of the batch.
        """
        samples = len(subsets.kept[0])
        scale = self.notes.note(row, found, samples)
        if not scale:
            return scale
        chosen = np.flatnonzero(subsets.of_mask >= 0)
        place = subsets.of_mask[chosen]
        counts = subsets.counts[place]
        whole = found.trace / samples
        # Products of kept samples are rounded like those of the batch that they were made with.
        size = scale * np.maximum(mean_squares[place], whole)
        self.size[chosen, row] += counts * (counts - 3) * size**2
        share = traces[place] / counts * found.variance_share / whole
        self.variance_share[chosen, row] = np.maximum(self.variance_share[chosen, row], share)
        return scale

    def add(self, sums: SubsetSums, scale: NDArray[np.float64], shares: NDArray[np.float64], subsets: Subsets) -> None:
        """Add one batch.

        Args:
            sums: Of its subsets.
            scale: (layer,): factors that bring matrices to the layers' units.
            shares: (subset, layer): of the first principal component, NaN without variance.
            subsets: Which they are.
        """
        chosen = np.flatnonzero(subsets.of_mask >= 0)
        place = subsets.of_mask[chosen]
        samples = subsets.counts[place]
        self.used[chosen] += samples
        seen = np.isfinite(shares[place])
        self.alignment[chosen] += samples[:, None, None] * sums.alignment[place]
        self.alignment_weight[chosen] += samples[:, None, None] * (seen[:, :, None] & seen[:, None, :])
        weighted = np.zeros_like(self.shares)
        weighted[:, chosen] = samples[:, None] * np.stack([np.where(seen, shares[place], 0.0), seen])
        self.shares += weighted
        self.groups_shares.add(weighted)
        for total, groups, one in (
            (self.hsic, self.groups, sums.hsic * np.outer(scale, scale)),
            (self.hsic_without, self.groups_without, sums.hsic_without_pc1 * np.outer(scale, scale)),
        ):
            total[chosen] += one[place]
            upper = np.zeros((len(total), total.shape[1] * (total.shape[1] + 1) // 2))
            upper[chosen] = _upper(one)[place]
            groups.add(upper)

    def merge(self, other: Self, order: NDArray[np.int64]) -> None:
        """Add the totals of others, whose rows in the order of ours are ``order``."""
        factor = self.notes.merge(other.notes, order)
        units = np.outer(factor, factor)
        self.used += other.used
        self.skipped += other.skipped
        self.size += other.size[:, order] * factor**2
        self.variance_share = np.maximum(self.variance_share, other.variance_share[:, order])
        self.hsic += _rows(other.hsic, order) * units
        self.hsic_without += _rows(other.hsic_without, order) * units
        self.alignment += _rows(other.alignment, order)
        self.alignment_weight += _rows(other.alignment_weight, order)
        self.shares += other.shares[..., order]
        self.groups_shares.merge((one[..., order] for one in other.groups_shares.sums), other.groups_shares.batches)
        for mine, others in ((self.groups, other.groups), (self.groups_without, other.groups_without)):
            mine.merge(
                (_upper(_rows(_symmetric(one, len(order)), order) * units) for one in others.sums), others.batches
            )

    def statistics(
        self, order: NDArray[np.int64], layers: tuple[Layer, ...], of_mask: NDArray[np.int64], batch_count: int
    ) -> RemovalStatistics:
        """Return the statistics.

        Args:
            order: Rows in topological order.
            layers: In that order.
            of_mask: For every mask asked for, its place among those that were accumulated.
            batch_count: Batches seen.
        """
        own, own_without = (np.diagonal(one, axis1=1, axis2=2) for one in (self.hsic, self.hsic_without))
        epsilon = self.notes.epsilon
        degenerate = (self.variance_share <= (2 * epsilon) ** 2) | (own <= (ROUNDING * epsilon) ** 2 * self.size)
        degenerate |= self.notes.non_finite > 0
        unknown = degenerate | (own_without <= np.maximum(self.notes.noise, LEFT) ** 2 * self.size)
        with np.errstate(invalid="ignore", divide="ignore"):
            alignment = np.where(degenerate[:, :, None] | degenerate[:, None, :], np.nan, self.alignment)
            alignment /= self.alignment_weight
            share = np.where(degenerate, np.nan, self.shares[0] / self.shares[1])
        groups, groups_without = (
            np.stack([_upper(_rows(_symmetric(one, len(order)), order))[of_mask] for one in sums.sums])
            for sums in (self.groups, self.groups_without)
        )
        return RemovalStatistics(
            layers=layers,
            kept_count=self.used[of_mask],
            skipped_count=self.skipped[of_mask],
            similarity=_rows(_similarity(self.hsic, degenerate), order)[of_mask],
            similarity_without_pc1=_rows(_similarity(self.hsic_without, unknown), order)[of_mask],
            pc_alignment=_rows(alignment, order)[of_mask],
            pc_share=share[:, order][of_mask],
            degenerate=degenerate[:, order][of_mask],
            unknown=unknown[:, order][of_mask],
            non_finite_count=self.notes.non_finite[order],
            groups=groups,
            groups_without_pc1=groups_without,
            groups_pc_share=self.groups_shares.stacked()[..., order][:, :, of_mask],
            batch_count=batch_count,
        )


def _similarity(hsic: NDArray[np.float64], unknown: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return CKA of summed HSIC (mask, layer, layer), NaN where a layer is unknown."""
    return similarity_ratio(np.where(unknown[:, :, None] | unknown[:, None, :], np.nan, hsic))


def _rows(maps: NDArray[np.float64], order: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return maps (..., layer, layer) with their layers in another order."""
    return maps[..., order[:, None], order]


def _upper(maps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what is on and above the diagonal: groups of many layers are large, and symmetric."""
    first, second = np.triu_indices(maps.shape[-1])
    return maps[..., first, second]


def _symmetric(upper: NDArray[np.float64], layers: int) -> NDArray[np.float64]:
    maps = np.empty((*upper.shape[:-1], layers, layers))
    first, second = np.triu_indices(layers)
    maps[..., first, second] = upper
    maps[..., second, first] = upper
    return maps
