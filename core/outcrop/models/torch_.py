"""Any torch network as a model: every module output and functional operation is a layer."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor, nn

from outcrop.errors import InputError, ModelLoadError
from outcrop.models.batch_norm import BatchNorm, check_batch_norm, check_changeable
from outcrop.models.model import InputSpec, Layer, Model, Preprocessing, Visitor
from outcrop.models.module_hooks import is_compiled
from outcrop.models.torch_fingerprint import Attribute, fingerprint_network, watch_writing
from outcrop.models.torch_inputs import assumed_preprocessing, derive_input, state_input
from outcrop.models.watched import Found, WatchedNetwork, evaluation, first_tensor


class RandomWeightsWarning(UserWarning):
    """A network runs with random weights although trained ones were meant."""


class TorchModel(Model):
    """A torch network with named layers.

    Layers are found by watching two runs, so any network works, whatever its control flow. The output of a module and
    that of the last operation inside it are one layer; the other names stay valid as aliases. The network runs in
    evaluation mode, but for ``batch_norm``, and is left in the mode that it was in.

    Args:
        network: Any module; not copied.
        name: Short name; by default the class of the network.
        source: The reference it was loaded from.
        inputs: What it takes; by default derived from its first layer by trying.
        input_shape: Shape of one sample, for a network with a single input; instead of ``inputs``.
        keywords: Whether inputs are passed by name.
        device: ``cpu``, ``cuda``, ...; ``auto`` is CUDA where there is one; None leaves the network where it is.
        preprocessing: How an image becomes its input; by default, for a network of colour images, resized and cropped
            to its size, with pixels in [0, 1].
        classes: Names of the logits.
        attention_maps: Whether what each token attends to is a layer where attention is fused and never writes it
            down: ``blocks.0.attn.softmax`` (head, token, token_key), computed beside it from the same queries and keys.
        batch_norm: ``evaluation``, or ``batch``: batch norm normalises with the statistics of the batch at hand, as in
            training; running statistics are neither used nor updated, and everything else stays in evaluation mode. A
            sample's values then depend on its batch, and those of a smaller last batch on its few samples: choose a
            number of samples that the batch size divides.

    Raises:
        ModelLoadError: The input shape is not known, the device is not there, or there is no batch norm to change.
    """

    mode: BatchNorm

    def __init__(
        self,
        network: nn.Module,
        *,
        name: str | None = None,
        source: str | None = None,
        inputs: Sequence[InputSpec] | None = None,
        input_shape: Sequence[int] | None = None,
        keywords: bool = False,
        device: str | None = None,
        preprocessing: Preprocessing | None = None,
        classes: Sequence[str] | None = None,
        attention_maps: bool = False,
        batch_norm: BatchNorm = "evaluation",
    ) -> None:
        network = getattr(network, "_orig_mod", network)  # what torch.compile wraps; compiled code has no hooks
        if isinstance(network, torch.jit.ScriptModule):
            raise ModelLoadError(
                f"{network.original_name} is a TorchScript module, whose inner values cannot be seen; "
                "give the torch.nn.Module that it was made from, or export it to ONNX and load onnx:PATH."
            )
        self.network: nn.Module = network
        self.name = name or type(network).__name__
        self.mode = check_batch_norm(batch_norm, self.name)
        self.source = source or _reference(network, self.mode)
        self.classes = tuple(classes) if classes is not None else None
        self._keywords = keywords
        self._attention_maps = attention_maps
        self._written: set[Attribute] = set()
        if self.mode == "batch":
            check_changeable(network, self.name)
        if device is not None:
            self._move(device)
        if inputs is not None:
            self.inputs = tuple(inputs)
        elif input_shape is not None:
            self.inputs = (state_input(network, input_shape),)
        else:
            with evaluation(network), watch_writing(network, self._written):
                self.inputs = (derive_input(network, device=self.device),)
        self.preprocessing = preprocessing or assumed_preprocessing(self.inputs)

    def _move(self, device: str) -> None:
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            self.network.to(device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise ModelLoadError(f"Model {self.name!r} cannot run on device {device!r}: {reason}") from error

    @property
    def device(self) -> str:
        """Where the network runs: where its first weight is."""
        weight = next(iter((*self.network.parameters(), *self.network.buffers())), None)
        return "cpu" if weight is None else str(weight.device)

    @property
    def fingerprint(self) -> str:
        """Return a hash of weights, structure and code; made anew each time, since weights may alter unnoticed.

        Cost: one read of the weights; keep it while the network stays as it is.
        """
        _ = self._found  # what a run overwrites is known only after one
        return fingerprint_network(self.network, written=self._written)

    @cached_property
    def layers(self) -> tuple[Layer, ...]:  # type: ignore[override] # found when first asked for: it takes two runs
        """All layers, in execution order."""
        return tuple(captured.layer for captured in self._found.listing.layers)

    @property
    def aliases(self) -> Mapping[str, str]:
        """Layers by their other names: of modules that hand a value on, and of the operation that ends a block."""
        return self._found.listing.aliases

    def layer(self, name: str) -> Layer:
        """Return a layer by its name or alias.

        Raises:
            LayerNotFoundError: No such layer; near names are suggested.
        """
        return super().layer(self.aliases.get(name, name))

    def visit(self, inputs: Mapping[str, Tensor], layers: Collection[str], visitor: Visitor) -> None:
        """Run one batch and call ``visitor(layer, values)`` for each of the named layers, in execution order.

        Raises:
            InputError: The inputs do not fit the model, or do not pass a layer.
            LayerNotFoundError: There is no such layer.
        """
        by_name = {captured.layer.name: captured for captured in self._found.listing.layers}
        wanted = [by_name[name] for name in {self.layer(name).name: None for name in layers}]
        self.check_inputs(inputs)
        found = self._found
        self._watched.visit(wanted, visitor, inputs, watch=found.watch, copy=found.alters_inputs)

    def check_inputs(self, inputs: Mapping[str, Tensor]) -> None:
        """Compare a batch with what the model takes.

        Raises:
            InputError: An input is missing or has another shape; how to state that shape is told.
        """
        try:
            super().check_inputs(inputs)
        except InputError as error:
            given = inputs.get(self.inputs[0].name)
            if len(self.inputs) != 1 or self._keywords or given is None or not len(given):
                raise
            shape = tuple(given.shape[1:])
            text = "x".join(map(str, shape))
            raise InputError(
                f"{error} To run it on that shape, load it with input_shape={shape} or '?input_shape={text}'."
            ) from error

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the first tensor that the network returns for one batch.

        Raises:
            InputError: The inputs do not fit the model.
            ModelLoadError: The network returns no tensor.
        """
        self.check_inputs(inputs)
        arguments, keywords = self._watched.arguments(inputs, copy=self._found.alters_inputs)
        with self._watched.running(), torch.no_grad():
            output = self.network(*arguments, **keywords)
        return first_tensor(output, self.name)

    def parts(self) -> frozenset[int] | None:
        """Return the identities of its modules, which keep what they like while they run, and of its buffers.

        None where it is not on the CPU, whose cores it would share, where samples depend on one another, and where
        parts are compiled, as compilers are told for the whole process to let it run as it is.
        """
        modules = tuple(self.network.modules())
        if self.device != "cpu" or self.mode != "evaluation" or any(is_compiled(module) for module in modules):
            return None
        return frozenset(map(id, (*modules, *self.network.buffers())))

    @property
    def unseen(self) -> str | None:
        """What of the network cannot be seen, and why: its layers lack it. None where everything is seen."""
        return self._found.unseen

    @property
    def _watched(self) -> WatchedNetwork:
        return WatchedNetwork(self.network, self.name, self.inputs, self._keywords, self.device, self.mode)

    @cached_property
    def _found(self) -> Found:
        with watch_writing(self.network, self._written):
            return replace(self._watched, batch_norm="evaluation").find(attention_maps=self._attention_maps)


def _reference(network: nn.Module, mode: BatchNorm) -> str:
    """Return what tells where a network that was given as an object is from, and how it runs."""
    made = f"python:{type(network).__module__}:{type(network).__qualname__}"
    return made if mode == "evaluation" else f"{made}?batch_norm={mode}"
