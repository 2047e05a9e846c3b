"""What streamed Gram matrices tell about layers: similarity, principal components, degeneracy."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from outcrop.models.model import Layer


class GroupSums:
    """Sums over consecutive batches, in at most ``limit`` groups, however many batches come.

    When all groups are taken, neighbours are added to each other and every new group takes twice as many
    batches. The sum over all groups is the sum over all batches.

    Attributes:
        limit: Most groups kept.
        batches_per_group: Batches that a new group takes.
    """

    def __init__(self, limit: int = 40) -> None:
        self.limit = max(2, limit)
        self.batches_per_group = 1
        self._groups: list[np.ndarray] = []
        self._open = 0

    def add(self, value: Float[np.ndarray, "layer layer"]) -> None:
        """Add what one batch gives."""
        if self._open:
            self._groups[-1] += value
        else:
            if len(self._groups) >= self.limit:
                self._pair()
            self._groups.append(value.copy())
        self._open = (self._open + 1) % self.batches_per_group

    def merge(self, groups: Float[np.ndarray, "group layer layer"], batches_per_group: int) -> None:
        """Append the groups of others' batches."""
        self._groups.extend(group.copy() for group in groups)
        self.batches_per_group = max(self.batches_per_group, batches_per_group)
        self._open = 0
        while len(self._groups) > self.limit:
            self._pair()

    def stacked(self) -> Float[np.ndarray, "group layer layer"]:
        """Return all groups."""
        return np.stack(self._groups) if self._groups else np.zeros((0, 0, 0))

    def _pair(self) -> None:
        pairs = [self._groups[start : start + 2] for start in range(0, len(self._groups), 2)]
        self._groups = [pair[0] + pair[1] if len(pair) == 2 else pair[0] for pair in pairs]
        self.batches_per_group *= 2


@dataclass(frozen=True)
class GramStatistics:
    """Similarity of all layers of all models with one another, with its uncertainty.

    Layers are in topological order, one model after the other. Values that are not defined are NaN.

    Attributes:
        layers: (model, layer) of every row.
        similarity: Minibatch CKA: ratio of means of HSIC1 (arXiv 2010.15327, equation 2). Not clamped.
        standard_error: Of ``similarity``, by jackknife over groups of batches of the first pass (which share no
            sample, so that further passes never make the error look smaller than the sample is).
        similarity_without_pc1: The same after each batch's first principal component is removed from its features
            (arXiv 2202.07184, appendix C); None where not asked for.
        pc_alignment: Mean over batches of the squared cosine between first principal components; None as above.
        pc_share: Mean over batches of the first principal component's share of variance; None as above.
        degenerate: Layers without variance or with values that are not finite; their rows are NaN.
        non_finite_count: Values seen that are NaN or infinite.
        feature_count: Features of one sample.
        groups: Summed HSIC1, times n (n - 3), of each group of batches of the first pass, for the bootstrap.
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
    sample_count: int
    skipped_samples: int
    batch_count: int
