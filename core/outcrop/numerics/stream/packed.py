"""HSIC of all layers with all layers for one group of samples, from their centred Gram matrices."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from outcrop.numerics.kernels.principal import leading_component
from outcrop.numerics.stream.deconfounded import ModelInputs, slopes_on_inputs, without_inputs

CHUNK = 32
"""Layers U-centred together; large enough to amortise calls, small enough to stay near the caches."""

Component = Literal["none", "own", "given"]
"""Which principal component is removed: none, the group's own first one, or the direction of given projections."""


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

    def __init__(self, samples: int, device: torch.device, *, component: Component) -> None:
        self.samples = samples
        self.device = device
        self.component = component
        upper = torch.triu_indices(samples, samples, 1, device=device)
        self._upper = upper[0] * samples + upper[1]
        self._pending = torch.empty(CHUNK, samples, samples, dtype=torch.float64, device=device)
        self._zeros = self._pending.new_zeros(samples)
        self._chunks: list[Tensor] = []
        self._chunks_without: list[Tensor] = []
        self._given: list[Tensor] = []
        self._row_means: list[Tensor] = []
        self._vectors: list[Tensor] = []
        self._shares: list[Tensor] = []
        self._effects: list[Tensor] = []
        self._effects_without: list[Tensor] = []
        self._position: list[int] = []
        self._filled = 0
        self._flushed = 0

    def add(
        self,
        gram: Float[Tensor, "sample sample"],
        scale: float,
        *,
        row_means: Float[Tensor, " sample"] | None = None,
        projection: Float[Tensor, " sample"] | None = None,
    ) -> int:
        """Take one layer's centred Gram matrix, to be multiplied by ``scale``; return its position for repeats.

        Args:
            gram: Double-centred.
            scale: A power of two.
            row_means: Of the kernel matrix before it was centred, in the units of ``gram``; None where they are 0.
            projection: What is removed where the component is given: ``s`` of ``K - s s'``, scaled already.
        """
        torch.mul(gram.to(self.device), scale, out=self._pending[self._filled])
        self._row_means.append(self._zeros if row_means is None else row_means.to(self._zeros) * scale)
        self._given.append(self._zeros if projection is None else projection.to(self._zeros))
        self._position.append(self._flushed + self._filled)
        self._filled += 1
        if self._filled == CHUNK:
            self._flush()
        return self._position[-1]

    def repeat(self, position: int) -> None:
        """Take a layer whose matrix is the one at a position that :meth:`add` returned for the same group."""
        self._position.append(position)

    def finish(self, inputs: ModelInputs | None = None) -> BatchSums:
        """Return the sums over the group, and be ready for the next one.

        Args:
            inputs: What is regressed out of the layers of each model; None for nothing.
        """
        self._flush()
        rows, self._flushed = self._flushed, 0
        position, self._position = np.asarray(self._position), []
        square = np.ix_(position, position)
        full = _products(self._chunks, rows)[square]
        effects, self._effects = self._effects, []
        effects_without, self._effects_without = self._effects_without, []
        hsic = full
        if inputs is not None:
            own = _numpy(torch.cat(effects))[position]
            hsic = _regressed(full, full[:, inputs.rows], full, own, own, inputs)
        if self.component == "none":
            return BatchSums(hsic, None, None, None)
        vectors, shares = torch.cat(self._vectors), torch.cat(self._shares)
        self._vectors, self._shares = [], []
        without = _products(self._chunks_without, rows)[square]
        if inputs is not None:
            cross = self._with_inputs(rows, position[inputs.rows])[position]
            effects_left = _numpy(torch.cat(effects_without))[position]
            without = _regressed(without, cross, full, effects_left, own, inputs)
        alignment = _numpy((vectors @ vectors.T).square())[square]
        return BatchSums(hsic, without, alignment, _numpy(shares)[position])

    def _flush(self) -> None:
        if not self._filled:
            return
        grams = self._pending[: self._filled]
        diagonal = grams.diagonal(dim1=1, dim2=2).clone()
        component = self._components(grams, diagonal.sum(-1))
        row_means = torch.stack(self._row_means)
        self._row_means, self._given = [], []
        means = u_centring_means(diagonal)
        self._effects.append(means + row_means)
        self._subtract_sums(grams, means)
        self._pack(grams, self._chunks)
        if component is not None:
            values, vectors = component
            # U-centring is linear: what the first component contributed is taken from the U-centred matrix.
            weighted = (values[:, None] * vectors).unsqueeze(2)
            grams.baddbmm_(weighted, vectors.unsqueeze(1), alpha=-1.0)
            removed = -values[:, None] * u_centring_means(vectors.square())
            self._effects_without.append(means + removed + row_means)
            self._subtract_sums(grams, removed)
            self._pack(grams, self._chunks_without)
        self._flushed += self._filled
        self._filled = 0

    def _components(self, grams: Tensor, trace: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return size and unit vector of what is removed from each matrix, and note its share and direction."""
        if self.component == "none":
            return None
        if self.component == "own":
            values, vectors = leading_component(grams)
        else:
            projections = torch.stack(self._given)
            projections = projections - projections.mean(dim=1, keepdim=True)
            values = projections.square().sum(dim=1)
            vectors = torch.where(values > 0, values.rsqrt(), 0.0 * values)[:, None] * projections
        self._vectors.append(vectors)
        self._shares.append(values / torch.where(trace > 0, trace, float("nan")))
        return values, vectors

    def _subtract_sums(self, grams: Tensor, means: Tensor) -> None:
        grams -= means.unsqueeze(1)
        grams -= means.unsqueeze(2)

    def _pack(self, grams: Tensor, chunks: list[Tensor]) -> None:
        position = self._flushed // CHUNK
        if position == len(chunks):
            chunks.append(grams.new_empty(CHUNK, len(self._upper)))
        torch.index_select(grams.reshape(len(grams), -1), 1, self._upper, out=chunks[position][: len(grams)])

    def _with_inputs(self, rows: int, inputs: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the inner products of what is left of all layers with the whole inputs."""
        whole = torch.stack([self._chunks[row // CHUNK][row % CHUNK] for row in inputs.tolist()])
        parts = [chunk @ whole.T for chunk in self._chunks_without[: -(-rows // CHUNK)]]
        return 2.0 * _numpy(torch.cat(parts)[:rows])


def _regressed(
    hsic: NDArray[np.float64],
    cross: NDArray[np.float64],
    full: NDArray[np.float64],
    effects: NDArray[np.float64],
    whole_effects: NDArray[np.float64],
    inputs: ModelInputs,
) -> NDArray[np.float64]:
    """Return HSIC of what the inputs do not explain of each layer."""
    between = full[np.ix_(inputs.rows, inputs.rows)]
    slopes = slopes_on_inputs(cross, np.diag(between), effects, whole_effects[inputs.rows], inputs)
    return without_inputs(hsic, cross, between, slopes)


def u_centring_means(diagonal: Float[Tensor, "*layer sample"]) -> Float[Tensor, "*layer sample"]:
    """Return the ``m_i`` that U-centring takes off (:func:`outcrop.numerics.u_centre`), of double-centred matrices.

    Their rows sum to zero, so without the diagonal they sum to minus its entries.
    """
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
