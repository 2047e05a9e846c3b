"""A torch network as it is watched: which layers a run shows, and what of it cannot be seen."""

import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from outcrop.errors import ModelLoadError
from outcrop.models.attention import MAP
from outcrop.models.batch_norm import BatchNorm, batch_statistics
from outcrop.models.discovery import Discovery
from outcrop.models.execution import Watch, named_tensors
from outcrop.models.listing import CapturedLayer, Listing, list_layers
from outcrop.models.model import InputSpec, Layer, Visitor
from outcrop.models.module_hooks import scripted_paths
from outcrop.models.torch_inputs import FOREIGN_ERRORS, sample_inputs, vocabulary_size
from outcrop.models.visiting import Visit


class UnseenOperationsWarning(UserWarning):
    """Some of what a network computes cannot be seen, and is no layer; the outputs of modules around it are."""


@dataclass(frozen=True)
class Found:
    """What watching a network has shown.

    Attributes:
        listing: Its layers.
        alters_inputs: Whether a run overwrites its inputs.
        watch: What could be seen.
        unseen: What could not, and why, in one sentence; None where everything could.
    """

    listing: Listing
    alters_inputs: bool
    watch: Watch
    unseen: str | None


@dataclass(frozen=True)
class WatchedNetwork:
    """A network with what it takes.

    Attributes:
        network: In evaluation mode during runs, and afterwards in the mode that it was in.
        name: For messages.
        inputs: What it takes.
        keywords: Whether inputs are passed by name.
        device: Where it is.
        batch_norm: What batch norm normalises with when layers are visited; they are found in evaluation mode, where
            samples do not depend on one another.
    """

    network: nn.Module
    name: str
    inputs: tuple[InputSpec, ...]
    keywords: bool
    device: str
    batch_norm: BatchNorm = "evaluation"

    def arguments(self, inputs: Mapping[str, Tensor], *, copy: bool) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Return what the network is called with; copied where it overwrites what belongs to the caller."""
        tensors = {spec.name: inputs[spec.name].to(self.device) for spec in self.inputs}
        if copy:
            tensors = {name: tensor.clone() for name, tensor in tensors.items()}
        return ([], tensors) if self.keywords else (list(tensors.values()), {})

    def visit(
        self,
        layers: Sequence[CapturedLayer],
        visitor: Visitor,
        inputs: Mapping[str, Tensor],
        *,
        watch: Watch,
        copy: bool,
    ) -> None:
        """Run one batch and hand the values of some layers to a visitor.

        Raises:
            InputError: The run does not pass a layer.
        """
        if not layers:
            return
        inputs = {spec.name: inputs[spec.name].to(self.device) for spec in self.inputs}
        arguments, keywords = self.arguments(inputs, copy=copy)
        with self.running():
            Visit(self.network, watch, layers, visitor).complete(inputs, arguments, keywords)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Put the network in the mode that it runs in, and back afterwards."""
        batch = self.batch_norm == "batch"
        with evaluation(self.network), batch_statistics(self.network, self.name) if batch else nullcontext():
            yield

    def find(self, *, attention_maps: bool) -> Found:
        """Return what the network computes, found by watching two runs.

        Where the functions between modules cannot be watched, the outputs of modules are found, with a warning.

        Raises:
            ModelLoadError: It does not run on its input, returns no tensor, or has no attention to map.
        """
        watch = Watch(attention_maps=attention_maps)
        try:
            two, alters_inputs = self._discover(2, watch)
        except ModelLoadError as error:
            watch = Watch(functions=False)
            try:
                two, alters_inputs = self._discover(2, watch)
            except ModelLoadError:
                raise error from error.__cause__
            reason = (str(error.__cause__) or type(error.__cause__).__name__).splitlines()[0]
            unseen = [
                f"functions between its modules, which cannot be watched ({reason}): its layers are module outputs"
            ]
        else:
            unseen = [] if not two.vectorised else [f"operations inside torch.vmap ({_some(two.vectorised)})"]
        if scripted := scripted_paths(self.network):
            unseen.append(f"operations inside TorchScript ({_some(scripted)})")
        three, _ = self._discover(3, watch)
        listing = list_layers(two.values, three.values)
        unsure = [layer for layer in listing.layers if layer.per_sample != 1 or layer.sample_dimension != 0]
        listing = listing.without(self._mixed(unsure, watch))
        found = Found(listing, alters_inputs, watch, "; ".join(unseen) or None)
        if found.unseen is not None:
            text = f"Not all that model {self.name!r} computes is seen: not {found.unseen}."
            warnings.warn(text, UnseenOperationsWarning, stacklevel=2)
        if attention_maps:
            _check_maps(found, self.name)
        return found

    def _discover(self, count: int, watch: Watch) -> tuple[Discovery, bool]:
        discovery = Discovery(self.network, watch)
        inputs = self._samples(count)
        for name, tensor in inputs.items():
            discovery.add_input(name, tensor)
        arguments, keywords = self.arguments(inputs, copy=False)
        try:
            with evaluation(self.network):
                output = discovery.run(arguments, keywords)
        except FOREIGN_ERRORS as error:
            shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in inputs.items())
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise ModelLoadError(f"Model {self.name!r} does not run on {shapes}: {reason}") from error
        first_tensor(output, self.name)
        return discovery, any(tensor._version != 0 for tensor in inputs.values())

    def _samples(self, count: int) -> dict[str, Tensor]:
        return sample_inputs(self.inputs, count, vocabulary=vocabulary_size(self.network), device=self.device)

    def _mixed(self, layers: Sequence[CapturedLayer], watch: Watch) -> set[str]:
        """Return those whose entries for two samples change when a third joins them: they are not in sample order."""
        means: dict[int, dict[str, Tensor]] = {2: {}, 3: {}}
        for count, found in means.items():

            def keep(layer: Layer, values: Tensor, found: dict[str, Tensor] = found) -> None:
                found[layer.name] = values.double().flatten(1).mean(1)

            self.visit(layers, keep, self._samples(count), watch=watch, copy=True)
        return {
            name
            for name, two in means[2].items()
            if not torch.allclose(two, means[3][name][:2], rtol=1e-3, atol=1e-5, equal_nan=True)
        }


@contextmanager
def evaluation(network: nn.Module) -> Iterator[None]:
    """Put every module in evaluation mode, and back afterwards: the network may be in the middle of its training."""
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def first_tensor(output: Any, name: str) -> Tensor:
    """Return the first tensor that a network returned, of those with floating-point values where there are any.

    Raises:
        ModelLoadError: There is none.
    """
    for _, tensor in named_tensors(output):
        return tensor
    for leaf in tree_leaves(output):
        if isinstance(leaf, Tensor):
            return leaf
    found = "nothing" if output is None else type(output).__name__
    raise ModelLoadError(f"Model {name!r} returns {found}; expected a tensor, or a tuple or dict of them.")


def _some(names: Collection[str]) -> str:
    shown = ", ".join(repr(name) for name in sorted(names)[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def _check_maps(found: Found, name: str) -> None:
    if any(captured.layer.kind == "attention" and captured.layer.operation == MAP for captured in found.listing.layers):
        return
    where = f" among what is seen of it (not {found.unseen})" if found.unseen else ""
    raise ModelLoadError(f"Model {name!r} computes no attention{where}, so it has no maps; leave attention_maps out.")
