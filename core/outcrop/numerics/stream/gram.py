"""CKA between all layers of all models in one pass, with what their first principal components do to it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from outcrop.capture.accumulator import ReducingAccumulator
from outcrop.errors import AnalysisError
from outcrop.models.model import Layer
from outcrop.numerics.kernels.gram_matrix import Kernel
from outcrop.numerics.kernels.hsic import LEAST_SAMPLES
from outcrop.numerics.kernels.products import CentredGram
from outcrop.numerics.stream.deconfounded import model_inputs
from outcrop.numerics.stream.gram_options import GramOptions, LayerKey
from outcrop.numerics.stream.gram_statistics import GramStatistics
from outcrop.numerics.stream.gram_totals import GramTotals
from outcrop.numerics.stream.kernel_grams import LayerKernels
from outcrop.numerics.stream.layer_rows import LayerRows, check_values
from outcrop.numerics.stream.packed import Component, PackedGrams
from outcrop.numerics.stream.repeats import Repeats


@dataclass(frozen=True)
class _Reduced:
    """A layer of one group.

    Attributes:
        key: Of the layer that its matrix was made from: itself, or one that it repeats.
        found: Its kernel matrix.
        feature_count: Of the layer.
    """

    key: LayerKey
    found: CentredGram
    feature_count: int


class GramAccumulator(ReducingAccumulator):
    """Accumulates minibatch CKA (HSIC1) of all layers with all layers, of one or more models, for one kernel.

    For every group and layer: the Gram matrix of the flattened features (float32, or float64 for float64
    features; centred first where an offset would cost digits), made into that of the kernel and U-centred in float64.
    From those, HSIC of all pairs of layers; sums over groups, each weighted by n (n - 3); one ratio at the end (arXiv
    2010.15327, equation 2). The principal components come from the same matrices (arXiv 2202.07184, section 4 and
    appendix C). With the input removed, they are those of the matrices before, and are removed before it.

    Nothing of size (feature, feature) is formed. Cost per group: ``3/4 n^2`` times all features, and ``n^2 / 2`` for
    every two layers. Memory: ``n (n - 1) / 2`` float64 for each layer, twice with principal components. A layer
    that repeats the one before it costs nothing.

    A layer with values that are not finite is counted, reported and left out; it does not touch the others.
    """

    group_size: int

    def __init__(
        self,
        *,
        group_size: int = 256,
        passes: int = 1,
        principal_component: bool = True,
        group_limit: int = 40,
        kernel: Kernel = "linear",
        bandwidth: float = 0.5,
        remove_input: bool = False,
        projections: Mapping[LayerKey, NDArray[np.float64]] | None = None,
        bandwidths: Mapping[LayerKey, float] | None = None,
    ) -> None:
        """Prepare for the first pass.

        Args:
            group_size: Samples of a batch, the n of HSIC1.
            passes: Passes over the samples, each expected in another order.
            principal_component: Whether to follow the first principal component too.
            group_limit: Most groups of batches kept for the error and the bootstrap; fewer for very many layers.
            kernel: Of all layers: ``linear``, ``rbf`` or ``cosine`` (samples as they are, divided by their norms), as
                in :func:`outcrop.numerics.gram_matrix`. Principal components are those of the double-centred matrix.
            bandwidth: Standard deviation of the ``rbf`` kernel, as a fraction of the root of the median squared
                distance between samples of the layer's first group (at most 2,048 of them); later groups take the same.
            remove_input: Deconfounded CKA (Cui et al. 2022, arXiv 2202.00095): in every group, the kernel matrix of the
                model's input is regressed (intercept and slope, entries off the diagonal) out of the kernel matrix of
                every other layer of the model. Negative eigenvalues are kept, so that the estimate stays unbiased.
            projections: By model and layer name, one number for each sample of the data (feature units, float64): its
                projection on one unit direction in feature space. That direction is then what is removed from the
                features, instead of each batch's own first principal component. Linear kernel only. NaN where the
                direction is not known.
            bandwidths: By model and layer name, the standard deviation of the ``rbf`` kernel in units of the features,
                instead of one found in the first group; for accumulators on parts of the data that are merged later.

        Raises:
            ParameterError: An option out of its range, or options that exclude each other.
        """
        self.options = GramOptions(
            group_size=group_size,
            passes=passes,
            principal_component=principal_component,
            group_limit=group_limit,
            kernel=kernel,
            bandwidth=bandwidth,
            remove_input=remove_input,
            projections=projections,
            bandwidths=bandwidths,
        )
        self.group_size = group_size
        self.passes = passes
        self.principal_component = principal_component
        self.group_limit = group_limit
        self._pass = 0
        self._rows = LayerRows()
        self._kernels = LayerKernels(kernel, bandwidth, bandwidths)
        self._component: Component = "none"
        if principal_component:
            self._component = "own" if projections is None else "given"
        self._totals: GramTotals | None = None
        self._packed: PackedGrams | None = None
        self._repeats: Repeats[_Reduced] = Repeats()
        # Row and place of the matrices of the present group, by the layers that they were made from.
        self._positions: dict[LayerKey, tuple[int, int]] = {}
        self._used = self._skipped = self._batches = 0

    def begin_pass(self, index: int) -> None:
        """Prepare for pass ``index`` over the samples, from 0."""
        self._pass = index

    def needs_pass(self) -> bool:
        """Return whether another pass over the samples is wanted."""
        return self._pass + 1 < self.passes

    def reduce(self, model: str, layer: Layer, sample_index: NDArray[np.int64], values: Tensor) -> "_Reduced | None":
        """Return the kernel matrix of the values (sample, ...) of one layer for one group; None for too few samples.

        Raises:
            AnalysisError: Values and samples do not fit each other.
        """
        check_values(model, layer, sample_index, values)
        if len(sample_index) < LEAST_SAMPLES:
            return None
        key, values = (model, layer.name), values.detach()
        features = values.numel() // len(values)
        earlier = self._repeats.find(model, values)
        if earlier is not None and self._kernels.agree(key, earlier.key):
            return replace(earlier, feature_count=features)
        reduced = _Reduced(key, self._kernels.gram(key, values), features)
        self._repeats.remember(model, sample_index, values, reduced)
        return reduced

    def reduced_bytes(self, _layer: Layer, samples: int) -> int:
        """Return the size of a kernel matrix."""
        return 8 * samples**2

    def take(self, model: str, layer: Layer, sample_index: NDArray[np.int64], reduced: "_Reduced | None") -> None:
        """Add a layer's kernel matrix to the group.

        Raises:
            AnalysisError: The layers change from group to group, or a layer has no projections where they are given.
        """
        row = self._rows.take(model, layer, sample_index)
        if reduced is None:
            return
        if self._totals is None or len(self._totals.feature_count) < len(self._rows.layers):
            self._totals = self._grown_totals()
        self._totals.feature_count[row] = reduced.feature_count
        if not self._repeat(row, reduced):
            self._positions[reduced.key] = row, self._add(row, reduced.found, sample_index)

    def _add(self, row: int, found: CentredGram, sample_index: NDArray[np.int64]) -> int:
        assert self._totals is not None
        samples = len(sample_index)
        scale = self._totals.notes.note(row, found, samples)
        if self._packed is None or self._packed.samples != samples:
            self._packed = PackedGrams(samples, found.gram.device, component=self._component)
        return self._packed.add(
            found.gram,
            scale,
            row_means=found.row_means if self.options.remove_input else None,
            projection=self._projection(row, sample_index, scale),
        )

    def _repeat(self, row: int, reduced: "_Reduced") -> bool:
        """Take the matrix of a layer of equal values, where one has been added; return whether that can be done."""
        assert self._totals is not None
        earlier = self._positions.get(reduced.key)
        if earlier is None or self._component == "given" or not self._totals.notes.share_unit(row, earlier[0]):
            return False
        assert self._packed is not None
        self._totals.notes.note(row, reduced.found, self._packed.samples)
        self._packed.repeat(earlier[1])
        return True

    def _projection(self, row: int, sample_index: NDArray[np.int64], scale: float) -> Tensor | None:
        """Return the projections of the group's samples on the direction that is removed, in the layer's units."""
        if self.options.projections is None:
            return None
        assert self._totals is not None
        model, layer = self._rows.layers[row]
        values = self.options.projections.get((model, layer.name))
        if values is None:
            raise AnalysisError(
                f"There are no projections of layer {layer.name!r} of model {model!r}; give those of all layers that "
                "are compared, or none."
            )
        last = int(sample_index.max())
        if len(values) <= last:
            raise AnalysisError(
                f"There are projections of {len(values)} samples of layer {layer.name!r} of model {model!r}, and none "
                f"of sample {last}; give those of all samples of the data, by position."
            )
        if not scale:
            return None
        return torch.from_numpy(self._totals.notes.in_units(row, np.asarray(values, dtype=np.float64)[sample_index]))

    def end_batch(self) -> None:
        """Add the group to the sums.

        Raises:
            AnalysisError: A layer that earlier groups had is missing, or an input that is to be removed.
        """
        if self._rows.samples is None:
            return
        samples, group = len(self._rows.samples), self._rows.group
        self._repeats.forget(self._rows.samples)
        self._rows.end_group()
        self._positions = {}
        if samples < LEAST_SAMPLES:
            self._skipped += samples
            return
        assert self._packed is not None
        assert self._totals is not None
        inputs = model_inputs([self._rows.layers[row] for row in group]) if self.options.remove_input else None
        self._totals.add(
            self._packed.finish(inputs),
            np.asarray(group),
            samples=samples,
            first_pass=self._pass == 0,
            group_limit=self._group_limit(),
        )
        self._used += samples
        self._batches += 1

    def merge(self, other: Self) -> None:
        """Add what another accumulator of the same settings and layers has seen of other samples.

        Raises:
            AnalysisError: Settings or layers differ.
        """
        mine, theirs = self.options.settings(), other.options.settings()
        if mine != theirs:
            raise AnalysisError(f"Only accumulators of the same settings can be merged; got {mine} and {theirs}.")
        if not self.options.same_projections(other.options):
            raise AnalysisError("Only accumulators that remove the same projections can be merged; theirs differ.")
        if not other._rows.layers:
            return
        order = self._rows.merge(other._rows)
        self._kernels.merge(other._kernels)
        if other._totals is not None:
            if self._totals is None:
                self._totals = self._grown_totals()
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
        order = self._rows.topological()
        layers = tuple(self._rows.layers[row] for row in order)
        return self._totals.statistics(
            order,
            layers,
            kernel=self.options.kernel,
            bandwidths=self._kernels.bandwidths((model, layer.name) for model, layer in layers),
            component_scope="batch" if self.options.projections is None else "all",
            sample_count=self._used,
            skipped_samples=self._skipped,
            batch_count=self._batches,
        )

    def _grown_totals(self) -> GramTotals:
        """Return totals that have a row for every layer."""
        return GramTotals.grown(
            self._totals, len(self._rows.layers), principal=self.principal_component, residual=self.options.remove_input
        )

    def _group_limit(self) -> int:
        """Return the most groups to keep: of 576 layers, forty take 106 MB; of thousands, fewer are kept."""
        fitting = (1 << 28) // (8 * len(self._rows.layers) ** 2)
        return max(2, min(self.group_limit, max(10, fitting)))
