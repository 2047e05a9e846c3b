"""Sums over groups of samples that become the statistics of a :class:`outcrop.numerics.SeriesAccumulator`."""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from outcrop.numerics.gram_statistics import GroupSums
from outcrop.numerics.products import ROUNDING, CentredGram

GROUP_BYTES = 1 << 29
"""Most bytes that the sums of all checkpoints over groups of batches take, as long as ten groups remain."""

_UNKNOWN = np.iinfo(np.int64).min
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
    """Sums of HSIC within checkpoints and with the last one, and their exact merging.

    The Gram matrices of each layer of each checkpoint are held in units of a fixed power of two, that of its first
    batch: nothing overflows, nothing is rounded, and the ratio does not notice.
    """

    def __init__(self, steps: int, layers: int, *, group_limit: int) -> None:
        fitting = GROUP_BYTES // (16 * steps * layers**2)
        self._limit = max(2, min(group_limit, max(10, fitting)))
        self._exponent = np.full((steps, layers), _UNKNOWN)
        self._epsilon = np.zeros((steps, layers))
        self._variance_share = np.zeros((steps, layers))
        self._size = np.zeros((steps, layers))
        self._non_finite = np.zeros((steps, layers), dtype=np.int64)
        self._share = np.zeros((steps, layers))
        self._share_weight = np.zeros((steps, layers))
        # Of the last checkpoint both maps are one.
        self._hsic = [np.zeros((2 if step < steps - 1 else 1, layers, layers)) for step in range(steps)]
        self._groups = [GroupSums(self._limit) for _ in range(steps)]

    def note(self, step: int, row: int, found: CentredGram) -> float:
        """Take note of one layer's matrix in one batch; return the factor that brings it to the layer's units."""
        at = step, row
        samples = len(found.gram)
        self._non_finite[at] += found.non_finite
        self._epsilon[at] = max(self._epsilon[at], found.epsilon)
        self._variance_share[at] = max(self._variance_share[at], found.variance_share)
        if not found.trace:
            return 0.0
        if self._exponent[at] == _UNKNOWN:
            self._exponent[at] = found.exponent + math.frexp(found.trace / samples)[1]
        scale = math.ldexp(1.0, int(found.exponent - self._exponent[at]))
        self._size[at] += samples * (samples - 3) * (scale * found.trace / samples) ** 2
        return scale

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
        known = (self._exponent != _UNKNOWN) & (other._exponent != _UNKNOWN)
        factor = np.ldexp(1.0, np.where(known, other._exponent - self._exponent, 0))
        self._exponent = np.where(self._exponent == _UNKNOWN, other._exponent, self._exponent)
        self._epsilon = np.maximum(self._epsilon, other._epsilon)
        self._variance_share = np.maximum(self._variance_share, other._variance_share)
        self._size += other._size * factor**2
        for name in ("_non_finite", "_share", "_share_weight"):
            getattr(self, name)[...] += getattr(other, name)
        for step, hsic in enumerate(other._hsic):
            units = np.stack([np.outer(factor[step], factor[step]), np.outer(factor[step], factor[-1])])[: len(hsic)]
            self._hsic[step] += hsic * units
            groups = other._groups[step].stacked()
            if len(groups):
                self._groups[step].merge(groups * units, other._groups[step].batches)

    def statistics(self, *, sample_count: int, skipped_samples: int, batch_count: int) -> SeriesStatistics:
        """Return the statistics of all checkpoints."""
        own = np.stack([np.diag(hsic[_WITHIN]) for hsic in self._hsic])
        constant = self._variance_share <= (2 * self._epsilon) ** 2
        structureless = own <= (ROUNDING * self._epsilon) ** 2 * self._size
        degenerate = constant | structureless | (self._non_finite > 0)
        groups = [sums.stacked() for sums in self._groups]
        own_groups = np.stack([np.diagonal(group[:, _WITHIN], axis1=1, axis2=2) for group in groups])
        last, last_groups, out_last = own[-1], own_groups[-1], degenerate[-1]
        maps: dict[str, list[NDArray[np.float64]]] = {"within": [], "cross": [], "error": [], "error_cross": []}
        for hsic, mine, group, mine_group, out in zip(self._hsic, own, groups, own_groups, degenerate, strict=True):
            within = _masked(_ratio(hsic[_WITHIN], mine, mine), out, out)
            error = _masked(_jackknife(group[:, _WITHIN], mine_group, mine_group), out, out)
            maps["within"].append(within)
            maps["error"].append(error)
            if len(hsic) == 1:
                maps["cross"].append(within)
                maps["error_cross"].append(error)
            else:
                maps["cross"].append(_masked(_ratio(hsic[_CROSS], mine, last), out, out_last))
                maps["error_cross"].append(
                    _masked(_jackknife(group[:, _CROSS], mine_group, last_groups), out, out_last)
                )
        with np.errstate(invalid="ignore", divide="ignore"):
            share = self._share / self._share_weight
        return SeriesStatistics(
            similarity=np.stack(maps["within"]),
            similarity_to_last=np.stack(maps["cross"]),
            standard_error=np.stack(maps["error"]),
            standard_error_to_last=np.stack(maps["error_cross"]),
            pc_share=np.where(degenerate, np.nan, share),
            degenerate=degenerate,
            non_finite_count=self._non_finite.copy(),
            sample_count=sample_count,
            skipped_samples=skipped_samples,
            batch_count=batch_count,
        )


def _ratio(hsic: NDArray[np.float64], own_a: NDArray[np.float64], own_b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return CKA ``H_ab / sqrt(H_aa H_bb)`` of two lists of layers, NaN where a layer's own HSIC is not positive."""
    norm_a, norm_b = (np.sqrt(np.where(own > 0, own, np.nan)) for own in (own_a, own_b))
    return np.asarray(hsic / norm_a[:, None] / norm_b[None, :], dtype=np.float64)


def _jackknife(
    groups: NDArray[np.float64], own_a: NDArray[np.float64], own_b: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the standard error of CKA by leaving out one group of batches at a time (Efron and Stein 1981).

    Args:
        groups: (group, layer_a, layer_b), summed HSIC.
        own_a: (group, layer_a), each layer's own.
        own_b: (group, layer_b).
    """
    count = len(groups)
    if count < 2:
        return np.full(groups.shape[1:], np.nan)
    total, total_a, total_b = groups.sum(axis=0), own_a.sum(axis=0), own_b.sum(axis=0)
    left = [_ratio(total - part, total_a - a, total_b - b) for part, a, b in zip(groups, own_a, own_b, strict=True)]
    mean = sum(left) / count
    return np.asarray(np.sqrt((count - 1) / count * sum((one - mean) ** 2 for one in left)), dtype=np.float64)


def _masked(values: NDArray[np.float64], rows: NDArray[np.bool_], columns: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return a map with NaN in the given rows and columns."""
    values[rows] = np.nan
    values[:, columns] = np.nan
    return values
