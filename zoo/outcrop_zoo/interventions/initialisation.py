"""Start from the weights of another network (transfer learning, arXiv 2202.07184, section 5)."""

from collections.abc import Callable
from typing import Literal, get_args

from torch import nn

from outcrop.errors import ParameterError, did_you_mean
from outcrop_zoo.interventions.intervention import Intervention
from outcrop_zoo.interventions.network_parts import module_at, stages, units, weighted
from outcrop_zoo.interventions.weights import copy_weights, entries_under

Part = Literal["all", "first_stage"]


def initialise_from(
    network: nn.Module, source: nn.Module, *, part: Part = "all", classifier: str | None = None
) -> list[str]:
    """Copy weights and batch statistics of another network of the same architecture, and return their names.

    Args:
        network: Changed in place; the classifier keeps its own start.
        source: Left as it is. Its classifier may have another number of classes.
        part: ``all`` layers but the classifier, or the ``first_stage``: everything before the second stage.
        classifier: Path of the classifier; by default the last module with a weight matrix.

    Raises:
        ZooError: An entry is missing, of another shape, or without a place in the network; nothing is copied then.
        ParameterError: An unknown part, or a network without a second stage.
        LayerNotFoundError: The network has no such classifier, or no stages.
    """
    if part not in (known := get_args(Part)):
        raise ParameterError(f"Unknown part {part!r}: choose {' or '.join(known)}.{did_you_mean(part, known)}")
    if part == "all":
        if classifier is None:
            classifier = weighted(units(network))[-1]
        module_at(network, classifier)
        left_out = {*entries_under(network, [classifier]), *entries_under(source, [classifier])}
        names = [name for name in network.state_dict() if name not in left_out]
        others = [name for name in source.state_dict() if name not in left_out]
        copy_weights(network, source, names, source_names=others, part="all layers but the classifier")
    else:
        first, *later = stages(network)
        if not later:
            raise ParameterError(f"{type(network).__name__} has the one stage {first!r}; use part='all'.")
        everything = list(network.state_dict())
        names = everything[: everything.index(entries_under(network, [later[0]])[0])]
        copy_weights(network, source, names, source_names=entries_under(source, [first]), part="the first stage")
    return names


class InitialiseFrom(Intervention):
    """Starts the training from the weights of another network, by :func:`initialise_from`.

    Args:
        source: The network, or a function that returns it when the training begins.
        part: As there.
        classifier: As there.
    """

    def __init__(
        self, source: nn.Module | Callable[[], nn.Module], *, part: Part = "all", classifier: str | None = None
    ) -> None:
        self._source, self.part, self.classifier = source, part, classifier

    def prepare(self, network: nn.Module) -> nn.Module:
        source = self._source if isinstance(self._source, nn.Module) else self._source()
        initialise_from(network, source, part=self.part, classifier=self.classifier)
        return network
