"""What a reduction is: fewer or smaller values of a layer, made while a batch runs."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from outcrop.errors import InputError
from outcrop.models.model import Layer

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Reduction(ABC):
    """Makes less of a layer before it is gathered, compared or stored.

    A reduction depends on nothing but its parameters and the layer: whatever the machine and the batch, the same layer
    is reduced in the same way, and a layer that there is nothing to reduce of is left as it is. No layer gets more
    values than it has.
    """

    @property
    @abstractmethod
    def description(self) -> str:
        """Return the text that :func:`parse_reduction` makes this reduction of, with every parameter in it."""

    @abstractmethod
    def reduced(self, layer: Layer) -> Layer:
        """Return a layer with the shape, dims and dtype that its reduced values have."""

    @abstractmethod
    def apply(self, layer: Layer, values: "Tensor") -> "Tensor":
        """Return the reduced values (sample, ...) of one batch; the values themselves where nothing is reduced.

        Args:
            layer: As the network computes it.
            values: (sample, ...), left as they are.

        Raises:
            InputError: The values have not the shape of the layer.
            ParameterError: The reduction cannot hold them.
        """

    def details(self, layer: Layer) -> dict[str, Any]:  # noqa: ARG002 - for those who have some
        """Return what else must be known of the reduced values of a layer, as plain JSON values."""
        return {}

    def attributes(self, layer: Layer) -> dict[str, Any]:
        """Return what the array of the reduced values says about them, as plain JSON values.

        Args:
            layer: As the network computes it.
        """
        return {
            "reduction": self.description,
            "reduction_applied": self.applied(layer),
            "unreduced_shape": list(layer.shape),
            "unreduced_dims": list(layer.dims),
            "unreduced_dtype": layer.dtype,
            **self.details(layer),
        }

    def applied(self, layer: Layer) -> str:
        """Return the part of the description that changes this layer; ``none`` where nothing does."""
        return "none" if self.reduced(layer) == layer else self.description


@dataclass(frozen=True)
class Chain(Reduction):
    """Several reductions, one after the other.

    Attributes:
        parts: The first is applied first.
    """

    parts: tuple[Reduction, ...]

    @property
    def description(self) -> str:
        """Return the descriptions of the parts, joined by ``+``."""
        return "+".join(part.description for part in self.parts)

    def reduced(self, layer: Layer) -> Layer:
        """Return the layer that the last part leaves."""
        for part in self.parts:
            layer = part.reduced(layer)
        return layer

    def apply(self, layer: Layer, values: "Tensor") -> "Tensor":
        """Return the values that the last part leaves."""
        for part in self.parts:
            values = part.apply(layer, values)
            layer = part.reduced(layer)
        return values

    def details(self, layer: Layer) -> dict[str, Any]:
        """Return what any part has to say."""
        found: dict[str, Any] = {}
        for part in self.parts:
            found |= part.details(layer)
            layer = part.reduced(layer)
        return found

    def applied(self, layer: Layer) -> str:
        """Return the parts that change this layer."""
        names = []
        for part in self.parts:
            names.append(part.applied(layer))
            layer = part.reduced(layer)
        return "+".join(name for name in names if name != "none") or "none"


def summing_type(dtype: str) -> str:
    """Return the type that values are summed in, and that sums of them have: half precision is widened to float32."""
    return "float32" if dtype in ("float16", "bfloat16", "float32") else "float64"


def torch_type(dtype: str) -> "torch.dtype":
    """Return the torch type of a name."""
    import torch

    found = getattr(torch, dtype)
    assert isinstance(found, torch.dtype)
    return found


def check_shape(layer: Layer, values: "Tensor") -> None:
    """Compare values with the layer that they are of.

    Raises:
        InputError: They have another shape.
    """
    found = tuple(values.shape[1:])
    if found != layer.shape:
        raise InputError(
            f"Layer {layer.name!r} has the shape {layer.shape} per sample, and {found} on this batch; its reduction is "
            "made for the first. Bring the samples to one size, or leave the layer out."
        )
