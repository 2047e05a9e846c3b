"""What is exported: a copy of the network that can be altered, its weights by name, and the samples it is tried on."""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from outcrop.errors import ZooError


@dataclass(frozen=True)
class Inputs:
    """Samples by the name of the input that takes them.

    Attributes:
        tensors: (sample, ...), all of the same number of samples.
        keywords: Whether the network takes them by keyword, or the only one by position.
    """

    tensors: Mapping[str, Tensor]
    keywords: bool

    @classmethod
    def of(cls, example: Tensor | Mapping[str, Tensor], input_name: str, name: str) -> "Inputs":
        """Return what a caller has given, on the CPU.

        Args:
            example: As :func:`~outcrop_zoo.exporting.export_network` takes it.
            input_name: Of a single tensor.
            name: Of the model, for messages.

        Raises:
            ZooError: There are fewer than two samples, or not as many for each input.
        """
        keywords = not isinstance(example, Tensor)
        given = {input_name: example} if isinstance(example, Tensor) else dict(example)
        counts = {key: len(tensor) for key, tensor in given.items()}
        if len(set(counts.values())) != 1 or min(counts.values()) < 2:
            found = ", ".join(f"{count} of {key!r}" for key, count in counts.items()) or "none"
            raise ZooError(
                f"The examples for {name!r} are {found}; give the same number of samples for every input, two or more, "
                "or the graph would be made for one."
            )
        return cls({key: tensor.detach().cpu() for key, tensor in given.items()}, keywords)

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def first(self) -> dict[str, Tensor]:
        """Return the first sample alone."""
        return {key: tensor[:1] for key, tensor in self.tensors.items()}

    def described(self) -> Iterator[tuple[str, tuple[int, ...], str]]:
        """Yield name, shape of one sample and dtype."""
        for key, tensor in self.tensors.items():
            yield key, tuple(tensor.shape[1:]), str(tensor.dtype).removeprefix("torch.")


def prepared_copy(network: nn.Module) -> nn.Module:
    """Return a contiguous copy on the CPU, in float32 and evaluation mode."""
    return copy.deepcopy(network).cpu().float().to(memory_format=torch.contiguous_format).eval()


def float_state(network: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers with fractions, by name; counters have none."""
    return {key: value for key, value in network.state_dict().items() if value.is_floating_point()}


def half_names(network: nn.Module) -> set[str]:
    """Return the trained kernels and matrices, which stand rounding.

    Vectors do not pay, and what was not trained is exact for a reason: statistics, or a rotation that must stay one.
    """
    parameters = network.named_parameters(remove_duplicate=False)
    return {key for key, value in parameters if value.ndim > 1 and value.is_floating_point()}


def shared_names(network: nn.Module) -> dict[str, str]:
    """Return, for every further name of a tensor that has several, its first."""
    first: dict[tuple[int, tuple[int, ...], tuple[int, ...]], str] = {}
    shared = {}
    for key, value in float_state(network).items():
        if value.numel():
            identity = (value.data_ptr(), tuple(value.shape), value.stride())
            if first.setdefault(identity, key) != key:
                shared[key] = first[identity]
    return shared


@torch.no_grad()
def round_to_half(network: nn.Module) -> None:
    """Round trained kernels and matrices, in place, to what float16 holds.

    Raises:
        ZooError: One of them is beyond it.
    """
    halved = half_names(network)
    for key, value in float_state(network).items():
        if key in halved:
            rounded = value.half()
            if not torch.isfinite(rounded).all():
                raise ZooError(
                    f"The weight {key!r} reaches {float(value.abs().max()):.3g}, beyond float16 (65504) or not "
                    "finite. Export with half=False, or train with a smaller learning rate."
                )
            value.copy_(rounded)
