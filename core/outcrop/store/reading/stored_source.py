"""Activations of a study as a source for analyses."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from outcrop.capture.source import ActivationSource, Visit, bytes_per_sample
from outcrop.models.model import Layer, Visitor

if TYPE_CHECKING:
    from outcrop.store.reading.activations import Capture

READ_BUDGET = 512 << 20
"""Bytes of values that are read ahead and kept for the groups to come."""


class StoredSource(ActivationSource):
    """Layers of a capture on disk.

    Groups in the order on disk are read as they come. In another order every group has samples of every chunk, and
    chunks are read whole: so a window of many groups is read at once, in the order on disk, and kept. A shuffled pass
    reads everything once for every budget's worth of values; it costs as much as a sequential one where all fit.

    Args:
        capture: Complete for the given layers.
        layers: What to visit.
        memory_budget: Bytes of values that may be kept.
    """

    def __init__(self, capture: "Capture", layers: tuple[Layer, ...], *, memory_budget: int = READ_BUDGET) -> None:
        self.name = capture.model
        self.mode = capture.identity.mode
        self.layers = layers
        self._budget = memory_budget
        self._values = {layer.name: capture.values_of(layer.name) for layer in layers}

    def groups(self, order: NDArray[np.int64], group_size: int) -> Iterator[tuple[NDArray[np.int64], Visit]]:
        """Yield groups of ``group_size`` samples, the last one of what remains."""
        fitting = self._budget // max(1, sum(bytes_per_sample(layer) for layer in self.layers))
        window = max(group_size, fitting - fitting % group_size)
        for begin in range(0, len(order), window):
            part = order[begin : begin + window]
            # What is read as it lies needs no memory beyond its group.
            keep = len(part) > group_size and bool((np.diff(part) < 0).any())
            read_once = _Window(self._values, part) if keep else None
            for start in range(0, len(part), group_size):
                chosen = part[start : start + group_size]

                def visit(
                    visitor: Visitor,
                    chosen: NDArray[np.int64] = chosen,
                    start: int = start,
                    read_once: "_Window | None" = read_once,
                ) -> None:
                    import torch

                    window = _Window(self._values, chosen) if read_once is None else read_once
                    first = 0 if read_once is None else start
                    for layer in self.layers:
                        values = window.take(layer.name, slice(first, first + len(chosen)), keep=read_once is not None)
                        visitor(layer, torch.from_numpy(values))

                yield chosen, visit


class _Window:
    """The values of some samples, read when they are first asked for."""

    def __init__(self, values: Any, order: NDArray[np.int64]) -> None:
        self._values = values
        self._positions, self._place = np.unique(order, return_inverse=True)
        self._kept: dict[str, NDArray[Any]] = {}

    def take(self, layer: str, part: slice, *, keep: bool) -> NDArray[Any]:
        """Return the values of a part of the samples, in their order: a copy that is the caller's."""
        rows = self._kept.get(layer)
        if rows is None:
            rows = self._values[layer].rows(self._positions)
            if keep:
                self._kept[layer] = rows
        place = self._place[part]
        if not keep and len(place) == len(rows) and bool((np.diff(place) == 1).all()):
            return rows
        return rows[place]
