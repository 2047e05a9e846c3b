"""Activations of a study as a source for analyses."""

import math
from collections.abc import Iterator
from copy import copy
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self

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

    Groups in the order on disk are read as they come, and so are others where single samples can be read. Where chunks
    can be read as a whole only, compressed or from an object store, a shuffled group would read all of them: so a
    window of many groups is read at once, in the order on disk, and kept. A shuffled pass then reads everything once
    for every budget's worth of values; it costs as much as a sequential one where all fit.

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

    def uses(self) -> frozenset[int]:
        """Return nothing: reading changes nothing."""
        return frozenset()

    def split(self, count: int) -> list[Self]:
        """Return sources of about equally many bytes each, in the order of the layers."""
        sizes = np.cumsum([0, *map(bytes_per_sample, self.layers)])
        ends = [int(np.abs(sizes - sizes[-1] * part / count).argmin()) for part in range(1, count)]
        parts = [self.layers[start:end] for start, end in pairwise([0, *ends, len(self.layers)])]
        return [self._part(part, sum(map(bytes_per_sample, part)) / max(1, sizes[-1])) for part in parts if part]

    def _part(self, layers: tuple[Layer, ...], share: float) -> Self:
        """Return a source of some layers, with its share of the memory."""
        made = copy(self)
        made.layers, made._budget = layers, math.floor(self._budget * share)
        return made

    def groups(self, order: NDArray[np.int64], group_size: int) -> Iterator[tuple[NDArray[np.int64], Visit]]:
        """Yield groups of ``group_size`` samples, the last one of what remains."""
        whole = [layer for layer in self.layers if not self._values[layer.name].reads_samples_alone]
        fitting = self._budget // max(1, sum(bytes_per_sample(layer) for layer in whole))
        span = max(group_size, fitting - fitting % group_size)
        for begin in range(0, len(order), span):
            part = order[begin : begin + span]
            # What is read as it lies needs no memory beyond its group.
            keep = len(part) > group_size and bool((np.diff(part) < 0).any())
            window = _Window(self._values, part) if whole and keep else None
            for start in range(0, len(part), group_size):
                chosen = part[start : start + group_size]

                def visit(
                    visitor: Visitor,
                    chosen: NDArray[np.int64] = chosen,
                    start: int = start,
                    window: "_Window | None" = window,
                ) -> None:
                    import torch

                    group = _Window(self._values, chosen)
                    for layer in self.layers:
                        if window is None or self._values[layer.name].reads_samples_alone:
                            values = group.take(layer.name, slice(0, len(chosen)), keep=False)
                        else:
                            values = window.take(layer.name, slice(start, start + len(chosen)), keep=True)
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
