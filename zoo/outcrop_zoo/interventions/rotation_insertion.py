"""Train a part of a network around a rotation that was inserted into it."""

from collections.abc import Callable
from typing import get_args

from torch import nn

from outcrop.errors import ParameterError, did_you_mean
from outcrop_zoo.interventions.freezing import Frozen, freeze
from outcrop_zoo.interventions.intervention import Intervention
from outcrop_zoo.interventions.network_parts import features_at, split_at, weighted
from outcrop_zoo.interventions.rotation import Rotation, insert_rotation
from outcrop_zoo.interventions.specs import RotationKind, TrainedPart
from outcrop_zoo.interventions.weights import copy_weights


class RotationInsertion(Intervention):
    """Rotates what a module returns, and trains what lies before it, behind it, or all.

    Whether a network can undo a rotation of its representation tells whether the basis is privileged (arXiv
    2307.12941). Informative: a site behind an activation function, ``upstream`` trained and the rest frozen. Control:
    ``permutation``, which can always be undone. The rotation stays in the finished network.

    Args:
        site: Path of the module whose output is rotated.
        rotation: Kind of matrix; see :func:`~outcrop_zoo.interventions.rotation_matrix`.
        seed: Of the matrix.
        train: ``upstream``, only its last kernel and what follows that (``last_upstream``), ``downstream`` or ``all``.
            What is not trained is frozen, with its batch norm in evaluation mode.
        features: Channels at the site; by default those of the last layer registered before it.
        dimensions: For ``block``.
        fraction: For ``geodesic``.
        source: A network whose weights this one starts from, its classifier included, or a function that returns it.
        from_scratch: Whether the trained part keeps its random start.

    Raises:
        ParameterError: An unknown part.
    """

    def __init__(
        self,
        site: str,
        *,
        rotation: RotationKind = "haar",
        seed: int = 0,
        train: TrainedPart = "upstream",
        features: int | None = None,
        dimensions: int | None = None,
        fraction: float | None = None,
        source: nn.Module | Callable[[], nn.Module] | None = None,
        from_scratch: bool = False,
    ) -> None:
        parts = get_args(TrainedPart)
        if train not in parts:
            raise ParameterError(f"Unknown part {train!r}: choose {', '.join(parts)}.{did_you_mean(train, parts)}")
        self.site, self.rotation, self.seed, self.train = site, rotation, seed, train
        self.features, self.dimensions, self.fraction = features, dimensions, fraction
        self._source, self.from_scratch = source, from_scratch
        self._frozen: Frozen | None = None

    def prepare(self, network: nn.Module) -> nn.Module:
        """Return the network with the rotation in it, the same object.

        Raises:
            LayerNotFoundError: There is no such module.
            ParameterError: Nothing is left to train, or the number of channels is not known.
            ZooError: The weights of the source have other shapes.
        """
        upstream, downstream = split_at(network, self.site)
        trained = self._trained(upstream, downstream)
        if not any(True for module in trained.values() for _ in module.parameters(recurse=False)):
            raise ParameterError(
                f"Nothing with weights lies {self.train} of {self.site!r}; choose another site, or another part."
            )
        if self._source is not None:
            source = self._source if isinstance(self._source, nn.Module) else self._source()
            kept = _own_entries(trained) if self.from_scratch else set()
            names = [name for name in network.state_dict() if name not in kept]
            others = [name for name in source.state_dict() if name not in kept]
            copy_weights(network, source, names, source_names=others, part="the weights")
        features = self.features or features_at(network, self.site)
        rotation = Rotation.draw(
            self.rotation, features, seed=self.seed, dimensions=self.dimensions, fraction=self.fraction
        )
        insert_rotation(network, self.site, rotation)
        frozen = [m for path, m in {**upstream, **downstream}.items() if path not in trained]
        self._frozen = freeze(network, frozen)
        return network

    def finish(self, network: nn.Module) -> nn.Module:
        if self._frozen is not None:
            self._frozen.release()
        return network

    def _trained(self, upstream: dict[str, nn.Module], downstream: dict[str, nn.Module]) -> dict[str, nn.Module]:
        if self.train == "downstream":
            return downstream
        if self.train == "all":
            return {**upstream, **downstream}
        if self.train == "upstream":
            return upstream
        kernels = weighted(upstream)
        return dict(list(upstream.items())[list(upstream).index(kernels[-1]) :]) if kernels else {}


def _own_entries(modules: dict[str, nn.Module]) -> set[str]:
    return {
        f"{path}.{name}" if path else name
        for path, module in modules.items()
        for name, _ in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    }
