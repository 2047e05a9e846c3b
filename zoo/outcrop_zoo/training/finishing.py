"""From trained weights to the network that is exported: calibrated, without hooks, in evaluation mode."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from outcrop_zoo.interventions.intervention import Intervention
from outcrop_zoo.recipes import Recipe
from outcrop_zoo.training.checkpoints import read_snapshot
from outcrop_zoo.training.device import reproducible
from outcrop_zoo.training.images import ImageSet
from outcrop_zoo.training.setup import LoadNetwork, make_network, training_batches


def finished(network: nn.Module, interventions: list[Intervention], recipe: Recipe, data: ImageSet) -> nn.Module:
    """Return a trained network as its interventions leave it, in evaluation mode on the CPU."""

    def batches() -> Iterator[Tensor]:
        # The epoch behind the last: images in another order, augmented as they were during training.
        return (images for images, _ in training_batches(recipe, data, interventions, recipe.epochs))

    # All of them before any takes its hooks away: what one froze, another must not measure anew.
    for intervention in interventions:
        intervention.calibrate(network, batches)
    for intervention in interventions:
        network = intervention.finish(network)
    return network.eval().cpu()


def snapshot_network(
    recipe: Recipe, path: Path, data: ImageSet, *, load_network: LoadNetwork | None = None
) -> nn.Module:
    """Return the network of a snapshot, in evaluation mode on the CPU.

    Args:
        recipe: That it was trained by.
        path: Of the snapshot.
        data: Training images, for interventions that measure on them.
        load_network: As of :func:`outcrop_zoo.training.train`.

    Raises:
        ZooError: The file is not a snapshot of the recipe's.
    """
    state = read_snapshot(path, recipe)
    with reproducible("cpu"):
        network, interventions = make_network(recipe, load_network)
        network.load_state_dict(state["network"])
        for intervention, own in zip(interventions, state["interventions"], strict=True):
            intervention.load_state_dict(own)
        return finished(network.to(memory_format=torch.channels_last), interventions, recipe, data)
