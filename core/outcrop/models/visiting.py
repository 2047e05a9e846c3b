"""Hand the values of chosen layers to a visitor while a torch network runs, and stop after the last."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from torch import Tensor, nn

from outcrop.errors import InputError
from outcrop.models.execution import Execution, Frame, Key, Watch
from outcrop.models.listing import CapturedLayer
from outcrop.models.model import Layer, Visitor


class _Done(BaseException):
    """Ends a forward pass; no Exception, so that a network's own handlers do not swallow it."""


class Visit(Execution):
    """One watched run that calls a visitor for each of the given layers once."""

    def __init__(self, network: nn.Module, watch: Watch, layers: Iterable[CapturedLayer], visitor: Visitor) -> None:
        super().__init__(network, watch)
        self._wanted: dict[Key, CapturedLayer] = {captured.key: captured for captured in layers}
        self._visitor = visitor
        self._batch = 0

    def complete(
        self, inputs: Mapping[str, Tensor], arguments: Sequence[Tensor], keywords: Mapping[str, Tensor]
    ) -> None:
        """Run until the last layer has been visited.

        Raises:
            InputError: The run did not come by a layer, or its shape differs from the one that is listed, or it has
                not one entry for each sample of the batch.
        """
        self._batch = len(next(iter(inputs.values())))
        with suppress(_Done):
            for name, tensor in inputs.items():
                self._offer((name, 0), tensor)
                self.next_key(name)
            self.run(arguments, keywords)
        if self._wanted:
            missed = ", ".join(repr(captured.layer.name) for captured in self._wanted.values())
            raise InputError(
                f"The network took another path on this batch and did not compute {missed}; "
                "select layers that every input passes."
            )

    def wants(self, key: Key, /) -> bool:
        """Return whether a value is one of the layers still to be visited."""
        return key in self._wanted

    def operation_value(self, key: Key, _operation: str, value: Tensor, _note: Any, /) -> None:
        """Take a value that a function has returned."""
        self._offer(key, value)

    def module_value(self, key: Key, _frame: Frame, _position: int, value: Tensor, /) -> None:
        """Take a value that a module has returned."""
        self._offer(key, value)

    def _offer(self, key: Key, value: Tensor) -> None:
        captured = self._wanted.pop(key, None)
        if captured is None:
            return
        _check_shape(captured, value)
        _check_samples(captured, value, self._batch)
        self._visitor(captured.layer, captured.by_sample(value).detach())
        if not self._wanted:
            raise _Done


def _check_shape(captured: CapturedLayer, value: Tensor) -> None:
    layer: Layer = captured.layer
    found = tuple(size for position, size in enumerate(value.shape) if position != captured.sample_dimension)
    if captured.per_sample != 1:
        found = (captured.per_sample, *found)
    if found != layer.shape or value.shape[captured.sample_dimension] % captured.per_sample:
        raise InputError(
            f"Layer {layer.name!r} has the shape {layer.shape} per sample, and {tuple(value.shape)} on this batch; "
            "give samples of the shape that the model was loaded for."
        )


def _check_samples(captured: CapturedLayer, value: Tensor, batch: int) -> None:
    found = value.shape[captured.sample_dimension] // captured.per_sample
    if found != batch:
        raise InputError(
            f"The network took another path for this batch of {batch}: layer {captured.layer.name!r} came with {found} "
            "samples (it may work through large batches in parts); use a smaller batch or select other layers."
        )
