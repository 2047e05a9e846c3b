"""Where streamed activations come from: a live model, or a capture on disk."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from outcrop.capture.buffers import GatheringBuffers, spill_bytes
from outcrop.errors import InputError
from outcrop.models.model import Layer, Model, Visitor

if TYPE_CHECKING:
    from torch import Tensor

    from outcrop.data.dataset import Batch, Data

Visit = Callable[[Visitor], None]
"""Calls a visitor for every selected layer of one sample group."""

REGROUPING_BUDGET = 1 << 30
"""Bytes of memory that gathered layers may hold where a model's forward batch differs from the sample group."""

FORWARD_BYTES = 1 << 31
"""Bytes of the largest layer of one forward batch; the network itself holds a few of that size at a time."""


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
    size, or whose activations would not fit, runs smaller batches whose values are gathered into the group, in
    memory up to the budget and in a temporary file beyond it.

    Args:
        model: The network.
        layers: Selected layers.
        data: The samples.
        memory_budget: Bytes of memory that gathered values may hold.
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
        fits = self.model.batch_size is None or len(order) % group_size == 0
        if forward == group_size and fits:
            yield from self._whole_batches(order, group_size)
        else:
            for start in range(0, len(order), group_size):
                chosen = order[start : start + group_size]
                yield chosen, self._gathering_visit(chosen, forward)

    def _whole_batches(self, order: NDArray[np.int64], group_size: int) -> Iterator[tuple[NDArray[np.int64], Visit]]:
        from outcrop.data import batches

        for batch in batches(self._data, self.model, batch_size=group_size, order=order):

            def visit(visitor: Visitor, batch: "Batch" = batch) -> None:
                self._visit(batch, self.layers, visitor)

            yield batch.sample_index, visit

    def _visit(self, batch: "Batch", layers: tuple[Layer, ...], visitor: Visitor) -> None:
        def check(layer: Layer, values: "Tensor") -> None:
            if len(values) != len(batch.sample_index):
                raise InputError(
                    f"Layer {layer.name!r} of {self.name!r} gave {len(values)} rows for {len(batch.sample_index)} "
                    "samples; a layer must have one for each. Leave it out of the selection."
                )
            visitor(layer, values)

        self.model.visit(batch.inputs, [layer.name for layer in layers], check)

    def _gathering_visit(self, chosen: NDArray[np.int64], forward: int) -> Visit:
        def visit(visitor: Visitor) -> None:
            for part in self._parts(len(chosen)):
                with GatheringBuffers(self._budget) as buffers:
                    self._gather(chosen, forward, part, buffers)
                    for layer in part:
                        visitor(layer, buffers.pop(layer.name))

        return visit

    def _gather(
        self, chosen: NDArray[np.int64], forward: int, part: tuple[Layer, ...], buffers: GatheringBuffers
    ) -> None:
        from outcrop.data import batches

        # A network fixed at its batch size takes a padded last batch; the padding's values are dropped.
        padding = -len(chosen) % forward if self.model.batch_size else 0
        padded = np.concatenate([chosen, np.repeat(chosen[-1:], padding)])
        start = 0

        def keep(layer: Layer, values: "Tensor") -> None:
            room = buffers.of(layer.name, values, len(chosen))[start : start + len(values)]
            room.copy_(values[: len(room)])

        for batch in batches(self._data, self.model, batch_size=forward, order=padded):
            self._visit(batch, part, keep)
            start += len(batch.sample_index)

    def _parts(self, samples: int) -> Iterator[tuple[Layer, ...]]:
        """Yield layers that fit together, in memory and on the temporary disk: all of them unless they are huge."""
        room = self._budget + spill_bytes()
        part: list[Layer] = []
        held = 0
        for layer in self.layers:
            size = bytes_per_sample(layer) * samples
            if part and held + size > room:
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
    """Return how many bytes one sample of a layer takes, in memory and in a study."""
    # Numpy has no bfloat16: such values are kept as float32.
    itemsize = 4 if layer.dtype == "bfloat16" else np.dtype(layer.dtype).itemsize
    return math.prod(layer.shape) * itemsize
