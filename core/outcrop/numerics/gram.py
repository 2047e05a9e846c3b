"""CKA between all layers of all models in one pass, with what their first principal components do to it."""

from typing import Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from outcrop.capture.accumulator import Accumulator
from outcrop.errors import AnalysisError, ParameterError
from outcrop.models.model import Layer
from outcrop.numerics.gram_statistics import GramStatistics
from outcrop.numerics.gram_totals import GramTotals
from outcrop.numerics.hsic import LEAST_SAMPLES
from outcrop.numerics.packed import PackedGrams
from outcrop.numerics.products import centred_gram

_Key = tuple[str, str]


class GramAccumulator(Accumulator):
    """Accumulates minibatch CKA (HSIC1, linear kernel) of all layers with all layers, of one or more models.

    For every group and layer: the Gram matrix of the flattened features (float32, or float64 for float64
    features; centred first where an offset would cost digits), U-centred in float64. From those, HSIC of all pairs of
    layers; sums over groups, each weighted by n (n - 3); one ratio at the end (arXiv 2010.15327, equation 2).
    The principal components come from the same Gram matrices (arXiv 2202.07184, section 4 and appendix C).

    Nothing of size (feature, feature) is formed. Cost per group: ``3/4 n^2`` times all features, and ``n^2 / 2`` for
    every two layers. Memory: ``n (n - 1) / 2`` float64 for each layer, twice with principal components.

    A layer with values that are not finite is counted, reported and left out; it does not touch the others.
    """

    group_size: int

    def __init__(
        self, *, group_size: int = 256, passes: int = 1, principal_component: bool = True, group_limit: int = 40
    ) -> None:
        """Prepare for the first pass.

        Args:
            group_size: Samples of a batch, the n of HSIC1.
            passes: Passes over the samples, each expected in another order.
            principal_component: Whether to follow the first principal component too.
            group_limit: Most groups of batches kept for the error and the bootstrap; fewer for very many layers.

        Raises:
            ParameterError: A batch of fewer than 4 samples, or no pass.
        """
        if group_size < LEAST_SAMPLES:
            raise ParameterError(f"group_size must be at least {LEAST_SAMPLES}, which HSIC1 needs; got {group_size}.")
        if passes < 1:
            raise ParameterError(f"passes must be at least 1; got {passes}.")
        self.group_size = group_size
        self.passes = passes
        self.principal_component = principal_component
        self.group_limit = group_limit
        self._pass = 0
        self._rows: dict[_Key, int] = {}
        self._layers: list[tuple[str, Layer]] = []
        self._totals: GramTotals | None = None
        self._packed: PackedGrams | None = None
        self._samples: NDArray[np.int64] | None = None
        self._seen: list[int] = []
        self._used = self._skipped = self._batches = 0

    def begin_pass(self, index: int) -> None:
        """Prepare for pass ``index`` over the samples, from 0."""
        self._pass = index

    def needs_pass(self) -> bool:
        """Return whether another pass over the samples is wanted."""
        return self._pass + 1 < self.passes

    def update(self, model: str, layer: Layer, sample_index: NDArray[np.int64], values: Tensor) -> None:
        """Take the values (sample, ...) of one layer for one group.

        Raises:
            AnalysisError: Values and samples do not fit each other, or the layers change from group to group.
        """
        self._check_samples(model, layer, sample_index, values)
        row = self._row(model, layer)
        self._seen.append(row)
        if len(sample_index) < LEAST_SAMPLES:
            return
        if self._totals is None or len(self._totals.feature_count) < len(self._layers):
            self._totals = GramTotals.grown(self._totals, len(self._layers), principal=self.principal_component)
        self._totals.feature_count[row] = values.numel() // len(values)
        found = centred_gram(values)
        scale = self._totals.note(row, found)
        if self._packed is None or self._packed.samples != len(sample_index):
            self._packed = PackedGrams(
                len(sample_index), found.gram.device, principal_component=self.principal_component
            )
        self._packed.add(found.gram, scale)

    def end_batch(self) -> None:
        """Add the group to the sums.

        Raises:
            AnalysisError: A layer that earlier groups had is missing.
        """
        if self._samples is None:
            return
        missing = set(range(len(self._layers))) - set(self._seen)
        if missing:
            model, layer = self._layers[min(missing)]
            raise AnalysisError(
                f"Layer {layer.name!r} of model {model!r} gave values for earlier samples and none for the last group; "
                "CKA needs every layer for every sample."
            )
        if len(self._samples) < LEAST_SAMPLES:
            self._skipped += len(self._samples)
        elif self._packed is not None and self._totals is not None:
            self._totals.add(
                self._packed.finish(),
                np.asarray(self._seen),
                samples=len(self._samples),
                first_pass=self._pass == 0,
                group_limit=self._group_limit(),
            )
            self._used += len(self._samples)
            self._batches += 1
        self._samples, self._seen = None, []

    def merge(self, other: Self) -> None:
        """Add what another accumulator of the same settings and layers has seen of other samples.

        Raises:
            AnalysisError: Settings or layers differ.
        """
        mine, theirs = self._settings(), other._settings()
        if mine != theirs:
            raise AnalysisError(f"Only accumulators of the same settings can be merged; got {mine} and {theirs}.")
        if not other._layers:
            return
        if not self._layers:
            self._rows, self._layers = dict(other._rows), list(other._layers)
        if self._rows.keys() != other._rows.keys():
            model, name = min(self._rows.keys() ^ other._rows.keys())
            raise AnalysisError(
                "Only accumulators of the same layers can be merged; "
                f"one of them lacks layer {name!r} of model {model!r}."
            )
        if other._totals is not None:
            if self._totals is None:
                self._totals = GramTotals.grown(None, len(self._layers), principal=self.principal_component)
            order = np.asarray([other._rows[key] for key in self._rows])
            self._totals.merge(other._totals, order, group_limit=self._group_limit())
        self._used += other._used
        self._skipped += other._skipped
        self._batches += other._batches

    def finish(self) -> GramStatistics:
        """Return the statistics of all layers.

        Raises:
            AnalysisError: No group had the 4 samples that HSIC1 needs.
        """
        if self._totals is None or not self._batches:
            raise AnalysisError(
                f"CKA needs at least {LEAST_SAMPLES} samples in a batch; got {self._skipped} in all. Give more data."
            )
        models = list(dict.fromkeys(model for model, _ in self._layers))
        order = sorted(
            range(len(self._layers)),
            key=lambda row: (models.index(self._layers[row][0]), self._layers[row][1].index),
        )
        return self._totals.statistics(
            np.asarray(order),
            tuple(self._layers[row] for row in order),
            sample_count=self._used,
            skipped_samples=self._skipped,
            batch_count=self._batches,
        )

    def _settings(self) -> dict[str, int | bool]:
        return {
            "group_size": self.group_size,
            "passes": self.passes,
            "principal_component": self.principal_component,
        }

    def _group_limit(self) -> int:
        """Return the most groups to keep: of 576 layers, forty take 106 MB; of thousands, fewer are kept."""
        return max(10, min(self.group_limit, (1 << 28) // (8 * len(self._layers) ** 2)))

    def _check_samples(self, model: str, layer: Layer, sample_index: NDArray[np.int64], values: Tensor) -> None:
        if values.ndim == 0 or len(values) != len(sample_index):
            rows = "a single number" if values.ndim == 0 else f"{len(values)} rows"
            raise AnalysisError(
                f"Layer {layer.name!r} of model {model!r} gives {rows} for {len(sample_index)} samples; "
                "its first dimension must be the sample."
            )
        if self._samples is None:
            self._samples = sample_index.copy()
        elif sample_index is not self._samples and not np.array_equal(sample_index, self._samples):
            raise AnalysisError(
                f"Layer {layer.name!r} of model {model!r} comes with other samples than the layers before it; "
                "CKA compares representations of the same samples."
            )

    def _row(self, model: str, layer: Layer) -> int:
        key = (model, layer.name)
        row = self._rows.get(key)
        if row is None:
            if self._used or self._skipped:
                raise AnalysisError(
                    f"Layer {layer.name!r} of model {model!r} gave no values for earlier samples and does now; "
                    "CKA needs every layer for every sample."
                )
            row = self._rows[key] = len(self._layers)
            self._layers.append((model, layer))
        elif row in self._seen:
            raise AnalysisError(f"Layer {layer.name!r} of model {model!r} came twice for the same samples.")
        return row
