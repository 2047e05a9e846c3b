"""Run a network in the middle of its training, and leave no trace of it."""

import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from torch import Tensor, nn


@contextmanager
def undisturbed(network: nn.Module, *, training: bool = False, seed: int = 0) -> Iterator[None]:
    """Bring back what running a network may alter, so that training goes on to the last bit as if it had not run.

    That is: the mode of every module, its buffers (running statistics: the modules get copies meanwhile, so that the
    tensors that a pending backward pass needs are not even touched), the gradients, and the random states of Python,
    numpy and torch on every device. Autocast is off inside, for its cache of weights would cut the
    training's own gradients. Hooks on modules stay: some networks compute their weights in them.

    Args:
        network: What is run.
        training: Whether it runs in training mode, with dropout and statistics of the batch, whatever the caller of
            the network asks for. Otherwise the mode is the caller's.
        seed: Of the random numbers inside.
    """
    modules = list(network.modules())
    modes = [module.training for module in modules]
    buffers = [dict(module._buffers) for module in modules]
    gradients = [(parameter, parameter.grad) for parameter in network.parameters()]
    python, numpy_state = random.getstate(), np.random.get_state()
    # Where CUDA was not used yet, it has no random state.
    started = torch.cuda.is_initialized()  # type: ignore[no-untyped-call] # torch leaves it untyped
    devices = [*range(torch.cuda.device_count())] if started else []
    kinds = {tensor.device.type for tensor in (*network.parameters(), *network.buffers())} | {"cpu"}
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=devices))
        for kind in kinds:
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        try:
            # Not torch.manual_seed, which would also seed devices that start later.
            torch.default_generator.manual_seed(seed)
            if devices:
                torch.cuda.manual_seed_all(seed)
            _lend_copies(modules)
            for parameter, _ in gradients:
                parameter.grad = None  # else a backward pass inside would add to it in place
            if training:
                stack.callback(network.register_forward_pre_hook(_train, prepend=True).remove)
            yield
        finally:
            for module, mode, own in zip(modules, modes, buffers, strict=True):
                module.training = mode
                module._buffers.clear()
                module._buffers.update(own)
            for parameter, gradient in gradients:
                parameter.grad = gradient
            random.setstate(python)
            np.random.set_state(numpy_state)


def _train(network: nn.Module, _arguments: object) -> None:
    """Put a network in training mode as its forward begins: those who run it to look at it ask for evaluation."""
    network.train()


def _lend_copies(modules: Sequence[nn.Module]) -> None:
    copies: dict[int, Tensor] = {}
    for module in modules:
        for name, buffer in module._buffers.items():
            if buffer is not None:
                # Modules that share a buffer share its copy.
                module._buffers[name] = copies.setdefault(id(buffer), buffer.detach().clone())
