"""A hash of a torch network: equal for equal weights, structure and code, on any machine."""

import hashlib
import inspect
import re

import torch
from torch import Tensor, nn

_LIBRARIES = ("torch", "torchvision", "timm", "transformers")
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def fingerprint_network(network: nn.Module) -> str:
    """Return the sha256 over classes, their options, their source where it is not a library's, and all weights.

    Cost: one read of the weights.
    """
    digest = hashlib.sha256()
    classes: set[type[nn.Module]] = set()
    for path, module in network.named_modules():
        kind = type(module)
        options = {name: value for name, value in vars(module).items() if _is_option(name, value)}
        text = f"{path}|{kind.__module__}.{kind.__qualname__}|{module.extra_repr()}|{sorted(options.items())!r}\n"
        digest.update(_ADDRESS.sub("", text).encode())
        classes.add(kind)
    for kind in sorted(classes, key=lambda kind: (kind.__module__, kind.__qualname__)):
        if kind.__module__.partition(".")[0] not in _LIBRARIES:
            digest.update(_source(kind).encode())
    for name, tensor in sorted(network.state_dict(keep_vars=True).items()):
        if isinstance(tensor, Tensor):
            digest.update(f"{name}|{tuple(tensor.shape)}|{tensor.dtype}\n".encode())
            digest.update(_raw_bytes(tensor))
    return digest.hexdigest()


def weights_version(network: nn.Module) -> tuple[tuple[int, int], ...]:
    """Return a cheap value that changes when weights are assigned or altered in place."""
    tensors = (*network.parameters(), *network.buffers())
    return tuple((id(tensor), tensor._version) for tensor in tensors)


def _is_option(name: str, value: object) -> bool:
    return name != "training" and not name.startswith("_") and isinstance(value, bool | int | float | str | tuple)


def _source(kind: type[nn.Module]) -> str:
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):
        return ""  # typed at a prompt: no file holds it


def _raw_bytes(tensor: Tensor) -> memoryview:
    flat = tensor.detach().cpu().contiguous().flatten()
    return flat.view(torch.uint8).numpy().data
