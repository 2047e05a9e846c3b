"""What streamed Gram matrices tell about layers: similarity, principal components, degeneracy."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from outcrop.models.model import Layer
from outcrop.numerics.kernels.gram_matrix import Kernel

ComponentScope = Literal["batch", "all"]
"""What the first principal component that is removed is of: each batch's samples, or all samples."""


class GroupSums:
    """Sums over consecutive batches, in at most ``limit`` groups, however many batches come.

    When all groups are taken, neighbours are added to each other and every new group takes twice as many
    batches. All groups but the last hold equally many batches, as the jackknife asks; each merging can leave one
    more that holds fewer. The sum over all groups is the sum over all batches.

    Attributes:
        limit: Most groups kept.
        batches_per_group: Batches that a new group takes.
    """

    def __init__(self, limit: int = 40) -> None:
        self.limit = max(2, limit)
        self.batches_per_group = 1
        self._groups: list[np.ndarray] = []
        self._batches: list[int] = []

    @property
    def batches(self) -> tuple[int, ...]:
        """Return how many batches each group holds."""
        return tuple(self._batches)

    @property
    def sums(self) -> tuple[NDArray[np.float64], ...]:
        """Return the sums of all groups; they are not to be altered."""
        return tuple(self._groups)

    def add(self, value: Float[np.ndarray, "*shape"]) -> None:
        """Add what one batch gives."""
        while self._full() and len(self._groups) >= self.limit:
            self._pair()
        if self._full():
            self._groups.append(value.copy())
            self._batches.append(1)
        else:
            self._groups[-1] += value
            self._batches[-1] += 1

    def merge(self, groups: Iterable[Float[np.ndarray, "*shape"]], batches: Sequence[int]) -> None:
        """Take the groups of others' batches.

        Args:
            groups: Their sums.
            batches: How many batches each holds.
        """
        theirs = GroupSums(self.limit)
        theirs._groups, theirs._batches = [group.copy() for group in groups], list(batches)
        theirs.batches_per_group = 1 << (max(batches, default=1) - 1).bit_length()
        while theirs.batches_per_group < self.batches_per_group:
            theirs._pair()
        while self.batches_per_group < theirs.batches_per_group:
            self._pair()
        both = [*zip(self._batches, self._groups, strict=True), *zip(theirs._batches, theirs._groups, strict=True)]
        # What holds fewer batches than the others goes last, where the next batches fill it up.
        both.sort(key=lambda group: group[0], reverse=True)
        self._batches, self._groups = [count for count, _ in both], [group for _, group in both]
        while len(self._groups) > 1 and self._batches[-2] + self._batches[-1] <= self.batches_per_group:
            self._join(len(self._groups) - 2)
        while len(self._groups) > self.limit:
            self._pair()

    def stacked(self) -> Float[np.ndarray, "group layer layer"]:
        """Return all groups."""
        return np.stack(self._groups) if self._groups else np.zeros((0, 0, 0))

    def _full(self) -> bool:
        """Return whether the last group takes no more batches."""
        return not self._batches or self._batches[-1] >= self.batches_per_group

    def _pair(self) -> None:
        for start in range(len(self._groups) // 2):
            self._join(start)
        self.batches_per_group *= 2

    def _join(self, position: int) -> None:
        self._groups[position] += self._groups.pop(position + 1)
        self._batches[position] += self._batches.pop(position + 1)


@dataclass(frozen=True)
class GramStatistics:
    """Similarity of all layers of all models with one another, with its uncertainty.

    Layers are in topological order, one model after the other. Values that are not defined are NaN.

    Attributes:
        layers: (model, layer) of every row.
        similarity: Minibatch CKA: ratio of means of HSIC1 (arXiv 2010.15327, equation 2). Not clamped.
        standard_error: Of ``similarity``, by jackknife over groups of batches of the first pass (which share no
            sample, so that further passes never make the error look smaller than the sample is).
        similarity_without_pc1: The same after the first principal component is removed from the features (arXiv
            2202.07184, appendix C): each batch's own, or what projections were given for, see ``component_scope``; NaN
            where that leaves rounding only; None where not asked for.
        pc_alignment: Mean over batches of the squared cosine between the components that are removed, over the batch's
            samples; None as above.
        pc_share: Mean over batches of that component's share of variance, which small batches overstate where it is
            their own; None as above.
        degenerate: Layers without variance, without structure (all samples equally far from one another), with nothing
            left beside the input where that is removed, or with values that are not finite; their rows are NaN.
        non_finite_count: Values seen that are NaN or infinite.
        feature_count: Features of one sample.
        groups: Summed HSIC1, times n (n - 3), of each group of batches of the first pass, for the bootstrap.
        groups_without_pc1: The same of what is left without the first principal component, of the same batches, for
            the bootstrap of what its removal does; None as above.
        groups_pc_share: Summed ``pc_share`` times samples of the same groups of batches, for the bootstrap of the
            share: divided by ``groups_pc_samples``, each group's mean; None as above.
        groups_pc_samples: Samples of each group's batches in which the layer has variance; None as above.
        kernel: Of all layers: ``linear``, ``rbf`` or ``cosine``.
        bandwidths: Standard deviation of the ``rbf`` kernel, in units of the features; NaN for the other kernels.
        component_scope: Whether the component that is removed is each batch's own, or one of all samples.
        sample_count: Samples used, over all passes.
        skipped_samples: Samples in groups of fewer than 4, over all passes; they are not used.
        batch_count: Batches used, over all passes.
    """

    layers: tuple[tuple[str, Layer], ...]
    similarity: Float[np.ndarray, "layer layer"]
    standard_error: Float[np.ndarray, "layer layer"]
    similarity_without_pc1: Float[np.ndarray, "layer layer"] | None
    pc_alignment: Float[np.ndarray, "layer layer"] | None
    pc_share: Float[np.ndarray, " layer"] | None
    degenerate: Bool[np.ndarray, " layer"]
    non_finite_count: Int[np.ndarray, " layer"]
    feature_count: Int[np.ndarray, " layer"]
    groups: Float[np.ndarray, "group layer layer"]
    groups_without_pc1: Float[np.ndarray, "group layer layer"] | None
    groups_pc_share: Float[np.ndarray, "group layer"] | None
    groups_pc_samples: Float[np.ndarray, "group layer"] | None
    kernel: Kernel
    bandwidths: Float[np.ndarray, " layer"]
    component_scope: ComponentScope
    sample_count: int
    skipped_samples: int
    batch_count: int
