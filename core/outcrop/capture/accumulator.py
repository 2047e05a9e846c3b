"""What consumes activations: fed inside a live forward pass, from a study on disk, or on many workers and merged."""

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
