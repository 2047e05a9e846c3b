"""The plain reductions: the mean over all positions, and half precision."""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from outcrop.capture.reduction import Reduction, summing_type, torch_type
from outcrop.errors import ParameterError
from outcrop.models.model import Layer

if TYPE_CHECKING:
    from torch import Tensor

POSITIONS = frozenset(["y", "x", "token"])
"""Names of the dimensions along which the positions of a layer lie."""

LARGEST_HALF = 65504


@dataclass(frozen=True)
class SpatialMean(Reduction):
    """The mean over all positions: (channel, y, x) becomes (channel), and (token, feature) becomes (feature).

    A class token is a token like the others and counts as one. An attention map (head, token, token_key) becomes
    (head, token_key): what each token is paid on average. Layers without positions, and those whose dimensions have
    numbers for names (windows), are left as they are. Half precision is summed and kept in float32, integers in
    float64.
    """

    @property
    def description(self) -> str:
        """Return ``spatial_mean``."""
        return "spatial_mean"

    def reduced(self, layer: Layer) -> Layer:
        """Return the layer without its positions."""
        kept = [axis for axis, name in enumerate(layer.dims) if name not in POSITIONS]
        if len(kept) == len(layer.dims):
            return layer
        return replace(
            layer,
            shape=tuple(layer.shape[axis] for axis in kept),
            dims=tuple(layer.dims[axis] for axis in kept),
            dtype=summing_type(layer.dtype),
        )

    def apply(self, layer: Layer, values: "Tensor") -> "Tensor":
        """Return the means (sample, channel) or (sample, feature)."""
        axes = [axis for axis, name in enumerate(layer.dims, start=1) if name in POSITIONS]
        return values.mean(dim=axes, dtype=torch_type(summing_type(layer.dtype))) if axes else values


@dataclass(frozen=True)
class HalfPrecision(Reduction):
    """Values as float16: eleven bits each, from 6.1e-5 to 65504; smaller ones keep an absolute error of 3e-8.

    A number beyond is refused and not made infinite: what overflows is as a rule what stands out, such as dominant
    datapoints and massive activations. NaN and infinities of the network's own stay what they are.
    """

    @property
    def description(self) -> str:
        """Return ``float16``."""
        return "float16"

    def reduced(self, layer: Layer) -> Layer:
        """Return the layer with its new type."""
        return replace(layer, dtype="float16")

    def apply(self, layer: Layer, values: "Tensor") -> "Tensor":
        """Return the values rounded to the nearest float16.

        Raises:
            ParameterError: A finite value rounds to infinity.
        """
        import torch

        half = values.to(torch.float16)
        if half is values or not values.numel():
            return half
        # NaN and infinities show in the extremes, so all other batches are read once.
        if not all(math.isfinite(end) for end in torch.stack(torch.aminmax(half)).tolist()):
            overflown = values[half.isinf() & values.isfinite()]
            if overflown.numel():
                raise ParameterError(
                    f"Layer {layer.name!r} has values up to {float(overflown.abs().max()):.6g} in size, and float16 "
                    f"ends at {LARGEST_HALF}; capture it without '+float16', or leave the layer out."
                )
        return half
