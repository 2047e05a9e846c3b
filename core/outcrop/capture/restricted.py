"""Some of the samples, or some of the layers, of a stream that others see whole."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from outcrop.capture.accumulator import Accumulator
from outcrop.errors import AnalysisError, ParameterError
from outcrop.models.model import Layer

if TYPE_CHECKING:
    from torch import Tensor


class RestrictedAccumulator(Accumulator):
    """Shows an accumulator some of the samples and layers only, so that several can share one reading of the data.

    One for each half of the samples, in one stream, finds what each half has without the other. Groups keep the size
    that the stream has, less what is left out; a group of which no sample or layer is chosen is not shown. Rows that
    are chosen are copied, in the memory order that they have; whole groups are handed on as they are.

    Attributes:
        inner: What is fed.
        samples: (sample position,), whether it is shown; None where all are.
        layers: Model and name of those that are shown; None where all are.
    """

    def __init__(
        self,
        inner: Accumulator,
        *,
        samples: NDArray[np.bool_] | None = None,
        layers: Collection[tuple[str, str]] | None = None,
    ) -> None:
        """Prepare for the first pass.

        Args:
            inner: What is fed; any but one that takes groups of one size, where samples are left out.
            samples: (sample position,), whether it is shown; by default all are.
            layers: Model and name of those that are shown; by default all are.

        Raises:
            ParameterError: Samples are not one truth value each, none is chosen, or the inner accumulator takes groups
                of one size.
        """
        if samples is not None:
            if samples.dtype != np.bool_ or samples.ndim != 1:
                raise ParameterError(
                    f"The samples shown are one truth value for each; got {samples.dtype} of shape {samples.shape}."
                )
            if not samples.any():
                raise ParameterError(f"None of {len(samples)} samples is shown; choose at least one.")
            if inner.group_size is not None:
                raise ParameterError(
                    f"{type(inner).__name__} takes groups of {inner.group_size} samples, which leaving samples out "
                    "would make smaller; restrict its layers only, or stream a subset of the data."
                )
        if layers is not None and not layers:
            raise ParameterError("No layer is shown; name the model and the name of at least one.")
        self.inner = inner
        self.group_size = inner.group_size
        self.samples = None if samples is None else samples.copy()
        self.layers = None if layers is None else frozenset(layers)
        self._shown = False

    def begin_pass(self, index: int) -> None:
        """Prepare for pass ``index`` over the samples, from 0."""
        self._shown = False
        self.inner.begin_pass(index)

    def update(self, model: str, layer: Layer, sample_index: NDArray[np.int64], values: "Tensor") -> None:
        """Hand on the chosen values (sample, ...) of one layer for one group.

        Raises:
            AnalysisError: A sample lies beyond those that are known to be shown or not.
        """
        if self.layers is not None and (model, layer.name) not in self.layers:
            return
        if self.samples is not None and len(sample_index):
            if sample_index.max() >= len(self.samples):
                raise AnalysisError(
                    f"Sample {sample_index.max()} came, and it is known of {len(self.samples)} samples only whether "
                    "they are shown; give one truth value for every sample of the data."
                )
            chosen = self.samples[sample_index]
            if not chosen.any():
                return
            if not chosen.all():
                sample_index = sample_index[chosen]
                values = values[np.flatnonzero(chosen)]
        self._shown = True
        self.inner.update(model, layer, sample_index, values)

    def end_batch(self) -> None:
        """Take note that every model has seen the group."""
        if self._shown:
            self.inner.end_batch()
        self._shown = False

    def needs_pass(self) -> bool:
        """Return whether another pass over the samples is wanted."""
        return self.inner.needs_pass()

    def merge(self, other: Self) -> None:
        """Add what another accumulator of the same samples and layers has seen.

        Raises:
            AnalysisError: Samples or layers differ.
        """
        if self.layers != other.layers or not _equal(self.samples, other.samples):
            raise AnalysisError("Only accumulators of the same samples and layers can be merged; theirs differ.")
        self.inner.merge(other.inner)

    def finish(self) -> Any:
        """Return the result of the inner accumulator."""
        return self.inner.finish()


def _equal(first: NDArray[np.bool_] | None, second: NDArray[np.bool_] | None) -> bool:
    if first is None or second is None:
        return first is second
    return np.array_equal(first, second)
