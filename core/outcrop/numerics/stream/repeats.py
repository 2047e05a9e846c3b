"""Recognise values that were seen before for the same samples, so that they are multiplied once."""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

PROBE = 1024
"""Values kept of each tensor; what writes to its memory behind torch's back (a reused numpy buffer) shows in them."""


Result = TypeVar("Result")


@dataclass
class _Seen(Generic[Result]):
    sample_index: NDArray[np.int64]
    values: Tensor | None
    version: int
    probe: Tensor
    result: Result


class Repeats(Generic[Result]):
    """Remembers what was made of each model's last layer.

    A layer repeats another one of its model where it is the same memory, not written to since (identities, dropout
    that is off, flattening). The last layer's tensor is held, so that no address is mistaken for that of freed memory;
    the network needs it at that time anyway. Different threads may ask, of a model too: then repeats may be missed.
    """

    def __init__(self) -> None:
        self._last: dict[str, _Seen[Result]] = {}

    def find(self, model: str, values: Tensor) -> Result | None:
        """Return what was made of the model's last layer where the values (sample, ...) repeat it, or None."""
        last = self._last.get(model)
        return last.result if last is not None and _same_memory(last, values) else None

    def remember(self, model: str, sample_index: NDArray[np.int64], values: Tensor, result: Result) -> None:
        """Remember what was made of the values (sample, ...) of a layer."""
        if values.is_inference() or not values.numel():
            self._last.pop(model, None)
        else:
            self._last[model] = _Seen(sample_index, values, values._version, _probe(values), result)

    def forget(self, sample_index: NDArray[np.int64]) -> None:
        """Let go of the layers of samples; models that have gone on to others are left alone."""
        for seen in tuple(self._last.values()):
            if np.array_equal(seen.sample_index, sample_index):
                # Emptied and not taken out: the model's thread may be putting the next group's in its place.
                seen.values = None


def _same_memory(seen: _Seen[Any], values: Tensor) -> bool:
    held = seen.values
    # Storage objects, not addresses: two arrays that came one after the other in the same buffer have two of them.
    return bool(
        held is not None
        and not values.is_inference()
        and values.dtype == held.dtype
        and values.numel() == held.numel()
        and len(values) == len(held)
        and values.untyped_storage()._cdata == held.untyped_storage()._cdata
        and values.storage_offset() == held.storage_offset()
        and values._version == seen.version
        and (_same_layout(values, held) or (values.is_contiguous() and held.is_contiguous()))
        and torch.equal(_probe(values), seen.probe)
    )


def _same_layout(values: Tensor, other: Tensor) -> bool:
    # Strides alone do not tell: two slices of one tensor share them, and may have equally many values.
    return values.shape == other.shape and values.stride() == other.stride()


def _probe(values: Tensor) -> Tensor:
    """Return a copy of values at even distances in memory, whatever the strides."""
    span = 1 + sum((size - 1) * stride for size, stride in zip(values.shape, values.stride(), strict=True))
    count = min(PROBE, span)
    return values.as_strided((count,), (span // count,)).clone()
