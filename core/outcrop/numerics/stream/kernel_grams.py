"""Kernel matrices of a group of samples, double-centred, from the product of their features."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Self

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from outcrop.errors import AnalysisError
from outcrop.numerics.kernels.gram_matrix import Kernel
from outcrop.numerics.kernels.products import ROUNDING, CentredGram, centred_gram
from outcrop.numerics.stream.gram_options import LayerKey

MEDIAN_SAMPLES = 2048
"""Most samples whose distances the bandwidth is taken from."""


def squared_distances(found: CentredGram) -> Float[Tensor, "sample sample"]:
    """Return squared Euclidean distances of the samples, in the units of the Gram matrix (``2 ** exponent``).

    What rounding of the product leaves between coinciding samples is 0.
    """
    norms = found.gram.diagonal()
    sums = norms.unsqueeze(1) + norms.unsqueeze(0)
    distances = torch.sub(sums, found.gram, alpha=2.0)
    distances[distances <= ROUNDING * found.product_epsilon * sums] = 0.0
    distances.fill_diagonal_(0.0)
    return distances


def median_distance(found: CentredGram) -> float:
    """Return the root of the median squared distance, in units of the features.

    All pairs count, those of samples with themselves among them, as in the code published with Kornblith et al. 2019
    (arXiv 1905.00414). Of more than 2,048 samples, so many at even distances are taken.
    """
    distances = squared_distances(found)
    if len(distances) > MEDIAN_SAMPLES:
        rows = torch.linspace(0, len(distances) - 1, MEDIAN_SAMPLES, device=distances.device).round().long()
        distances = distances[rows][:, rows]
    # Exponents are even: the features were divided by a power of two.
    return float(np.ldexp(np.sqrt(np.median(distances.cpu().numpy())), found.exponent // 2))


def gaussian_gram(found: CentredGram, bandwidth: float) -> CentredGram:
    """Return ``exp(-d^2 / (2 s^2))`` of the distances ``d``, double-centred; for ``s = 0``, its limit.

    Args:
        found: The linear kernel's matrix.
        bandwidth: ``s``, in units of the features.
    """
    if found.non_finite:
        return found
    distances = squared_distances(found)
    spread = 2.0 * float(np.ldexp(bandwidth, -(found.exponent // 2))) ** 2
    kernel = distances.div_(-spread).exp_() if spread > 0 else (distances == 0).to(found.gram)
    rows = kernel.mean(dim=1)
    kernel -= rows.unsqueeze(1)
    kernel -= (rows - rows.mean()).unsqueeze(0)
    # The kernel is a function of distances, which hold the digits of the product.
    noise = max(found.noise, ROUNDING * found.product_epsilon)
    trace = max(float(kernel.diagonal().sum()), 0.0)
    return replace(found, gram=kernel, exponent=0, trace=trace, noise=noise, row_means=rows)


class LayerKernels:
    """The kernel matrices of all layers, with the bandwidth that each layer's first group of samples has set.

    Args:
        kernel: ``linear``, ``rbf`` or ``cosine``.
        bandwidth: As a fraction of the root of the median squared distance.
        given: Bandwidths in units of the features, by model and layer name, that are not to be found.
    """

    def __init__(self, kernel: Kernel, bandwidth: float, given: Mapping[LayerKey, float] | None) -> None:
        self.kernel = kernel
        self.bandwidth = bandwidth
        self.given = {} if given is None else given
        self._bandwidths: dict[LayerKey, float] = {}
        self._with_offset: set[LayerKey] = set()

    def gram(self, key: LayerKey, values: Float[Tensor, "sample ..."]) -> CentredGram:
        """Return the double-centred kernel matrix of a layer's values for one group."""
        found = centred_gram(values, unit_norm=self.kernel == "cosine", expect_offset=key in self._with_offset)
        if found.offset:
            self._with_offset.add(key)
        else:
            self._with_offset.discard(key)
        if self.kernel != "rbf" or found.non_finite:
            return found
        if math.isnan(self._bandwidth(key)):
            self._bandwidths[key] = self.bandwidth * median_distance(found)
        return gaussian_gram(found, self._bandwidths[key])

    def agree(self, key: LayerKey, other: LayerKey) -> bool:
        """Return whether two layers of equal values have equal matrices."""
        return self.kernel != "rbf" or self._bandwidth(key) == self._bandwidth(other)

    def _bandwidth(self, key: LayerKey) -> float:
        if key not in self._bandwidths:
            self._bandwidths[key] = float(self.given.get(key, math.nan))
        return self._bandwidths[key]

    def merge(self, other: Self) -> None:
        """Take over what another one knows of the layers.

        Raises:
            AnalysisError: Bandwidths differ.
        """
        for (model, layer), value in other._bandwidths.items():
            mine = self._bandwidth((model, layer))
            if mine != value and not math.isnan(mine) and not math.isnan(value):
                raise AnalysisError(
                    f"The rbf kernels of layer {layer!r} of model {model!r} have bandwidths {mine:g} and "
                    f"{value:g}, so their sums cannot be merged; give both accumulators the same bandwidths."
                )
            if math.isnan(mine):
                self._bandwidths[model, layer] = value

    def bandwidths(self, keys: Iterable[LayerKey]) -> NDArray[np.float64]:
        """Return the bandwidths of layers; NaN where there is none."""
        return np.array([self._bandwidth(key) for key in keys], dtype=np.float64)
