"""A hash of a torch network: equal for equal weights, structure, options and code, in any process."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from outcrop.models.digests import Digester

Attribute = tuple[str, str]
"""Path of a module, and the name of what it holds."""


def fingerprint_network(network: nn.Module, *, written: Collection[Attribute] = ()) -> str:
    """Return the sha256 over modules, their options, weights and buffers, and all code that is no library's.

    Functions count by what they do: bytecode, constants, defaults, closures and the globals that they use. Those of
    libraries count by name.

    Args:
        network: Only read.
        written: What running the network overwrites, as :func:`watch_writing` finds it: results rather than options.

    Cost: one read of the weights.
    """
    modules = dict(network.named_modules())
    skipped = [(id(modules[path]), name) for path, name in written if path in modules]
    return Digester(skipped=skipped).digest(network).hex()


@contextmanager
def watch_writing(network: nn.Module, written: set[Attribute]) -> Iterator[None]:
    """Add to ``written`` what runs of the network in this context alter: caches, and records of the last run.

    Parameters are not looked at.
    """
    before = _attributes(network)
    try:
        yield
    finally:
        after = _attributes(network)
        written |= {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}


def _attributes(network: nn.Module) -> dict[Attribute, bytes]:
    digester = Digester(weights=False)
    return {
        (path, name): digest
        for path, module in network.named_modules()
        if not isinstance(module, torch.jit.ScriptModule)
        for name, digest in digester.attributes(module).items()
    }
