"""Give several networks the same early layers, frozen."""

from collections.abc import Callable, Iterable

import torch
from torch import Generator, nn

from outcrop.errors import ParameterError
from outcrop_zoo.interventions.freezing import Frozen, freeze
from outcrop_zoo.interventions.intervention import Intervention
from outcrop_zoo.interventions.network_parts import layers, module_at
from outcrop_zoo.interventions.weights import copy_weights, entries_under

_NORMALISATION = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)  # no public name covers all dimensions
_TOKEN_DEVIATION = 0.02


class FrozenPrefix(Intervention):
    """Gives a network the first layers of another one, and keeps them from training.

    Weights, biases, and the scales, shifts and running statistics of batch norm are copied; the layers then have no
    gradients and stay in evaluation mode. With the same prefix, networks of other seeds converge to more similar
    bases (arXiv 2307.12941). Controls: ``source=None`` draws a random prefix, from a seed of its own so that several
    networks share it (He-normal kernels, batch norm at mean 0 and variance 1); ``trainable=True`` shares
    no more than the start.

    Args:
        source: The network, a function that returns it when the training begins, or None for a random prefix.
        layers: How many. A layer is a block, or a convolution or dense layer outside blocks together with the
            normalisation, activation and pooling behind it; 0 shares nothing. Parameters that the network holds itself
            (position embeddings) go with the first.
        trainable: Whether the layers are trained on.
        seed: Of a random prefix.

    Raises:
        ParameterError: ``layers`` is negative.
    """

    def __init__(
        self,
        source: nn.Module | Callable[[], nn.Module] | None,
        *,
        layers: int,
        trainable: bool = False,
        seed: int = 0,
    ) -> None:
        if layers < 0:
            raise ParameterError(f"layers={layers} cannot be shared; give a number of at least 0.")
        self._source, self.layers, self.trainable, self.seed = source, layers, trainable, seed
        self._frozen: Frozen | None = None

    def prepare(self, network: nn.Module) -> nn.Module:
        """Return the network with the prefix in it, the same object.

        Raises:
            ParameterError: The network has not that many layers before its last one.
            ZooError: The layers of the source have other shapes.
        """
        available = layers(network)
        if self.layers >= len(available):
            raise ParameterError(
                f"layers={self.layers} of {type(network).__name__} leave nothing to train: it has {len(available)} "
                f"layers. Share at most {len(available) - 1}."
            )
        if not self.layers:
            return network
        paths = [path for layer in available[: self.layers] for path in layer]
        modules = [module for path in paths for module in module_at(network, path).modules()]
        if self._source is None:
            _draw([*modules, network], seed=self.seed)
        else:
            source = self._source if isinstance(self._source, nn.Module) else self._source()
            own = [
                name for name, _ in [*network.named_parameters(recurse=False), *network.named_buffers(recurse=False)]
            ]
            copy_weights(
                network,
                source,
                [*own, *entries_under(network, paths)],
                source_names=entries_under(source, paths),
                part=f"the first {self.layers} layers",
            )
        if not self.trainable:
            self._frozen = freeze(network, [*modules, network] if _holds_parameters(network) else modules)
        return network

    def finish(self, network: nn.Module) -> nn.Module:
        if self._frozen is not None:
            self._frozen.release()
        return network


@torch.no_grad()
def _draw(modules: Iterable[nn.Module], *, seed: int) -> None:
    generator = Generator().manual_seed(seed)
    for module in modules:
        if isinstance(module, _NORMALISATION):
            module.reset_parameters()
            continue
        dense = isinstance(module, nn.Linear | nn.modules.conv._ConvNd)
        for name, parameter in module.named_parameters(recurse=False):
            start = torch.zeros(parameter.shape)
            if dense and name == "weight":
                nn.init.kaiming_normal_(start, nonlinearity="relu", generator=generator)
            elif not dense:
                nn.init.normal_(start, std=_TOKEN_DEVIATION, generator=generator)
            parameter.copy_(start)


def _holds_parameters(module: nn.Module) -> bool:
    return any(True for _ in module.parameters(recurse=False))
