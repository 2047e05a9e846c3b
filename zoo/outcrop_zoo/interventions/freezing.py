"""Freeze a part of a network so that training leaves no trace in it, batch norm included."""

from collections.abc import Iterable
from typing import Any

from torch import nn


class Frozen:
    """A frozen part of a network, until it is released; made by :func:`freeze`.

    Attributes:
        modules: Which modules are frozen.
    """

    def __init__(self, network: nn.Module, modules: Iterable[nn.Module]) -> None:
        self.modules = tuple(modules)
        parameters = [parameter for module in self.modules for parameter in module.parameters(recurse=False)]
        self._thawed = [parameter for parameter in parameters if parameter.requires_grad]
        for parameter in self._thawed:
            parameter.requires_grad_(False)
        inner = [module for module in self.modules if module is not network]
        # network.train() sets the flag of every module; the hook takes it back before it is looked at.
        self._handles = [module.register_forward_pre_hook(_stay_in_evaluation) for module in inner]
        for module in inner:
            module.training = False

    def release(self) -> None:
        """Remove the hooks, and give parameters back the gradients they had; the weights stay."""
        for handle in self._handles:
            handle.remove()
        for parameter in self._thawed:
            parameter.requires_grad_(True)
        self._handles, self._thawed = [], []


def freeze(network: nn.Module, modules: Iterable[nn.Module]) -> Frozen:
    """Freeze modules: no gradients, and evaluation mode whatever ``network.train()`` says.

    A module that consists of frozen ones only is frozen too, so that blocks that behave otherwise in training
    (stochastic depth, Shake-Shake) do not.

    Args:
        network: Which they belong to, changed in place.
        modules: Each with its own parameters; children are frozen where they are named too.
    """
    chosen = set(modules)

    def consists_of_chosen(module: nn.Module) -> bool:
        own = any(True for _ in module.parameters(recurse=False))
        leaves = [leaf for leaf in module.modules() if not any(leaf.children())]
        return not own and all(leaf in chosen for leaf in leaves)

    return Frozen(
        network,
        (m for m in network.modules() if m in chosen or (m is not network and consists_of_chosen(m))),
    )


def is_frozen(module: nn.Module) -> bool:
    """Return whether :func:`freeze` froze this very module, and it was not released."""
    return _stay_in_evaluation in module._forward_pre_hooks.values()


def _stay_in_evaluation(module: nn.Module, inputs: Any) -> None:  # noqa: ARG001 - torch's signature
    module.training = False
