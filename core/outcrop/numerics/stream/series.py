"""CKA within each checkpoint of a training, and of each checkpoint with the last one, in one pass."""

from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from outcrop.capture.accumulator import ReducingAccumulator
from outcrop.errors import AnalysisError, ParameterError
from outcrop.models.model import Layer
from outcrop.numerics.kernels.hsic import LEAST_SAMPLES
from outcrop.numerics.kernels.principal import leading_component
from outcrop.numerics.kernels.products import CentredGram, centred_gram, symmetric_product
from outcrop.numerics.stream.layer_rows import check_samples, check_values
from outcrop.numerics.stream.packed import CHUNK, u_centring_means
from outcrop.numerics.stream.series_totals import SeriesStatistics, SeriesTotals


class SeriesAccumulator(ReducingAccumulator):
    """Accumulates minibatch CKA (HSIC1, linear kernel; arXiv 2010.15327, equation 2) along a series of checkpoints.

    For N checkpoints of L layers: the (layer, layer) map within each, that of each with the last one, and the share of
    variance of the first principal component (arXiv 2202.07184, section 5). Other pairs of checkpoints are left
    out, so maps cost ``2 N`` products of L layers with L layers for each group instead of ``N^2``. Memory: the upper
    triangles of two checkpoints, ``L n (n - 1)`` float64, however many there are, and the sums.

    In every group the last checkpoint comes first, then the others in any order, one after the other.

    Args:
        models: Names of the checkpoints in the order of training.
        layers: Those of every checkpoint, as they come.
        group_size: Samples of a batch, the n of HSIC1.
        passes: Passes over the samples, each expected in another order.
        group_limit: Most groups of batches kept for the errors; fewer for many layers and checkpoints.

    Raises:
        ParameterError: A batch of fewer than 4 samples, no pass, no layer, no checkpoint, or two of one name.
    """

    group_size: int

    def __init__(
        self,
        models: Sequence[str],
        layers: Sequence[Layer],
        *,
        group_size: int = 256,
        passes: int = 1,
        group_limit: int = 40,
    ) -> None:
        if group_size < LEAST_SAMPLES:
            raise ParameterError(f"group_size must be at least {LEAST_SAMPLES}, which HSIC1 needs; got {group_size}.")
        if passes < 1:
            raise ParameterError(f"passes must be at least 1; got {passes}.")
        if not models or len(set(models)) < len(models):
            raise ParameterError(f"A series takes checkpoints of different names; got {', '.join(models) or 'none'}.")
        if not layers:
            raise ParameterError("A series compares layers; got none.")
        self.models = tuple(models)
        self.layers = tuple(layers)
        self.group_size = group_size
        self.passes = passes
        self._pass = 0
        self._totals = SeriesTotals(len(models), len(layers), group_limit=group_limit)
        self._last: _Packed | None = None
        self._current: _Packed | None = None
        self._samples: NDArray[np.int64] | None = None
        self._seen: list[str] = []
        self._row = len(layers)
        self._used = self._skipped = self._batches = 0

    def begin_pass(self, index: int) -> None:
        """Prepare for pass ``index`` over the samples, from 0."""
        self._pass = index

    def needs_pass(self) -> bool:
        """Return whether another pass over the samples is wanted."""
        return self._pass + 1 < self.passes

    def reduce(self, model: str, layer: Layer, sample_index: NDArray[np.int64], values: Tensor) -> CentredGram | None:
        """Return the Gram matrix of the values (sample, ...) of one layer for one group; None for too few samples.

        Raises:
            AnalysisError: Values and samples do not fit each other.
        """
        check_values(model, layer, sample_index, values)
        return None if len(sample_index) < LEAST_SAMPLES else centred_gram(values)

    def reduced_bytes(self, _layer: Layer, samples: int) -> int:
        """Return the size of a Gram matrix."""
        return 8 * samples**2

    def take(self, model: str, layer: Layer, sample_index: NDArray[np.int64], reduced: CentredGram | None) -> None:
        """Add a layer's Gram matrix to the group.

        Raises:
            AnalysisError: Checkpoints, layers or samples come otherwise than asked for.
        """
        if self._samples is None:
            self._samples = sample_index.copy()
        check_samples(model, layer, sample_index, self._samples)
        row = self._advance(model, layer)
        if reduced is None:
            return
        step = self.models.index(model)
        packed = self._packed(model == self.models[-1], len(sample_index), reduced.gram.device)
        packed.set(row, reduced.gram, self._totals.note(step, row, reduced))
        if row == len(self.layers) - 1:
            assert self._last is not None  # the last checkpoint came first
            cross = None if packed is self._last else packed.products_with(self._last)
            self._totals.add(
                step,
                packed.products(),
                cross,
                packed.shares.cpu().numpy(),
                samples=len(sample_index),
                first_pass=self._pass == 0,
            )

    def end_batch(self) -> None:
        """Take note that every checkpoint has seen the group.

        Raises:
            AnalysisError: One of them has not.
        """
        if self._samples is None:
            return
        missing = [name for name in self.models if name not in self._seen]
        if missing or self._row < len(self.layers):
            name = missing[0] if self._row == len(self.layers) else self._seen[-1]
            raise AnalysisError(f"Checkpoint {name!r} did not give all of its layers for the last group of samples.")
        if len(self._samples) < LEAST_SAMPLES:
            self._skipped += len(self._samples)
        else:
            self._used += len(self._samples)
            self._batches += 1
        self._samples, self._seen = None, []

    def merge(self, other: Self) -> None:
        """Add what another accumulator of the same series has seen of other samples.

        Raises:
            AnalysisError: Checkpoints, layers or settings differ.
        """
        if self._settings() != other._settings():
            raise AnalysisError(
                f"Only accumulators of the same series can be merged; got {self._settings()} and {other._settings()}."
            )
        self._totals.merge(other._totals)
        self._used += other._used
        self._skipped += other._skipped
        self._batches += other._batches

    def finish(self) -> SeriesStatistics:
        """Return the statistics of all checkpoints.

        Raises:
            AnalysisError: No group had the 4 samples that HSIC1 needs.
        """
        if not self._batches:
            raise AnalysisError(
                f"CKA needs at least {LEAST_SAMPLES} samples in a batch; got {self._skipped} in all. Give more data."
            )
        return self._totals.statistics(
            sample_count=self._used, skipped_samples=self._skipped, batch_count=self._batches
        )

    def _settings(self) -> dict[str, object]:
        names = [layer.name for layer in self.layers]
        return {"models": self.models, "layers": names, "group_size": self.group_size, "passes": self.passes}

    def _advance(self, model: str, layer: Layer) -> int:
        """Return the row of the layer that comes now, having checked that it is its turn."""
        if self._row == len(self.layers):
            fits = model == self.models[-1] if not self._seen else model in self.models and model not in self._seen
            if not fits:
                expected = repr(self.models[-1]) if not self._seen else "a checkpoint that has not come yet"
                raise AnalysisError(
                    f"Model {model!r} comes where {expected} is expected: in every group the last checkpoint is fed "
                    "first, then the others, each once."
                )
            self._seen.append(model)
            self._row = 0
        wanted = self.layers[self._row].name
        if model != self._seen[-1] or layer.name != wanted:
            raise AnalysisError(
                f"Layer {layer.name!r} of model {model!r} comes where layer {wanted!r} of {self._seen[-1]!r} is "
                "expected; every checkpoint must give the same layers in the same order."
            )
        self._row += 1
        return self._row - 1

    def _packed(self, last: bool, samples: int, device: torch.device) -> "_Packed":
        """Return room for the checkpoint at hand; two of them do for all."""
        room = self._last if last else self._current
        if room is None or room.samples != samples:
            room = _Packed(samples, len(self.layers), device)
            if last:
                self._last = room
            else:
                self._current = room
        return room


class _Packed:
    """U-centred Gram matrices of the layers of one checkpoint: upper triangles, as rows of a matrix.

    Their inner products are HSIC1 (arXiv 2010.15327, equation 3): a U-centred matrix is symmetric with zero diagonal.
    """

    def __init__(self, samples: int, layers: int, device: torch.device) -> None:
        self.samples = samples
        upper = torch.triu_indices(samples, samples, 1, device=device)
        self._upper = upper[0] * samples + upper[1]
        self._rows = torch.empty(layers, len(self._upper), dtype=torch.float64, device=device)
        self._pending = torch.empty(min(CHUNK, layers), samples, samples, dtype=torch.float64, device=device)
        self.shares = torch.empty(layers, dtype=torch.float64, device=device)

    def set(self, row: int, gram: Float[Tensor, "sample sample"], scale: float) -> None:
        """Take a layer's centred Gram matrix, to be multiplied by ``scale``; rows come in their order."""
        filled = row % len(self._pending) + 1
        torch.mul(gram.to(self._rows.device), scale, out=self._pending[filled - 1])
        if filled == len(self._pending) or row == len(self._rows) - 1:
            self._pack(slice(row + 1 - filled, row + 1), self._pending[:filled])

    def _pack(self, rows: slice, grams: Float[Tensor, "layer sample sample"]) -> None:
        """Find what the first components hold of some layers' matrices, U-centre these, and keep them."""
        largest, _ = leading_component(grams)
        diagonal = grams.diagonal(dim1=1, dim2=2)
        trace = diagonal.sum(-1)
        self.shares[rows] = largest / torch.where(trace > 0, trace, float("nan"))
        means = u_centring_means(diagonal)
        grams -= means.unsqueeze(1)
        grams -= means.unsqueeze(2)
        torch.index_select(grams.reshape(len(grams), -1), 1, self._upper, out=self._rows[rows])

    def products(self) -> NDArray[np.float64]:
        """Return ``n (n - 3) HSIC1`` (layer, layer) of the layers with one another; both triangles count."""
        return _numpy(2 * symmetric_product(self._rows))

    def products_with(self, other: "_Packed") -> NDArray[np.float64]:
        """Return the same (layer, layer of the other) with those of another checkpoint."""
        return _numpy(2 * (self._rows @ other._rows.to(self._rows.device).T))


def _numpy(tensor: Tensor) -> NDArray[np.float64]:
    return np.asarray(tensor.cpu().numpy(), dtype=np.float64)
