"""The order in which a layer's features lie in memory, kept the same from one group of samples to the next."""

import math
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class FeatureOrder:
    """How the dimensions of a sample's features follow each other in memory.

    Sums over features must meet the same features in every group. Taking them as they lie spares the copy of a whole
    layer that any other order costs where a network computes in ``channels_last``.

    Attributes:
        shape: Of one sample.
        axes: Dimensions of the values (sample, ...), from the one with the largest stride on.
    """

    shape: tuple[int, ...]
    axes: tuple[int, ...]

    @classmethod
    def of(cls, values: Tensor) -> Self:
        """Return the order of values (sample, ...)."""
        strides = values.stride()
        axes = sorted(range(1, values.ndim), key=lambda axis: strides[axis], reverse=True)
        return cls(tuple(values.shape[1:]), tuple(axes))

    @property
    def features(self) -> int:
        """Return the number of features of a sample."""
        return math.prod(self.shape)

    def flatten(self, values: Float[Tensor, "sample ..."]) -> Float[Tensor, "sample feature"]:
        """Return values in this order: a view wherever they lie so themselves, else a copy."""
        return values.permute(0, *self.axes).reshape(len(values), self.features)

    def from_named(self, vectors: Float[Tensor, "vector feature"]) -> Float[Tensor, "vector feature"]:
        """Return vectors whose features are in the order of their dimensions in this order."""
        return vectors.reshape(-1, *self.shape).permute(0, *self.axes).reshape(vectors.shape)

    def to_named(self, vectors: Float[Tensor, "vector feature"]) -> Float[Tensor, "vector feature"]:
        """Return vectors of this order with features in the order of their dimensions."""
        stored = [self.shape[axis - 1] for axis in self.axes]
        back = sorted(range(len(self.axes)), key=lambda place: self.axes[place])
        return vectors.reshape(-1, *stored).permute(0, *(place + 1 for place in back)).reshape(vectors.shape)


def real(values: Tensor) -> Tensor:
    """Return values detached, as float32 or float64: what holds every one of them."""
    values = values.detach()
    if values.is_complex():
        values = torch.view_as_real(values.resolve_conj())
    if values.dtype in (torch.float32, torch.float64):
        return values
    # float32 holds every half-precision value and every 8 or 16 bit integer, not every longer one.
    return values.to(torch.float64 if values.dtype in (torch.int32, torch.int64) else torch.float32)
