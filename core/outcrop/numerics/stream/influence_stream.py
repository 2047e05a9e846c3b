"""How much each sample carries of the similarity inside blocks of layers, streamed over batches."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from outcrop.capture.accumulator import ReducingAccumulator
from outcrop.errors import AnalysisError, ParameterError
from outcrop.models.model import Layer
from outcrop.numerics.kernels.gram_matrix import Kernel, check_kernel
from outcrop.numerics.kernels.hsic import LEAST_SAMPLES
from outcrop.numerics.kernels.products import CentredGram, centred_gram
from outcrop.numerics.measures.influence import Influence, influence_of, leave_one_out_factor
from outcrop.numerics.stream.gram_options import LayerKey
from outcrop.numerics.stream.kernel_grams import gaussian_gram
from outcrop.numerics.stream.layer_rows import check_samples, check_values
from outcrop.numerics.stream.packed import u_centring_means

LAYER_LIMIT = 48
"""Most layers of a block that are followed, evenly spread over it: memory is 4 times their square, for each sample."""


@dataclass
class _Followed:
    """What is kept of one block: its layers, and what every sample carries of each of their pairs."""

    keys: tuple[LayerKey, ...]
    carried: list[NDArray[np.float64]] = field(default_factory=list)
    factors: list[NDArray[np.float64]] = field(default_factory=list)
    samples: list[NDArray[np.int64]] = field(default_factory=list)


class InfluenceAccumulator(ReducingAccumulator):
    """Accumulates what every sample carries of the mean CKA of a block's layers, or of a pair of layers.

    CKA over batches is a ratio of summed HSIC1 (arXiv 2010.15327, equation 2). A sample is in one batch, and without
    it that batch's ``n (n - 3) HSIC1`` becomes ``(n - 1) (n - 4) HSIC1`` of the others: the leave-one-out CKA
    is exact for the batches as they were drawn. It does not know of similarity between samples of different batches.

    A block with a layer whose values are not all finite has no influence to tell: all of it is NaN.

    For the batches of :class:`outcrop.numerics.GramAccumulator`, stream both in the same order. One pass. Memory: a
    Gram matrix of n^2 float64 per followed layer, and for each sample half the square of a block's layers.
    """

    def __init__(
        self,
        blocks: Sequence[Sequence[LayerKey]],
        *,
        group_size: int = 256,
        kernel: Kernel = "linear",
        bandwidths: Mapping[LayerKey, float] | None = None,
        layer_limit: int = LAYER_LIMIT,
    ) -> None:
        """Prepare for the pass.

        Args:
            blocks: Model and name of each layer of every block; two layers make a pair.
            group_size: Samples of a batch.
            kernel: Of all layers, see :class:`outcrop.numerics.GramAccumulator`.
            bandwidths: Standard deviation of the ``rbf`` kernel by layer, in units of the features.
            layer_limit: Most layers of a block that are followed, evenly spread, its first and last among them.

        Raises:
            ParameterError: A batch of fewer than 4 samples, a block of fewer than 2 layers, an unknown kernel or a
                layer without a bandwidth.
        """
        check_kernel(kernel)
        if group_size < LEAST_SAMPLES:
            raise ParameterError(f"group_size must be at least {LEAST_SAMPLES}, which HSIC1 needs; got {group_size}.")
        if layer_limit < 2:
            raise ParameterError(f"layer_limit must be at least 2, a pair of layers; got {layer_limit}.")
        for keys in blocks:
            if len(keys) < 2:
                raise ParameterError(f"Similarity is between layers: name at least 2 of a block; got {len(keys)}.")
        self.group_size = group_size
        self.kernel: Kernel = kernel
        self._blocks = [_Followed(_spread(keys, layer_limit)) for keys in blocks]
        self._wanted = {key for block in self._blocks for key in block.keys}
        self._bandwidths = dict(bandwidths or {})
        if kernel == "rbf" and (without := self._wanted - self._bandwidths.keys()):
            model, layer = min(without)
            raise ParameterError(f"The rbf kernel needs a bandwidth of layer {layer!r} of model {model!r}.")
        self._exponents: dict[LayerKey, int] = {}
        self._grams: dict[LayerKey, Tensor] = {}
        self._samples: NDArray[np.int64] | None = None

    def reduce(self, model: str, layer: Layer, sample_index: NDArray[np.int64], values: Tensor) -> CentredGram | None:
        """Return the kernel matrix of the values (sample, ...) of one layer for one group; None for layers of no block.

        Raises:
            AnalysisError: Values and samples do not fit each other.
        """
        key = (model, layer.name)
        if key not in self._wanted or len(sample_index) < LEAST_SAMPLES:
            return None
        check_values(model, layer, sample_index, values)
        found = centred_gram(values, unit_norm=self.kernel == "cosine")
        return gaussian_gram(found, self._bandwidths[key]) if self.kernel == "rbf" else found

    def reduced_bytes(self, _layer: Layer, samples: int) -> int:
        """Return the size of a kernel matrix."""
        return 8 * samples**2

    def take(self, model: str, layer: Layer, sample_index: NDArray[np.int64], reduced: CentredGram | None) -> None:
        """Add a layer's kernel matrix to the group.

        Raises:
            AnalysisError: It comes with other samples than the layers before it.
        """
        if reduced is None:
            return
        if self._samples is None:
            self._samples = sample_index.copy()
        check_samples(model, layer, sample_index, self._samples)
        key, gram = (model, layer.name), reduced.gram
        if reduced.non_finite:
            # A batch of which nothing is known must not pass for one without structure.
            gram = torch.full_like(gram, math.nan)
        elif reduced.trace:
            # Every batch of a layer in one power of two, as no unit matters to the ratio but that it stays.
            exponent = self._exponents.setdefault(key, reduced.exponent + math.frexp(reduced.trace / len(gram))[1])
            gram = gram * math.ldexp(1.0, reduced.exponent - exponent)
        self._grams[key] = _u_centred(gram)

    def end_batch(self) -> None:
        """Add what each sample of the group carries.

        Raises:
            AnalysisError: A layer of a block gave no values.
        """
        if self._samples is None:
            return
        if missing := self._wanted - self._grams.keys():
            model, layer = min(missing)
            raise AnalysisError(
                f"Layer {layer!r} of model {model!r} gave no values; the influence on a block needs all of its layers."
            )
        for block in self._blocks:
            rows = torch.stack([self._grams[key] for key in block.keys], dim=1)
            first, second = np.triu_indices(len(block.keys))
            products = (rows @ rows.mT)[:, first, second]
            block.carried.append(np.asarray(products.cpu().numpy(), dtype=np.float64))
            block.factors.append(np.full(len(self._samples), leave_one_out_factor(len(self._samples))))
            block.samples.append(self._samples)
        self._grams, self._samples = {}, None

    def merge(self, other: Self) -> None:
        """Add what another accumulator of the same settings and blocks has seen of other samples.

        Raises:
            AnalysisError: Settings or blocks differ.
        """
        same = (self.kernel, self.group_size, self._bandwidths) == (other.kernel, other.group_size, other._bandwidths)
        if not same or [block.keys for block in self._blocks] != [block.keys for block in other._blocks]:
            raise AnalysisError("Only accumulators of the same blocks and settings can be merged; theirs differ.")
        steps = {key: theirs - self._exponents.setdefault(key, theirs) for key, theirs in other._exponents.items()}
        for mine, theirs in zip(self._blocks, other._blocks, strict=True):
            first, second = np.triu_indices(len(mine.keys))
            shift = np.array([steps.get(key, 0) for key in mine.keys])
            mine.carried += [np.ldexp(part, shift[first] + shift[second]) for part in theirs.carried]
            mine.factors += theirs.factors
            mine.samples += theirs.samples

    def followed(self) -> tuple[tuple[LayerKey, ...], ...]:
        """Return the layers of every block that are followed: all, or as many as the limit allows."""
        return tuple(block.keys for block in self._blocks)

    def finish(self) -> tuple[Influence, ...]:
        """Return the influence on each block.

        Raises:
            AnalysisError: No group had the 4 samples that HSIC1 needs.
        """
        if not all(block.carried for block in self._blocks):
            raise AnalysisError(f"Influence needs at least {LEAST_SAMPLES} samples in a batch. Give more data.")
        return tuple(
            influence_of(
                np.concatenate(block.carried),
                np.concatenate(block.factors),
                layers=len(block.keys),
                samples=np.concatenate(block.samples),
            )
            for block in self._blocks
        )


def _spread(keys: Sequence[LayerKey], limit: int) -> tuple[LayerKey, ...]:
    places = np.linspace(0, len(keys) - 1, min(limit, len(keys))).round().astype(int)
    return tuple(keys[place] for place in places.tolist())


def _u_centred(gram: Tensor) -> Tensor:
    """Return the U-centred matrix of a double-centred one, see :func:`outcrop.numerics.u_centre`."""
    means = u_centring_means(gram.diagonal())
    return (gram - means.unsqueeze(1) - means).fill_diagonal_(0.0)
