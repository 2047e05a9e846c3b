"""Similarity of a layer to itself at an earlier step, from Gram matrices that are kept."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from outcrop.numerics.kernels.hsic import LEAST_SAMPLES, u_centre
from outcrop.numerics.kernels.products import centred_gram


class GramMemory:
    """The U-centred Gram matrices of every layer at one step, batch by batch.

    Memory: ``n (n - 1) / 2`` float64 for each layer and batch of n samples.
    """

    def __init__(self) -> None:
        self._grams: dict[str, list[NDArray[np.float64]]] = {}

    def update(self, layer: str, values: Tensor) -> None:
        """Take the values (sample, ...) of a layer for the next batch; a batch of fewer than 4 samples is left out."""
        if len(values) < LEAST_SAMPLES:
            return
        found = centred_gram(values)
        gram = torch.ldexp(found.gram, torch.tensor(float(found.exponent), dtype=torch.float64)).cpu().numpy()
        upper = u_centre(gram)[np.triu_indices(len(gram), 1)]
        kept = upper if found.non_finite == 0 else np.full_like(upper, math.nan)
        self._grams.setdefault(layer, []).append(kept)

    def similarity(self, layer: str, other: "GramMemory") -> float:
        """Return the minibatch CKA of a layer with itself in another memory of the same batches.

        Ratio of sums of HSIC1 over batches, each weighted by n (n - 3) (arXiv 2010.15327, equation 2); NaN where it is
        not defined.
        """
        mine, theirs = self._grams.get(layer), other._grams.get(layer)
        if mine is None or theirs is None:
            return math.nan
        cross = sum(float(a @ b) for a, b in zip(mine, theirs, strict=True))
        own = math.sqrt(sum(float(a @ a) for a in mine)) * math.sqrt(sum(float(b @ b) for b in theirs))
        return cross / own if own > 0 else math.nan
