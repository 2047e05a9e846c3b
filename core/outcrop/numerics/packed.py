"""HSIC of all layers with all layers for one group of samples, from their centred Gram matrices."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from outcrop.numerics.principal import leading_component

CHUNK = 32
"""Layers U-centred together; large enough to amortise calls, small enough to stay near the caches."""


@dataclass(frozen=True)
class BatchSums:
    """What one group of samples gives, layers in the order in which they were added.

    Attributes:
        hsic: ``n (n - 3) HSIC1`` of every two layers.
        hsic_without_pc1: The same without each layer's first principal component; None where not asked for.
        alignment: Squared cosine between first principal components; None as above.
        pc_share: Share of variance of the first principal component, NaN without variance; None as above.
    """

    hsic: NDArray[np.float64]
    hsic_without_pc1: NDArray[np.float64] | None
    alignment: NDArray[np.float64] | None
    pc_share: NDArray[np.float64] | None


class PackedGrams:
    """The U-centred Gram matrices of all layers for one group: upper triangles, as rows of a matrix.

    Their inner products are HSIC1, since a U-centred matrix is symmetric with zero diagonal (arXiv 2010.15327,
    equation 3). Buffers are kept from one group to the next. Memory: n (n - 1) / 2 float64 for each layer,
    twice with principal components, and two chunks of full matrices. Cost: n^2 / 2 for every two layers.
    """

    def __init__(self, samples: int, device: torch.device, *, principal_component: bool) -> None:
        self.samples = samples
        self.device = device
        self.principal_component = principal_component
        upper = torch.triu_indices(samples, samples, 1, device=device)
        self._upper = upper[0] * samples + upper[1]
        self._pending = torch.empty(CHUNK, samples, samples, dtype=torch.float64, device=device)
        self._chunks: list[Tensor] = []
        self._chunks_without: list[Tensor] = []
        self._vectors: list[Tensor] = []
        self._shares: list[Tensor] = []
        self._filled = 0
        self._flushed = 0

    def add(self, gram: Float[Tensor, "sample sample"], scale: float) -> None:
        """Take one layer's centred Gram matrix, to be multiplied by ``scale``."""
        torch.mul(gram.to(self.device), scale, out=self._pending[self._filled])
        self._filled += 1
        if self._filled == CHUNK:
            self._flush()

    def finish(self) -> BatchSums:
        """Return the sums over the group, and be ready for the next one."""
        self._flush()
        rows, self._flushed = self._flushed, 0
        hsic = _products(self._chunks, rows)
        if not self.principal_component:
            return BatchSums(hsic, None, None, None)
        vectors, shares = torch.cat(self._vectors), torch.cat(self._shares)
        self._vectors, self._shares = [], []
        return BatchSums(
            hsic, _products(self._chunks_without, rows), _numpy((vectors @ vectors.T).square()), _numpy(shares)
        )

    def _flush(self) -> None:
        if not self._filled:
            return
        grams = self._pending[: self._filled]
        trace = grams.diagonal(dim1=1, dim2=2).sum(-1)
        values = vectors = grams.new_empty(0)
        if self.principal_component:
            values, vectors = leading_component(grams)
            self._vectors.append(vectors)
            self._shares.append(values / torch.where(trace > 0, trace, float("nan")))
        # Rows of a double-centred matrix sum to zero, so without the diagonal they sum to minus its entries.
        self._subtract_sums(grams, _u_means(grams.diagonal(dim1=1, dim2=2)))
        self._pack(grams, self._chunks)
        if self.principal_component:
            # U-centring is linear: what the first component contributed is taken from the U-centred matrix.
            weighted = (values[:, None] * vectors).unsqueeze(2)
            grams.baddbmm_(weighted, vectors.unsqueeze(1), alpha=-1.0)
            self._subtract_sums(grams, -values[:, None] * _u_means(vectors.square()))
            self._pack(grams, self._chunks_without)
        self._flushed += self._filled
        self._filled = 0

    def _subtract_sums(self, grams: Tensor, means: Tensor) -> None:
        grams -= means.unsqueeze(1)
        grams -= means.unsqueeze(2)

    def _pack(self, grams: Tensor, chunks: list[Tensor]) -> None:
        position = self._flushed // CHUNK
        if position == len(chunks):
            chunks.append(grams.new_empty(CHUNK, len(self._upper)))
        torch.index_select(grams.reshape(len(grams), -1), 1, self._upper, out=chunks[position][: len(grams)])


def _u_means(diagonal: Tensor) -> Tensor:
    """Return the ``m_i`` of U-centring for double-centred matrices of the given diagonals."""
    samples = diagonal.shape[-1]
    means = -diagonal / (samples - 2)
    return means - means.sum(-1, keepdim=True) / (2 * (samples - 1))


def _products(chunks: list[Tensor], rows: int) -> NDArray[np.float64]:
    """Return twice the inner products of all rows (both triangles count), every two chunks once."""
    used = [chunk[: max(0, min(CHUNK, rows - start * CHUNK))] for start, chunk in enumerate(chunks)]
    result = torch.empty(rows, rows, dtype=torch.float64, device=chunks[0].device)
    for first, left in enumerate(used):
        for second in range(first, len(used)):
            block = left @ used[second].T
            at, to = first * CHUNK, second * CHUNK
            result[at : at + len(left), to : to + len(used[second])] = block
            result[to : to + len(used[second]), at : at + len(left)] = block.T
    return _numpy(result.mul_(2.0))


def _numpy(tensor: Tensor) -> NDArray[np.float64]:
    return np.asarray(tensor.cpu().numpy(), dtype=np.float64)
