"""What a recipe's training begins with: its network, its interventions and its optimiser."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from outcrop_zoo.architectures import build_architecture
from outcrop_zoo.interventions.intervention import Intervention, make_intervention
from outcrop_zoo.recipes import Recipe
from outcrop_zoo.training.augmentation import crop_and_flip
from outcrop_zoo.training.images import ImageSet
from outcrop_zoo.training.parents import load_zoo_network

LoadNetwork = Callable[[str], nn.Module]

# Of torch's global generator, so that its numbers are not those of the generator that orders the images.
_OTHER_STREAM = 0x5BD1E995


def make_network(recipe: Recipe, load_network: LoadNetwork | None = None) -> tuple[nn.Module, list[Intervention]]:
    """Return a recipe's network before the first step, and its interventions, which have prepared it.

    Seeds torch's global generator.

    Args:
        recipe: What to train.
        load_network: Returns the trained network of a zoo name, for interventions; by default from the catalogue.
    """
    torch.manual_seed(recipe.seed)
    network = build_architecture(recipe.architecture)
    interventions = [
        make_intervention(spec, load_network=load_network or load_zoo_network, seed=recipe.seed)
        for spec in recipe.interventions
    ]
    for intervention in interventions:
        network = intervention.prepare(network)
    return network, interventions


def make_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Return SGD that decays kernels only: biases and batch norm are left alone, as in the papers' code.

    Parameters that are frozen already are left out.
    """
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    kernels = [parameter for parameter in trained if parameter.ndim > 1]
    others = [parameter for parameter in trained if parameter.ndim <= 1]
    groups = [{"params": kernels, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum)


def learning_rate(recipe: Recipe, epoch: int) -> float:
    """Return the rate of an epoch, counted from 0: half a cosine from the recipe's rate towards 0."""
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * epoch / recipe.epochs))


def steps_per_epoch(recipe: Recipe, images: int) -> int:
    """Return how many optimiser steps an epoch takes; the last batch may be smaller."""
    return -(-images // recipe.batch_size)


def training_batches(
    recipe: Recipe, data: ImageSet, interventions: list[Intervention], epoch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield augmented images (sample, channel, y, x) and labels (sample,) of an epoch, batch by batch.

    Order and augmentation come from a generator seeded by the epoch's seed of the recipe and the epoch. So does
    torch's global generator, which a network that draws random numbers itself uses.
    """
    seed = recipe.training_seed(epoch) * 1_000_003 + epoch
    torch.manual_seed(seed ^ _OTHER_STREAM)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(data.labels), generator=generator).to(data.labels.device)
    for start in range(0, len(order), recipe.batch_size):
        chosen = order[start : start + recipe.batch_size]
        images = crop_and_flip(data.images[chosen], generator=generator, padding=recipe.crop_padding, flip=recipe.flip)
        for intervention in interventions:
            images = intervention.augment(images, generator)
        yield images.contiguous(memory_format=torch.channels_last), data.labels[chosen]
