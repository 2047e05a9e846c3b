"""Copy named parameters and buffers between networks, all or none."""

from collections.abc import Iterable

import torch
from torch import nn

from outcrop.errors import ZooError

_SHOWN = 3


@torch.no_grad()
def copy_weights(
    network: nn.Module, source: nn.Module, names: Iterable[str], *, part: str, source_names: Iterable[str] = ()
) -> None:
    """Copy entries of a state dict into a network, in place; type, device and memory format stay its own.

    Args:
        network: Changed in place, or not at all.
        source: Left as it is.
        names: Of the entries.
        part: What they are together, for the message.
        source_names: What the part consists of in the source; more than in the network is refused.

    Raises:
        ZooError: The source lacks an entry, has it in another shape, or has more; lists them.
    """
    found, expected = source.state_dict(), network.state_dict()
    names = list(names)
    problems = [
        f"{name} is missing"
        if name not in found
        else f"{name} is {tuple(found[name].shape)}, expected {tuple(expected[name].shape)}"
        for name in names
        if name not in found or found[name].shape != expected[name].shape
    ]
    problems += [f"{name} has no place in the network" for name in source_names if name not in expected]
    if problems:
        more = f", and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise ZooError(
            f"{part[0].upper()}{part[1:]} cannot be taken from the {type(source).__name__}: "
            f"{'; '.join(problems[:_SHOWN])}{more}. Take them from a network of the same architecture."
        )
    for name in names:
        expected[name].copy_(found[name])


def entries_under(network: nn.Module, paths: Iterable[str]) -> list[str]:
    """Return the names of all parameters and buffers of the modules under the paths, in the network's order."""
    prefixes = tuple(f"{path}." for path in paths)
    return [name for name in network.state_dict() if name.startswith(prefixes)]
