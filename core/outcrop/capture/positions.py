"""A sample of the positions of every layer, at the same places of the image whatever the layer's resolution."""

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from outcrop.capture.random_bits import random_words
from outcrop.capture.reduction import Reduction, check_shape
from outcrop.models.model import Layer

if TYPE_CHECKING:
    from torch import Tensor

LEADING_TOKENS = (0, 1, 2, 4, 5)
"""How many tokens may stand before those of the image: none, a class token, one of distillation beside it
(arXiv:2012.12877), four registers (arXiv:2309.16588), or these with a class token."""

_STREAM = 1


@dataclass(frozen=True)
class Sites:
    """Where the places of a sample fall in a layer.

    Attributes:
        axes: Of the positions, among the dimensions of one sample.
        indices: (place,) for each of these axes.
        available: How many positions the layer has.
        grid: Of the image's tokens (y, x), where one axis holds them row by row.
        leading: Tokens before these.
    """

    axes: tuple[int, ...]
    indices: tuple[NDArray[np.int64], ...]
    available: int
    grid: tuple[int, int] | None = None
    leading: int = 0


@dataclass(frozen=True)
class SampledPositions(Reduction):
    """The values at some places of the image: (channel, y, x) becomes (channel, position).

    Places are points (y, x) of the unit square, a function of the seed alone; in every layer of every model the value
    is taken from the cell that holds the point. So position k is the same place of the image in all that are sampled,
    and positions of one layer in two models match one by one. The points are a Halton sequence, bases 2 and 3, moved
    by a random offset (Cranley and Patterson 1976, doi:10.1137/0713071): each is uniform over the image, and together
    they are spread more evenly than independent draws, so few cells are taken twice.

    Tokens of an image are taken to lie row by row on a square grid, after none, 1, 2, 4 or 5 others; those (class
    token, registers) have no place in the image and are left out. Where no square fits, as in text, the places' x is
    the position in the sequence. A layer of no more positions than places is kept whole, in its shape: its
    attributes say which of its cells belongs to each place. Of an attention map the tokens that attend are sampled, not
    those that they attend to. Layers without positions, and those whose dimensions have numbers for names (windows),
    are left as they are.

    Attributes:
        count: Number of places.
        seed: Of the offset.
    """

    count: int
    seed: int = 0

    @property
    def description(self) -> str:
        """Return ``positions:<count>,seed=<seed>``."""
        return f"positions:{self.count},seed={self.seed}"

    def reduced(self, layer: Layer) -> Layer:
        """Return the layer with one dimension of positions where the first of its own was."""
        sites = self.sites(layer)
        if sites is None or sites.available <= self.count:
            return layer
        first = min(sites.axes)
        kept = [axis for axis in range(len(layer.dims)) if axis == first or axis not in sites.axes]
        return replace(
            layer,
            shape=tuple(self.count if axis == first else layer.shape[axis] for axis in kept),
            dims=tuple("position" if axis == first else layer.dims[axis] for axis in kept),
        )

    def apply(self, layer: Layer, values: "Tensor") -> "Tensor":
        """Return the values at the places."""
        import torch

        sites = self.sites(layer)
        if sites is None or sites.available <= self.count:
            return values
        check_shape(layer, values)
        last = values.movedim([axis + 1 for axis in sites.axes], list(range(-len(sites.axes), 0)))
        cells: list[Any] = [torch.from_numpy(index).to(values.device) for index in sites.indices]
        chosen = last[(..., *cells)]
        return chosen.movedim(-1, min(sites.axes) + 1).contiguous()

    def details(self, layer: Layer) -> dict[str, Any]:
        """Return the cell of each place along each axis of positions: ``position_y``, ``position_x``."""
        sites = self.sites(layer)
        if sites is None:
            return {}
        found: dict[str, Any] = {
            f"position_{layer.dims[axis]}": index.tolist()
            for axis, index in zip(sites.axes, sites.indices, strict=True)
        }
        if sites.grid is not None:
            found |= {"token_grid": list(sites.grid), "leading_tokens": sites.leading}
        return found

    def sites(self, layer: Layer) -> Sites | None:
        """Return where the places fall in a layer, or None where it has no positions."""
        across = [layer.dims.index(name) for name in ("y", "x") if name in layer.dims]
        y, x = places(self.count, self.seed)
        if across:
            sizes = [layer.shape[axis] for axis in across]
            points = (y, x)[-len(across) :]
            indices = tuple(_cell(point, size) for point, size in zip(points, sizes, strict=True))
            return Sites(tuple(across), indices, math.prod(sizes))
        if "token" not in layer.dims:
            return None
        axis = layer.dims.index("token")
        tokens = layer.shape[axis]
        for leading in LEADING_TOKENS:
            side = math.isqrt(max(0, tokens - leading))
            if side > 1 and side * side == tokens - leading:
                index = leading + _cell(y, side) * side + _cell(x, side)
                return Sites((axis,), (index,), side * side, (side, side), leading)
        return Sites((axis,), (_cell(x, tokens),), tokens)


@lru_cache(maxsize=8)
def places(count: int, seed: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return y and x (place,) of points in the unit square, in units of 2^-32."""
    offsets = random_words(2, seed=seed, stream=_STREAM) >> np.uint64(32)
    y, x = (
        np.array([(_radical_inverse(index, base) + int(offset)) % (1 << 32) for index in range(count)], dtype=np.uint64)
        for base, offset in zip((2, 3), offsets, strict=True)
    )
    return y, x


def _radical_inverse(index: int, base: int) -> int:
    """Return the digits of a number mirrored at the point, in units of 2^-32."""
    mirrored, scale = 0, 1
    while index:
        index, digit = divmod(index, base)
        mirrored, scale = mirrored * base + digit, scale * base
    return (mirrored << 32) // scale


def _cell(points: NDArray[np.uint64], size: int) -> NDArray[np.int64]:
    """Return the cell of a row of ``size`` cells that holds each point; in whole numbers, so alike everywhere."""
    return ((points * np.uint64(size)) >> np.uint64(32)).astype(np.int64)
