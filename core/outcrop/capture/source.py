"""Where streamed activations come from: a live model, or a capture on disk."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from outcrop.models.model import Layer, Model, Visitor

if TYPE_CHECKING:
    from torch import Tensor

    from outcrop.data.dataset import Batch, Data

Visit = Callable[[Visitor], None]
"""Calls a visitor for every selected layer of one sample group."""

REGROUPING_BUDGET = 1 << 30
"""Bytes that buffered layers may hold where a model's forward batch differs from the sample group."""

FORWARD_BYTES = 1 << 30
"""Bytes of one forward batch's inputs and largest layer values that a live model is given at a time."""


class ActivationSource(ABC):
    """The selected layers of one model over one data set, visited group by group.

    Attributes:
        name: Of the model.
        layers: Selected layers, in topological order.
    """

    name: str
    layers: tuple[Layer, ...]

    @abstractmethod
    def groups(self, order: NDArray[np.int64], group_size: int) -> Iterator[tuple[NDArray[np.int64], Visit]]:
        """Yield consecutive groups of samples of an order, each with a function that visits its layers once."""


class LiveSource(ActivationSource):
    """Activations computed as they are asked for.

    A group is one forward batch wherever the network takes one of that size. A network that is fixed at another batch
    size, or whose activations would not fit, runs smaller batches whose values are gathered into the group;
    layers that do not fit the budget together are gathered in turns, each with forward passes of its own.

    Args:
        model: The network.
        layers: Selected layers.
        data: The samples.
        memory_budget: Bytes that gathered values may hold.
    """

    def __init__(
        self, model: Model, layers: tuple[Layer, ...], data: "Data", *, memory_budget: int = REGROUPING_BUDGET
    ) -> None:
        self.model = model
        self.name = model.name
        self.layers = layers
        self._data = data
        self._budget = memory_budget

    def groups(self, order: NDArray[np.int64], group_size: int) -> Iterator[tuple[NDArray[np.int64], Visit]]:
        """Yield groups of ``group_size`` samples, the last one of what remains."""
        forward = forward_batch_size(self.model, group_size)
        if forward == group_size:
            yield from self._whole_batches(order, group_size)
        else:
            for start in range(0, len(order), group_size):
                chosen = order[start : start + group_size]
                yield chosen, self._gathering_visit(chosen, forward)

    def _whole_batches(self, order: NDArray[np.int64], group_size: int) -> Iterator[tuple[NDArray[np.int64], Visit]]:
        from outcrop.data import batches

        names = [layer.name for layer in self.layers]
        for batch in batches(self._data, self.model, batch_size=group_size, order=order):

            def visit(visitor: Visitor, batch: "Batch" = batch) -> None:
                self.model.visit(batch.inputs, names, visitor)

            yield batch.sample_index, visit

    def _gathering_visit(self, chosen: NDArray[np.int64], forward: int) -> Visit:
        def visit(visitor: Visitor) -> None:
            for part in self._parts(len(chosen)):
                gathered = self._gather(chosen, forward, part)
                for layer in part:
                    visitor(layer, gathered.pop(layer.name))

        return visit

    def _gather(self, chosen: NDArray[np.int64], forward: int, part: tuple[Layer, ...]) -> "dict[str, Tensor]":
        import torch

        from outcrop.data import batches

        gathered: dict[str, Tensor] = {}
        # A network fixed at its batch size takes a padded last batch; the padding's values are dropped.
        padding = -len(chosen) % forward if self.model.batch_size else 0
        padded = np.concatenate([chosen, np.repeat(chosen[-1:], padding)])
        start = 0

        def keep(layer: Layer, values: "Tensor") -> None:
            if layer.name not in gathered:
                gathered[layer.name] = torch.empty(
                    (len(chosen), *values.shape[1:]), dtype=values.dtype, device=values.device
                )
            room = gathered[layer.name][start : start + len(values)]
            room.copy_(values[: len(room)])

        for batch in batches(self._data, self.model, batch_size=forward, order=padded):
            self.model.visit(batch.inputs, [layer.name for layer in part], keep)
            start += len(batch.sample_index)
        return gathered

    def _parts(self, samples: int) -> Iterator[tuple[Layer, ...]]:
        part: list[Layer] = []
        held = 0
        for layer in self.layers:
            size = bytes_per_sample(layer) * samples
            if part and held + size > self._budget:
                yield tuple(part)
                part, held = [], 0
            part.append(layer)
            held += size
        if part:
            yield tuple(part)


def forward_batch_size(model: Model, wanted: int) -> int:
    """Return the batch size of a model: its own where it is fixed, else what fits in memory, at most ``wanted``."""
    if model.batch_size is not None:
        return model.batch_size
    largest = max((bytes_per_sample(layer) for layer in model.layers), default=1)
    return max(1, min(wanted, FORWARD_BYTES // max(1, largest)))


def bytes_per_sample(layer: Layer) -> int:
    """Return how many bytes one sample of a layer takes in its own type."""
    itemsize = 2 if layer.dtype in ("float16", "bfloat16") else 8 if layer.dtype in ("float64", "int64") else 4
    return math.prod(layer.shape) * itemsize
