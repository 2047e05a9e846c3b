"""``torch.compile`` for a training, and what to say where it does not work."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from outcrop.errors import ZooError

Forward = Callable[[Tensor], Tensor]


def compiled(network: nn.Module, compiler: str) -> Forward:
    """Return a network's forward pass, compiled by a backend of ``torch.compile``; the network's own without one.

    Raises:
        ZooError: There is no such backend.
    """
    if not compiler:
        return network
    with told(compiler):
        forward: Forward = torch.compile(network, backend=compiler)
    return forward


@contextmanager
def told(compiler: str) -> Iterator[None]:
    """Say in one line that a compiler failed, which does so at the first forward or backward pass.

    Raises:
        ZooError: It did.
    """
    if not compiler:
        yield
        return
    from torch._dynamo.exc import TorchDynamoException  # torch has no public name for it

    try:
        yield
    except TorchDynamoException as error:
        first, *more = str(error).splitlines()
        # torch says who raised before it says what.
        reason = (f"{first} {more[0]}" if first.endswith(":") and more else first).rstrip(".")
        raise ZooError(
            f"The network cannot be compiled by {compiler!r} ({reason}). Train without compiling; 'inductor' needs a "
            "C++ compiler, and 'eager' none."
        ) from error
