"""Similarity of all layers on many subsets of one group of samples, from one Gram matrix of each layer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from outcrop.numerics.kernels.hsic import LEAST_SAMPLES
from outcrop.numerics.kernels.products import symmetric_product

PAIR_VALUES = 1 << 22
"""Entries of Gram matrices gathered at a time (32 MiB)."""

PAIRS_TOGETHER, VECTORS_TOGETHER = 512, 256
"""Pairs of samples and vectors whose products are held at a time (1 MiB), so that they stay in a core's cache."""


class Chain(NamedTuple):
    """Subsets each of which is part of the one before, and the pairs of samples that they hold.

    Attributes:
        subsets: From the largest to the smallest.
        pairs: Place ``i * samples + j`` of every pair ``i < j`` that the largest holds: those of the smallest subset
            first, then those that each larger one has beside.
        ends: For each subset, how many of the pairs it holds.
    """

    subsets: tuple[int, ...]
    pairs: NDArray[np.int64]
    ends: tuple[int, ...]


@dataclass(frozen=True)
class Subsets:
    """Different subsets of one group of samples, each of at least 4.

    Attributes:
        kept: (subset, sample), whether a subset holds the sample.
        of_mask: For each mask that they were made from, the subset that it is; -1 where it keeps fewer than 4 samples.
    """

    kept: Bool[np.ndarray, "subset sample"]
    of_mask: NDArray[np.int64]

    @classmethod
    def of(cls, masks: Bool[np.ndarray, "mask sample"]) -> "Subsets":
        """Return the subsets that masks make of a group; masks that keep the same samples of it share one."""
        different, place = np.unique(masks, axis=0, return_inverse=True)
        enough = different.sum(axis=1) >= LEAST_SAMPLES
        numbers = np.where(enough, np.cumsum(enough) - 1, -1)
        return cls(different[enough], numbers[place.reshape(-1)])

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """Samples of each subset."""
        return np.asarray(self.kept.sum(axis=1), dtype=np.int64)

    @cached_property
    def chains(self) -> tuple[Chain, ...]:
        """Chains that hold every subset once: fractions of one ranking that are left out make one chain."""
        return tuple(_chain(self.kept, members) for members in nested_subsets(self.kept))


def nested_subsets(kept: Bool[np.ndarray, "subset sample"]) -> list[list[int]]:
    """Return subsets in chains, each subset a part of the one before it, the smallest chain's end that holds it."""
    chains: list[list[int]] = []
    for subset in np.argsort(-kept.sum(axis=1), kind="stable").tolist():
        holding = [chain for chain in chains if not (kept[subset] & ~kept[chain[-1]]).any()]
        if holding:
            min(holding, key=lambda chain: int(kept[chain[-1]].sum())).append(subset)
        else:
            chains.append([subset])
    return chains


def _chain(kept: NDArray[np.bool_], members: Sequence[int]) -> Chain:
    # A sample that r subsets of a chain hold is in the r largest; a pair is in those that hold both.
    ranks = kept[list(members)].sum(axis=0)
    first, second = np.triu_indices(kept.shape[1], 1)
    shared = np.minimum(ranks[first], ranks[second])
    order = np.argsort(-shared, kind="stable")
    order = order[: int((shared > 0).sum())]
    ends = tuple(int((shared > place).sum()) for place in range(len(members)))
    return Chain(tuple(members), (first * kept.shape[1] + second)[order], ends)


@dataclass(frozen=True)
class SubsetSums:
    """What one group gives for each of its subsets.

    Attributes:
        hsic: ``n (n - 3) HSIC1`` of every two layers.
        hsic_without_pc1: The same without each layer's first principal component.
        alignment: Squared cosine between first principal components.
    """

    hsic: Float[np.ndarray, "subset layer layer"]
    hsic_without_pc1: Float[np.ndarray, "subset layer layer"]
    alignment: Float[np.ndarray, "subset layer layer"]


@dataclass(frozen=True)
class LayerSubsets:
    """One layer's Gram matrix on the subsets of a group.

    Attributes:
        gram: (sample, sample) inner products about any common origin, float64.
        sums: (subset, sample): sum of a sample's entries over the subset, without its own; 0 outside the subset.
        sizes: (subset,): largest eigenvalue of the matrix of the subset's mean-free features.
        vectors: (subset, sample): its unit eigenvector, 0 outside the subset.
    """

    gram: Tensor
    sums: Tensor
    sizes: Tensor
    vectors: Tensor

    def to(self, device: torch.device) -> "LayerSubsets":
        """Return the same on a device."""
        return LayerSubsets(self.gram.to(device), self.sums.to(device), self.sizes.to(device), self.vectors.to(device))


def subset_sums(layers: Sequence[LayerSubsets], subsets: Subsets) -> SubsetSums:
    """Return HSIC1 between all layers on all subsets (arXiv 2010.15327, equation 3).

    U-centring the sub-matrix of each subset would cost its square for each layer. Written as sums over its pairs,
    ``tr(K~ L~) + 1'K~1 1'L~1 / ((n-1)(n-2)) - 2/(n-2) 1'K~ L~1`` shares the pairs among all subsets of a chain: each
    belongs to the chain's subsets down to the smaller rank of its two samples. What the first principal component
    ``u`` of size ``s`` contributes is taken off by linearity, ``K - s u u'``, whose terms are ``u' L u`` and sums over
    samples.

    Cost: ``n^2 / 2`` for every two layers and chain, ``n^2`` for every two layers and subset. Memory: 32 MiB, and
    for each subset seven maps of all layers and four times their vectors.
    """
    kept = torch.from_numpy(subsets.kept).to(layers[0].gram)
    count = kept.sum(1)[:, None, None]
    whole = 1 / ((count - 1) * (count - 2))
    rows = torch.stack([layer.sums for layer in layers], dim=1)
    totals = rows.sum(2)
    hsic = 2 * _pair_products([layer.gram for layer in layers], subsets)
    hsic += whole * totals[:, :, None] * totals[:, None, :]
    hsic -= 2 / (count - 2) * (rows @ rows.mT)
    vectors = torch.stack([layer.vectors for layer in layers], dim=1)
    sizes = torch.stack([layer.sizes for layer in layers], dim=1)
    squares = vectors.square()
    # <U(K), U(u u')> of each layer's matrix K (second index) with the component of each (third).
    mixed = _pair_forms([layer.gram for layer in layers], vectors)
    mixed += 2 / (count - 2) * (rows @ squares.mT)
    mixed -= whole * totals[:, :, None]
    taken = mixed * sizes[:, None, :]
    cosines = vectors @ vectors.mT
    between = cosines.square() - count / (count - 2) * (squares @ squares.mT) + whole
    between *= sizes[:, :, None] * sizes[:, None, :]
    return SubsetSums(_numpy(hsic), _numpy(hsic - taken - taken.mT + between), _numpy(cosines.square()))


def _pair_products(grams: Sequence[Tensor], subsets: Subsets) -> Tensor:
    """Return sums over pairs of samples of products of entries (subset, layer, layer)."""
    found = grams[0].new_zeros(len(subsets.kept), len(grams), len(grams))
    flat = [gram.reshape(-1) for gram in grams]
    step = max(1, PAIR_VALUES // len(grams))
    for chain in subsets.chains:
        pairs = torch.from_numpy(chain.pairs).to(grams[0].device)
        total = torch.zeros_like(found[0])
        start = 0
        for subset, end in zip(reversed(chain.subsets), reversed(chain.ends), strict=True):
            for begin in range(start, end, step):
                chosen = pairs[begin : min(end, begin + step)]
                total += symmetric_product(torch.stack([entries.index_select(0, chosen) for entries in flat]))
            found[subset] = total
            start = end
    return found


def _pair_forms(grams: Sequence[Tensor], vectors: Tensor) -> Tensor:
    """Return the sum of ``K_kl u_k u_l`` over all ``k != l`` (subset, layer of K, layer of u).

    Each pair of samples is met once: products of two entries of every vector, made where they fit into the caches,
    times the entries of all matrices. That is half of the work of multiplying vectors by matrices.
    """
    subsets, layers, samples = vectors.shape
    columns = vectors.reshape(-1, samples).T.contiguous()
    flat = [gram.reshape(-1) for gram in grams]
    found = columns.new_zeros(len(flat), columns.shape[1])
    space = columns.new_empty(max(PAIRS_TOGETHER, samples), VECTORS_TOGETHER)
    for rows in _strips(samples, PAIRS_TOGETHER):
        pairs = torch.cat([torch.arange(row * samples + row + 1, (row + 1) * samples) for row in rows])
        pairs = pairs.to(columns.device)
        entries = torch.stack([one.index_select(0, pairs) for one in flat])
        for start in range(0, columns.shape[1], VECTORS_TOGETHER):
            some = columns[:, start : start + VECTORS_TOGETHER]
            products = space[: len(pairs), : some.shape[1]]
            done = 0
            for row in rows:
                end = done + samples - 1 - row
                torch.mul(some[row + 1 :], some[row], out=products[done:end])
                done = end
            found[:, start : start + VECTORS_TOGETHER].addmm_(entries, products)
    return found.mul_(2).reshape(layers, subsets, layers).transpose(0, 1)


def _strips(samples: int, pairs: int) -> Iterator[range]:
    """Yield runs of rows of at most so many entries above the diagonal, or one row that alone has more."""
    start = 0
    while start < samples - 1:
        stop = start + 1
        found = samples - 1 - start
        while stop < samples - 1 and found + samples - 1 - stop <= pairs:
            found += samples - 1 - stop
            stop += 1
        yield range(start, stop)
        start = stop


def _numpy(tensor: Tensor) -> NDArray[np.float64]:
    return np.asarray(tensor.cpu().numpy(), dtype=np.float64)
