"""Where streamed activations come from: a live model, or a capture on disk."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import closing, nullcontext
from copy import copy
from itertools import islice
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from outcrop.capture.allocation import kept_memory
from outcrop.capture.buffers import GatheringBuffers, spill_bytes
from outcrop.capture.reduction import Reduction
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
        layers: Selected layers, in topological order, as they are visited.
        mode: That the model runs in, or ran in: see :class:`outcrop.models.Model`.
    """

    name: str
    layers: tuple[Layer, ...]
    mode: str = "evaluation"

    @abstractmethod
    def groups(self, order: NDArray[np.int64], group_size: int) -> Iterator[tuple[NDArray[np.int64], Visit]]:
        """Yield consecutive groups of samples of an order, each with a function that visits its layers once."""

    def uses(self) -> frozenset[int] | None:
        """Return the identities of what a visit changes while it runs, and another source must not use meanwhile.

        None, as by default, where sources are to be visited one after the other.
        """
        return None

    def split(self, _count: int) -> list[Self]:
        """Return sources of some layers each, in order, at most so many, that may be visited at the same time.

        Itself alone, as by default, where its layers come one after the other.
        """
        return [self]

    def of_layers(self, names: Collection[str]) -> Self:
        """Return the same source with some of its layers only; no other is computed or read."""
        made = copy(self)
        made.layers = tuple(layer for layer in self.layers if layer.name in names)
        return made


class LiveSource(ActivationSource):
    """Activations computed as they are asked for.

    A group is one forward batch wherever the network takes one of that size. A network that is fixed at another batch
    size, or whose activations would not fit, runs smaller batches whose values are gathered into the group, in
    memory up to the budget and in a temporary file beyond it. Values are reduced before they are gathered.

    Args:
        model: The network.
        layers: Selected layers, reduced or not.
        data: The samples.
        memory_budget: Bytes of memory that gathered values may hold.
        reduction: What is made of the values of each layer.
    """

    def __init__(
        self,
        model: Model,
        layers: tuple[Layer, ...],
        data: "Data",
        *,
        memory_budget: int = REGROUPING_BUDGET,
        reduction: Reduction | None = None,
    ) -> None:
        self.model = model
        self.name = model.name
        self.mode = model.mode
        self._data = data
        self._budget = memory_budget
        self._reduction = reduction
        if reduction is not None:
            layers = tuple(reduction.reduced(model.layer(layer.name)) for layer in layers)
        self.layers = layers
        self._by_name = {layer.name: layer for layer in layers}

    def groups(self, order: NDArray[np.int64], group_size: int) -> Iterator[tuple[NDArray[np.int64], Visit]]:
        """Yield groups of ``group_size`` samples, the last one of what remains.

        Raises:
            InputError: Values depend on the batch, and a group of that size cannot be one.
        """
        forward = forward_batch_size(self.model, group_size)
        if self.mode != "evaluation" and forward < min(group_size, len(order)):
            raise InputError(
                f"Batch norm of model {self.name!r} takes its statistics from the batch, and a group of {group_size} "
                f"samples does not fit into one forward pass: {forward} do. Ask for batches of {forward}."
            )
        whole = 0
        with kept_memory():
            if forward == group_size:
                # A network that is fixed at this size takes all groups but a smaller last one as they are.
                whole = len(order) if self.model.batch_size is None else len(order) // group_size * group_size
                yield from self._whole_batches(order[:whole], group_size)
            yield from self._gathered_groups(order[whole:], group_size, forward)

    def uses(self) -> frozenset[int] | None:
        """Return the parts of the model."""
        return self.model.parts()

    def over(self, data: "Data") -> Self:
        """Return the same layers of the same model over other samples."""
        made = copy(self)
        made._data = data
        return made

    def _whole_batches(self, order: NDArray[np.int64], group_size: int) -> Iterator[tuple[NDArray[np.int64], Visit]]:
        for batch in self._batches(order, group_size):

            def visit(visitor: Visitor, batch: "Batch" = batch) -> None:
                self._visit(batch, self.layers, visitor)

            yield batch.sample_index, visit

    def _visit(self, batch: "Batch", layers: tuple[Layer, ...], visitor: Visitor) -> None:
        def receive(layer: Layer, values: "Tensor") -> None:
            if len(values) != len(batch.sample_index):
                raise InputError(
                    f"Layer {layer.name!r} of {self.name!r} gave {len(values)} rows for {len(batch.sample_index)} "
                    "samples; a layer must have one for each. Leave it out of the selection."
                )
            if self._reduction is None:
                visitor(layer, values)
            else:
                visitor(self._by_name[layer.name], self._reduction.apply(layer, values))

        self.model.visit(batch.inputs, [layer.name for layer in layers], receive)

    def _gathered_groups(
        self, order: NDArray[np.int64], group_size: int, forward: int
    ) -> Iterator[tuple[NDArray[np.int64], Visit]]:
        parts = list(self._parts(min(group_size, len(order))))
        if len(parts) != 1 or group_size % forward:
            for start in range(0, len(order), group_size):
                chosen = order[start : start + group_size]
                yield chosen, self._gathering_visit(chosen, forward, parts)
            return
        # No batch lies in two groups, so those of the next are prepared while this one ends, and one room does for all.
        with GatheringBuffers(self._budget) as buffers, closing(self._padded_batches(order, forward)) as batches:
            for start in range(0, len(order), group_size):
                chosen = order[start : start + group_size]
                own = islice(batches, -(-len(chosen) // forward))
                yield chosen, self._gathering_visit(chosen, forward, parts, [own], buffers)
                for _ in own:
                    pass  # of a group that was not visited

    def _gathering_visit(
        self,
        chosen: NDArray[np.int64],
        forward: int,
        parts: Sequence[tuple[Layer, ...]],
        prepared: "Sequence[Iterator[Batch]]" = (),
        kept: GatheringBuffers | None = None,
    ) -> Visit:
        unused = list(prepared)

        def visit(visitor: Visitor) -> None:
            for part in parts:
                # What is prepared can be taken once; a second part or visit has its batches prepared anew.
                batches = unused.pop() if unused else self._padded_batches(chosen, forward)
                with GatheringBuffers(self._budget) if kept is None else nullcontext(kept) as buffers:
                    self._gather(batches, chosen, part, buffers)
                    for layer in part:
                        visitor(layer, buffers.gathered(layer.name, len(chosen)))

        return visit

    def _gather(
        self,
        batches: "Iterator[Batch]",
        chosen: NDArray[np.int64],
        part: tuple[Layer, ...],
        buffers: GatheringBuffers,
    ) -> None:
        start = 0

        def keep(layer: Layer, values: "Tensor") -> None:
            room = buffers.of(layer.name, values, len(chosen))[start : start + len(values)]
            room.copy_(values[: len(room)])

        for batch in batches:
            self._visit(batch, part, keep)
            start += len(batch.sample_index)

    def _padded_batches(self, order: NDArray[np.int64], forward: int) -> "Generator[Batch]":
        """Return the forward batches of an order; those of a network fixed at its batch size are padded to it.

        What is padded comes last, and its values are dropped.
        """
        padding = -len(order) % forward if self.model.batch_size else 0
        return self._batches(np.concatenate([order, np.repeat(order[-1:], padding)]), forward)

    def _batches(self, order: NDArray[np.int64], size: int) -> "Generator[Batch]":
        from outcrop.data import batches

        yield from batches(self._data, self.model, batch_size=size, order=order)

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
    """Return the batch size of a model: its own where it is fixed, else what fits in memory, at most ``wanted``.

    Where not all that is wanted fits, it is cut into equal batches if it can be.
    """
    if model.batch_size is not None:
        return model.batch_size
    largest = max((bytes_per_sample(layer) for layer in model.layers), default=1)
    fitting = max(1, min(wanted, FORWARD_BYTES // max(1, largest)))
    return next((size for size in range(fitting, fitting // 2, -1) if wanted % size == 0), fitting)


def bytes_per_sample(layer: Layer) -> int:
    """Return how many bytes one sample of a layer takes, in memory and in a study."""
    # Numpy has no bfloat16: such values are kept as float32.
    itemsize = 4 if layer.dtype == "bfloat16" else np.dtype(layer.dtype).itemsize
    return math.prod(layer.shape) * itemsize
