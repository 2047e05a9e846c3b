"""Recognise values that were seen before for the same samples, so that they are multiplied once."""

from dataclasses import dataclass

import torch
from torch import Tensor

PROBE = 1024
"""Values kept of each tensor; what writes to its memory behind torch's back (a reused numpy buffer) shows in them."""


@dataclass(frozen=True)
class _Seen:
    values: Tensor
    version: int
    probe: Tensor
    row: int


class Repeats:
    """Remembers, within one group of samples, the last layer and the inputs of the models.

    A layer repeats another one where it is the same memory, not written to since (identities, dropout that is off,
    flattening), or an input equal to another model's. Tensors are held while they are compared against, so that
    no address is mistaken for that of freed memory: the last layer's, which the network needs at that time anyway,
    and each different input.
    """

    def __init__(self) -> None:
        self._last: _Seen | None = None
        self._inputs: list[_Seen] = []

    def find(self, values: Tensor, *, is_input: bool) -> int | None:
        """Return the row of the layer that the values repeat, or None.

        Args:
            values: (sample, ...).
            is_input: Whether they are an input of a model; inputs are compared by value.
        """
        if self._last is not None and _same_memory(self._last, values):
            return self._last.row
        if is_input:
            for seen in self._inputs:
                if _same_values(seen, values):
                    return seen.row
        return None

    def remember(self, values: Tensor, row: int, *, is_input: bool) -> None:
        """Remember the values of a row."""
        self._last = None
        if values.is_inference() or not values.numel():
            return
        self._last = _Seen(values, values._version, _probe(values), row)
        if is_input:
            self._inputs.append(self._last)

    def forget(self) -> None:
        """Let go of all tensors."""
        self._last, self._inputs = None, []


def _same_memory(seen: _Seen, values: Tensor) -> bool:
    # Storage objects, not addresses: two arrays that came one after the other in the same buffer have two of them.
    return bool(
        not values.is_inference()
        and values.dtype == seen.values.dtype
        and values.numel() == seen.values.numel()
        and len(values) == len(seen.values)
        and values.untyped_storage()._cdata == seen.values.untyped_storage()._cdata
        and values.storage_offset() == seen.values.storage_offset()
        and values._version == seen.version
        and (_same_layout(values, seen.values) or (values.is_contiguous() and seen.values.is_contiguous()))
        and torch.equal(_probe(values), seen.probe)
    )


def _same_layout(values: Tensor, other: Tensor) -> bool:
    # Strides alone do not tell: two slices of one tensor share them, and may have equally many values.
    return values.shape == other.shape and values.stride() == other.stride()


def _same_values(seen: _Seen, values: Tensor) -> bool:
    return (
        values.dtype == seen.values.dtype
        and values.device == seen.values.device
        and _same_layout(values, seen.values)
        and values.numel() > 0
        and seen.values._version == seen.version
        and torch.equal(_probe(values), seen.probe)
        and torch.equal(values, seen.values)
    )


def _probe(values: Tensor) -> Tensor:
    """Return a copy of values at even distances in memory, whatever the strides."""
    span = 1 + sum((size - 1) * stride for size, stride in zip(values.shape, values.stride(), strict=True))
    count = min(PROBE, span)
    return values.as_strided((count,), (span // count,)).clone()
