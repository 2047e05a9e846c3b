"""Similarity of layers on many subsets of the samples at once: what is left of it when samples are taken away."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from jaxtyping import Bool
from numpy.typing import NDArray
from torch import Tensor

from outcrop.capture.accumulator import ReducingAccumulator
from outcrop.errors import AnalysisError, ParameterError
from outcrop.models.model import Layer
from outcrop.numerics.dominance.nested import LayerSubsets, Subsets, subset_sums
from outcrop.numerics.dominance.removal_totals import RemovalStatistics, RemovalTotals
from outcrop.numerics.dominance.subset_components import subset_components, subset_traces
from outcrop.numerics.kernels.hsic import LEAST_SAMPLES
from outcrop.numerics.kernels.products import CentredGram
from outcrop.numerics.stream.kernel_grams import LayerKernels
from outcrop.numerics.stream.layer_rows import LayerRows, check_values
from outcrop.numerics.stream.repeats import Repeats


@dataclass(frozen=True)
class _Reduced:
    """A layer of one group.

    Attributes:
        found: What its Gram matrix tells of all samples of the group.
        layer: The matrix on the subsets.
        traces: (subset,): summed squared distance of the samples from their mean.
        mean_squares: (subset,): mean squared distance of the samples from the mean of the group.
        subsets: Of the group.
    """

    found: CentredGram
    layer: LayerSubsets
    traces: NDArray[np.float64]
    mean_squares: NDArray[np.float64]
    subsets: Subsets


@dataclass
class _Model:
    """What is known of one model.

    Attributes:
        masks: Different masks of samples kept (mask, sample position).
        of_mask: For each mask given, its place among these.
        totals: None before the first group has ended.
        subsets: Of the groups under way, by their samples, as all layers of a group share them.
        group: Layers of the present group by row.
    """

    masks: NDArray[np.bool_]
    of_mask: NDArray[np.int64]
    totals: RemovalTotals | None
    subsets: dict[bytes, Subsets]
    group: dict[int, _Reduced]


class RemovalAccumulator(ReducingAccumulator):
    """Accumulates minibatch CKA of each model's layers on the samples that every one of many masks keeps, in one pass.

    For each mask, what :class:`outcrop.numerics.GramAccumulator` gives of the kept samples of every batch: similarity
    of all layers of a model with one another, the same without their first principal components, and the share of
    variance of these (arXiv 2202.07184, section 4: dominant datapoints are dropped, and the map is computed again). One
    Gram matrix for each layer and batch does for all masks: a mask's is a part of it, centred anew. Batches of fewer
    than 4 kept samples are not used for a mask. Masks that keep the same samples, of all or of a batch, are computed
    once.

    Cost beside the Gram matrices, for each batch of n samples, L layers of a model and M different masks, which are cut
    into chains of nested ones: ``n^2 L^2 / 2`` for each chain, ``n^2 L^2`` and some ``16 n^2 L`` for each mask.
    Memory: ``8 n^2`` bytes for each layer and ``16 n`` for each layer and mask, ``32 L^2`` for each mask, and up to
    128 MiB for the groups of batches of each model.

    A layer with values that are not finite, in samples kept or not, is counted, reported and left out; it does not
    touch the others.
    """

    group_size: int

    def __init__(
        self,
        masks: Bool[np.ndarray, "mask sample"] | Mapping[str, Bool[np.ndarray, "mask sample"]],
        *,
        group_size: int = 256,
        layers: Mapping[str, Collection[str]] | None = None,
    ) -> None:
        """Prepare for the pass.

        Args:
            masks: Whether each sample, by its position in the data, is kept; for all models, or by model name.
            group_size: Samples of a batch.
            layers: Names of the layers to compare, by model; others are passed over. All by default.

        Raises:
            ParameterError: No masks, masks that are not rows of truth values, or a batch of fewer than 4 samples.
        """
        if group_size < LEAST_SAMPLES:
            raise ParameterError(f"group_size must be at least {LEAST_SAMPLES}, which HSIC1 needs; got {group_size}.")
        self.group_size = group_size
        self._given = masks
        self._chosen = None if layers is None else {(model, name) for model, names in layers.items() for name in names}
        self._models: dict[str, _Model] = {}
        for name, one in masks.items() if isinstance(masks, Mapping) else [("", masks)]:
            whose = f" of model {name!r}" if name else ""
            if one.dtype != np.bool_ or one.ndim != 2 or not one.size:
                raise ParameterError(
                    f"The masks{whose} must be truth values (mask, sample), at least one of each; got {one.dtype} of "
                    f"shape {one.shape}."
                )
        self._rows = LayerRows()
        self._kernels = LayerKernels("linear", 1.0, None)
        self._repeats: Repeats[_Reduced] = Repeats()
        self._batches = 0

    def reduce(self, model: str, layer: Layer, sample_index: NDArray[np.int64], values: Tensor) -> _Reduced | None:
        """Return the Gram matrix of the values (sample, ...) of one layer for one group, and what masks make of it.

        Raises:
            AnalysisError: Values and samples do not fit each other, or the masks are of other models or fewer samples.
        """
        if not self._compares(model, layer):
            return None
        check_values(model, layer, sample_index, values)
        subsets = self._subsets(model, sample_index)
        if not len(subsets.kept):
            return None
        values = values.detach()
        earlier = self._repeats.find(model, values)
        if earlier is None:
            earlier = _reduced(self._kernels.gram((model, layer.name), values), subsets)
            self._repeats.remember(model, sample_index, values, earlier)
        return earlier

    def reduced_bytes(self, _layer: Layer, samples: int) -> int:
        """Return the size of a Gram matrix and of the components on all subsets."""
        given = self._given.values() if isinstance(self._given, Mapping) else [self._given]
        return 8 * samples * (samples + 2 * max(map(len, given), default=1))

    def take(self, model: str, layer: Layer, sample_index: NDArray[np.int64], reduced: _Reduced | None) -> None:
        """Add a layer to the group.

        Raises:
            AnalysisError: The layers change from group to group.
        """
        if not self._compares(model, layer):
            return
        row = self._rows.take(model, layer, sample_index)
        if reduced is not None:
            self._models[model].group[row] = reduced

    def end_batch(self) -> None:
        """Add the group to the sums.

        Raises:
            AnalysisError: A layer that earlier groups had is missing.
        """
        if self._rows.samples is None:
            return
        samples = self._rows.samples
        self._repeats.forget(samples)
        self._rows.end_group()
        self._batches += 1
        for name, model in self._models.items():
            rows = self._rows_of(name)
            if not rows:
                continue
            if model.totals is None:
                model.totals = RemovalTotals(len(model.masks), len(rows))
            model.subsets.pop(samples.tobytes(), None)
            group, model.group = model.group, {}
            kept = model.masks[:, samples]
            few = kept.sum(axis=1) < LEAST_SAMPLES
            model.totals.skipped[few] += kept[few].sum(axis=1)
            if group:
                _add(model.totals, [group[row] for row in rows])

    def merge(self, other: Self) -> None:
        """Add what another accumulator of the same masks and layers has seen of other samples.

        Raises:
            AnalysisError: Settings, masks or layers differ.
        """
        same = self.group_size == other.group_size and self._chosen == other._chosen
        if not same or not _same(self._given, other._given):
            raise AnalysisError("Only accumulators of the same group size, masks and layers merge; theirs differ.")
        if not other._rows.layers:
            return
        order = self._rows.merge(other._rows)
        self._kernels.merge(other._kernels)
        self._batches += other._batches
        for name, theirs in other._models.items():
            mine = self._model(name)
            if theirs.totals is None:
                continue
            if mine.totals is None:
                mine.totals = RemovalTotals(len(mine.masks), len(self._rows_of(name)))
            place = {row: position for position, row in enumerate(other._rows_of(name))}
            mine.totals.merge(theirs.totals, np.array([place[order[row]] for row in self._rows_of(name)]))

    def finish(self) -> dict[str, RemovalStatistics]:
        """Return the statistics of every model by its name.

        Raises:
            AnalysisError: No batch had 4 samples that a mask keeps.
        """
        found = {}
        for name in dict.fromkeys(name for name, _ in self._rows.layers):
            model = self._models[name]
            if model.totals is None or not model.totals.used.any():
                continue
            topological = self._rows.topological().tolist()
            own = self._rows_of(name)
            rows = [row for row in topological if row in own]
            layers = tuple(self._rows.layers[row][1] for row in rows)
            place = np.array([own.index(row) for row in rows])
            found[name] = model.totals.statistics(place, layers, model.of_mask, self._batches)
        if not found:
            raise AnalysisError(
                f"CKA needs at least {LEAST_SAMPLES} samples in a batch; no mask keeps as many of any. Keep more."
            )
        return found

    def _compares(self, model: str, layer: Layer) -> bool:
        return self._chosen is None or (model, layer.name) in self._chosen

    def _model(self, name: str) -> _Model:
        if name not in self._models:
            masks = self._given.get(name) if isinstance(self._given, Mapping) else self._given
            if masks is None:
                raise AnalysisError(
                    f"There are no masks for model {name!r}; give some for every model that is streamed."
                )
            different, place = np.unique(masks, axis=0, return_inverse=True)
            self._models.setdefault(name, _Model(different, place.reshape(-1), None, {}, {}))  # by any thread
        return self._models[name]

    def _subsets(self, name: str, sample_index: NDArray[np.int64]) -> Subsets:
        """Return the subsets that a model's masks make of a group."""
        model, key = self._model(name), sample_index.tobytes()
        found = model.subsets.get(key)
        if found is None:
            if len(sample_index) and sample_index.max() >= model.masks.shape[1]:
                raise AnalysisError(
                    f"The masks of model {name!r} are of {model.masks.shape[1]} samples, and sample "
                    f"{sample_index.max()} came; give masks of all samples of the data, by position."
                )
            found = model.subsets.setdefault(key, Subsets.of(model.masks[:, sample_index]))
        return found

    def _rows_of(self, name: str) -> list[int]:
        return [row for row, (model, _) in enumerate(self._rows.layers) if model == name]


def _reduced(found: CentredGram, subsets: Subsets) -> _Reduced:
    gram = found.gram
    kept = torch.from_numpy(subsets.kept).to(gram)
    counts = kept.sum(1)
    mean_squares = kept @ gram.diagonal() / counts
    traces = subset_traces(gram, kept)
    # Samples that are kept lie far from the mean of a batch that far-off samples have moved, and their own differences
    # would cancel. About the mean of the subset that varies least, no subset lies further off than it is wide.
    centre = kept[traces.argmin()]
    means = gram @ (centre / centre.sum())
    means -= means @ (centre / centre.sum()) / 2
    gram = gram - means.unsqueeze(1) - means.unsqueeze(0)
    sizes, vectors = subset_components(gram, kept)
    sums = kept * (kept @ gram - gram.diagonal())
    return _Reduced(
        replace(found, gram=gram),
        LayerSubsets(gram, sums, sizes, vectors),
        subset_traces(gram, kept).cpu().numpy(),
        mean_squares.cpu().numpy(),
        subsets,
    )


def _add(totals: RemovalTotals, group: list[_Reduced]) -> None:
    """Add the layers of one group, by row."""
    subsets = group[0].subsets
    device = group[0].layer.gram.device
    scale = np.array(
        [totals.note(row, one.found, subsets, one.traces, one.mean_squares) for row, one in enumerate(group)]
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = np.stack([one.layer.sizes.cpu().numpy() / one.traces for one in group], axis=1)
    totals.add(subset_sums([one.layer.to(device) for one in group], subsets), scale, shares, subsets)


def _same(
    first: NDArray[np.bool_] | Mapping[str, NDArray[np.bool_]],
    second: NDArray[np.bool_] | Mapping[str, NDArray[np.bool_]],
) -> bool:
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return first.keys() == second.keys() and all(np.array_equal(one, second[name]) for name, one in first.items())
    return not isinstance(first, Mapping) and not isinstance(second, Mapping) and np.array_equal(first, second)
