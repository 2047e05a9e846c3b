"""What consumes activations: fed inside a live forward pass, from a study on disk, or on many workers and merged."""

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from outcrop.models.model import Layer

if TYPE_CHECKING:
    from torch import Tensor


class Accumulator(ABC):
    """Reduces streamed activations to a result whose size does not grow with the number of samples.

    The engine calls, for every pass, ``begin_pass``, then for every sample group ``update`` once per model and
    layer (in execution order, one model after the other) and ``end_batch``; finally ``finish``.

    Attributes:
        group_size: Number of samples that every group but the last must have, or None where any will do.
    """

    group_size: int | None = None

    def begin_pass(self, index: int) -> None:  # noqa: B027 - optional for implementers
        """Prepare for pass ``index`` over the samples, from 0."""

    @abstractmethod
    def update(self, model: str, layer: Layer, sample_index: NDArray[np.int64], values: "Tensor") -> None:
        """Take the values (sample, ...) of one layer for one group; they are valid during the call only."""

    def end_batch(self) -> None:  # noqa: B027 - optional for implementers
        """Take note that every model has seen the group."""

    def needs_pass(self) -> bool:
        """Return whether another pass over the samples is wanted."""
        return False

    @abstractmethod
    def merge(self, other: Self) -> None:
        """Add what another accumulator of the same settings has seen of other samples."""

    @abstractmethod
    def finish(self) -> Any:
        """Return the result."""


class ReducingAccumulator(Accumulator):
    """An accumulator that reduces the values of a layer and then takes them, so that layers can come at the same time.

    What :meth:`reduce` does is the larger part of the work, and needs nothing of other layers.
    """

    @abstractmethod
    def reduce(self, model: str, layer: Layer, sample_index: NDArray[np.int64], values: "Tensor") -> Any:
        """Return what is needed of the values (sample, ...) of one layer for one group, valid during the call only.

        The groups of one layer come one after the other; different models, and different layers of a stored one, may
        come at the same time, from different threads, and may be a few groups apart.
        """

    @abstractmethod
    def take(self, model: str, layer: Layer, sample_index: NDArray[np.int64], reduced: Any) -> None:
        """Take what :meth:`reduce` has returned, in the order in which :meth:`update` is called."""

    def reduced_bytes(self, layer: Layer, samples: int) -> int:
        """Return how much memory what is returned for one layer takes, at most; as much as its values by default."""
        return 8 * samples * math.prod(layer.shape)

    def update(self, model: str, layer: Layer, sample_index: NDArray[np.int64], values: "Tensor") -> None:
        """Take the values (sample, ...) of one layer for one group; they are valid during the call only."""
        self.take(model, layer, sample_index, self.reduce(model, layer, sample_index, values))
