"""Sums over groups of samples that become the statistics of a :class:`outcrop.numerics.SeriesAccumulator`."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from outcrop.numerics.kernels.products import CentredGram
from outcrop.numerics.measures.ratio import OwnPair, jackknife_error, similarity_ratio
from outcrop.numerics.stream.gram_statistics import GroupSums
from outcrop.numerics.stream.matrix_notes import MatrixNotes

GROUP_BYTES = 1 << 29
"""Most bytes that the sums of all checkpoints over groups of batches take, as long as ten groups remain."""

_WITHIN, _CROSS = 0, 1


@dataclass(frozen=True)
class SeriesStatistics:
    """Similarity within each checkpoint and with the last one; values that are not defined are NaN.

    Attributes:
        similarity: Minibatch CKA within each checkpoint: ratio of means of HSIC1 (arXiv 2010.15327, equation 2).
        similarity_to_last: The same of layer_a of each checkpoint with layer_b of the last one; not symmetric.
        standard_error: Of ``similarity``, by jackknife over groups of batches of the first pass.
        standard_error_to_last: Of ``similarity_to_last``, likewise.
        pc_share: Mean over batches of the first principal component's share of variance, which small batches overstate.
        degenerate: Layers without variance, without structure (all samples equally far from one another), or with
            values that are not finite; their rows are NaN.
        non_finite_count: Values seen that are NaN or infinite.
        sample_count: Samples used, over all passes.
        skipped_samples: Samples in groups of fewer than 4, over all passes; they are not used.
        batch_count: Batches used, over all passes.
    """

    similarity: Float[np.ndarray, "step layer layer"]
    similarity_to_last: Float[np.ndarray, "step layer layer"]
    standard_error: Float[np.ndarray, "step layer layer"]
    standard_error_to_last: Float[np.ndarray, "step layer layer"]
    pc_share: Float[np.ndarray, "step layer"]
    degenerate: Bool[np.ndarray, "step layer"]
    non_finite_count: Int[np.ndarray, "step layer"]
    sample_count: int
    skipped_samples: int
    batch_count: int


class SeriesTotals:
    """Sums of HSIC within checkpoints and with the last one, and their exact merging."""

    def __init__(self, steps: int, layers: int, *, group_limit: int) -> None:
        fitting = GROUP_BYTES // (16 * steps * layers**2)
        self._limit = max(2, min(group_limit, max(10, fitting)))
        self._notes = MatrixNotes((steps, layers))
        self._share = np.zeros((steps, layers))
        self._share_weight = np.zeros((steps, layers))
        # Of the last checkpoint both maps are one.
        self._hsic = [np.zeros((2 if step < steps - 1 else 1, layers, layers)) for step in range(steps)]
        self._groups = [GroupSums(self._limit) for _ in range(steps)]

    def note(self, step: int, row: int, found: CentredGram) -> float:
        """Take note of one layer's matrix in one batch; return the factor that brings it to the layer's units."""
        return self._notes.note((step, row), found, len(found.gram))

    def add(
        self,
        step: int,
        within: NDArray[np.float64],
        cross: NDArray[np.float64] | None,
        shares: NDArray[np.float64],
        *,
        samples: int,
        first_pass: bool,
    ) -> None:
        """Add one batch of one checkpoint.

        Args:
            step: Position of the checkpoint.
            within: ``n (n - 3) HSIC1`` (layer, layer) of its layers with one another.
            cross: The same with those of the last checkpoint; None of the last checkpoint itself.
            shares: (layer,), NaN without variance.
            samples: Of the batch.
            first_pass: Whether the batch is of the first pass.
        """
        sums = np.stack([within] if cross is None else [within, cross])
        self._hsic[step] += sums
        if first_pass:
            self._groups[step].add(sums)
        seen = np.isfinite(shares)
        self._share[step] += samples * np.where(seen, shares, 0.0)
        self._share_weight[step] += samples * seen

    def merge(self, other: Self) -> None:
        """Add the totals of others, of the same checkpoints and layers."""
        factor = self._notes.merge(other._notes)
        self._share += other._share
        self._share_weight += other._share_weight
        for step, hsic in enumerate(other._hsic):
            units = np.stack([np.outer(factor[step], factor[step]), np.outer(factor[step], factor[-1])])[: len(hsic)]
            self._hsic[step] += hsic * units
            groups = other._groups[step].stacked()
            if len(groups):
                self._groups[step].merge(groups * units, other._groups[step].batches)

    def statistics(self, *, sample_count: int, skipped_samples: int, batch_count: int) -> SeriesStatistics:
        """Return the statistics of all checkpoints."""
        own = np.stack([np.diag(hsic[_WITHIN]) for hsic in self._hsic])
        degenerate = self._notes.degenerate(own)
        groups = [sums.stacked() for sums in self._groups]
        own_groups = np.stack([np.diagonal(group[:, _WITHIN], axis1=1, axis2=2) for group in groups])
        last, last_groups, out_last = own[-1], own_groups[-1], degenerate[-1]
        maps: dict[str, list[NDArray[np.float64]]] = {"within": [], "cross": [], "error": [], "error_cross": []}
        for hsic, mine, group, mine_group, out in zip(self._hsic, own, groups, own_groups, degenerate, strict=True):
            within = _masked(similarity_ratio(hsic[_WITHIN]), out, out)
            error = _masked(jackknife_error(group[:, _WITHIN]), out, out)
            maps["within"].append(within)
            maps["error"].append(error)
            if len(hsic) == 1:
                maps["cross"].append(within)
                maps["error_cross"].append(error)
            else:
                of_all: OwnPair = (mine, last)
                of_groups: OwnPair = (mine_group, last_groups)
                maps["cross"].append(_masked(similarity_ratio(hsic[_CROSS], own=of_all), out, out_last))
                maps["error_cross"].append(_masked(jackknife_error(group[:, _CROSS], own=of_groups), out, out_last))
        with np.errstate(invalid="ignore", divide="ignore"):
            share = self._share / self._share_weight
        return SeriesStatistics(
            similarity=np.stack(maps["within"]),
            similarity_to_last=np.stack(maps["cross"]),
            standard_error=np.stack(maps["error"]),
            standard_error_to_last=np.stack(maps["error_cross"]),
            pc_share=np.where(degenerate, np.nan, share),
            degenerate=degenerate,
            non_finite_count=self._notes.non_finite.copy(),
            sample_count=sample_count,
            skipped_samples=skipped_samples,
            batch_count=batch_count,
        )


def _masked(values: NDArray[np.float64], rows: NDArray[np.bool_], columns: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return a map with NaN in the given rows and columns."""
    values[rows] = np.nan
    values[:, columns] = np.nan
    return values
