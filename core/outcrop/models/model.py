"""What a model is to the rest of outcrop: named layers that can be visited while a batch runs."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, get_args

from outcrop.errors import InputError, LayerNotFoundError, did_you_mean

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

LayerKind = Literal["input", "conv", "linear", "norm", "act", "add", "attention", "pool", "block", "output", "other"]
LAYER_KINDS: tuple[LayerKind, ...] = get_args(LayerKind)


@dataclass(frozen=True)
class Layer:
    """One value that a network computes, and that can be captured.

    Attributes:
        name: Stable, unique in its model: module path (``layer1.0.bn2``), with ``:0``, ``:1`` for repeated calls,
            or the functional operation under its module (``layer1.0.add``); for ONNX graphs that carry no
            module paths, the name of the value or node.
        kind: What role it plays.
        index: Topological position among all layers of the model.
        shape: Of one sample, without the sample dimension.
        dtype: Such as ``float32``.
        operation: What computes it: module class, function or ONNX operator (``Conv2d``, ``add``, ``Relu``).
        dims: Names of the dimensions of one sample: ``("channel", "y", "x")``, ``("token", "feature")``,
            ``("feature",)``, of attention maps ``("head", "token", "token_key")``; others ``dim_1``, ``dim_2``, ...
    """

    name: str
    kind: LayerKind
    index: int
    shape: tuple[int, ...]
    dtype: str
    operation: str
    dims: tuple[str, ...]


@dataclass(frozen=True)
class InputSpec:
    """One input of a model.

    Attributes:
        name: Keyword or graph input name.
        shape: Of one sample, without the sample dimension; None where any size fits.
        dtype: Such as ``float32`` or ``int64``.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the input of a model.

    Attributes:
        description: Everything that changes the pixels, as text; part of a capture's key.
        transform: Takes an RGB image, returns a float32 tensor (channel, y, x).
        assumed: The model does not say what it expects; this is what most networks of its kind do.
    """

    description: str
    transform: "Callable[[Image], Tensor]"
    assumed: bool = False


class AssumedPreprocessingWarning(UserWarning):
    """Images go into a model that does not say how they are to be preprocessed."""


Visitor = Callable[[Layer, "Tensor"], None]


class Model(ABC):
    """A network with named layers.

    A concrete model sets the attributes below and implements :meth:`visit`, :meth:`forward` and
    :attr:`fingerprint`. Networks are in evaluation mode and run without gradients.

    Attributes:
        name: Short name, unique in a study: ``resnet18``.
        source: The reference it was loaded from: ``timm:resnet18``.
        layers: All layers, in topological order.
        inputs: What it takes.
        preprocessing: For models of images; None where inputs are taken as they are.
        batch_size: The batch size that the network is fixed at, or None.
        classes: Names of the logits, where known.
        mode: ``evaluation``; or ``batch`` where batch norm takes its statistics from the batch at hand, so that the
            values of a sample depend on the batch that it is in.
    """

    name: str
    source: str
    layers: tuple[Layer, ...]
    inputs: tuple[InputSpec, ...]
    preprocessing: Preprocessing | None = None
    batch_size: int | None = None
    classes: tuple[str, ...] | None = None
    mode: str = "evaluation"

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Return a hash of weights and graph: equal for equal functions, on any machine."""

    @abstractmethod
    def visit(self, inputs: "Mapping[str, Tensor]", layers: Collection[str], visitor: Visitor) -> None:
        """Run one batch and call ``visitor(layer, values)`` for each of the named layers, in execution order.

        Args:
            inputs: Tensors (sample, ...) by input name.
            layers: Names of the layers to visit; the forward pass may stop after the last.
            visitor: Receives the values (sample, ...) at the moment they exist, before any in-place operation
                can alter them. They are valid during the call only: reduce or copy them there.

        Raises:
            InputError: The inputs do not fit the model.
        """

    @abstractmethod
    def forward(self, inputs: "Mapping[str, Tensor]") -> "Tensor":
        """Return the (first) output of the network for one batch."""

    @property
    def device(self) -> str:
        """Where the network runs, such as ``cpu`` or ``cuda:0``."""
        return "cpu"

    def parts(self) -> frozenset[int] | None:
        """Return the identities of the objects that a visit may change while it runs.

        Models that have none in common may be visited at the same time, from different threads. None, as by default,
        where a model is to be visited while no other one is.
        """
        return None

    @cached_property
    def _by_name(self) -> dict[str, Layer]:
        return {layer.name: layer for layer in self.layers}

    def layer(self, name: str) -> Layer:
        """Return a layer by its name.

        Raises:
            LayerNotFoundError: No such layer; near names are suggested.
        """
        if name not in self._by_name:
            raise LayerNotFoundError(
                f"Model {self.name!r} has no layer {name!r}.{did_you_mean(name, self._by_name)} "
                f"'outcrop layers {self.source}' lists all {len(self.layers)}."
            )
        return self._by_name[name]

    def check_inputs(self, inputs: "Mapping[str, Tensor]") -> None:
        """Compare a batch with what the model takes.

        Raises:
            InputError: An input is missing or has another shape, or there are no samples.
        """
        for spec in self.inputs:
            if spec.name not in inputs:
                offered = ", ".join(inputs) or "nothing"
                raise InputError(f"Model {self.name!r} takes an input {spec.name!r}; the data offers {offered}.")
            if not len(inputs[spec.name]):
                raise InputError(f"Model {self.name!r} was given no samples of {spec.name!r}; give one or more.")
            found = tuple(inputs[spec.name].shape[1:])
            fits = len(found) == len(spec.shape) and all(
                want is None or want == got for want, got in zip(spec.shape, found, strict=True)
            )
            if not fits:
                raise InputError(
                    f"Model {self.name!r} takes {spec.name!r} of shape {_shape_text(spec.shape)} per sample; "
                    f"the data has {_shape_text(found)}."
                )


def _shape_text(shape: tuple[int | None, ...]) -> str:
    return "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"
