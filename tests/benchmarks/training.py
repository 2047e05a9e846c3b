"""Training steps per second of the zoo's loop, against a hand-written minimal loop on the same network and images.

    python tests/benchmarks/training.py --threads 1

The minimal loop is what one writes in a notebook: SGD with momentum, autocast, shuffled batches, the same crops and
flips, one cosine over the epochs; no checkpoint, no generator of its own, no metrics but the loss. Both train the same
ResNet from the same start, one epoch each a round, in alternating order; a round's ratio is the minimal loop's time
over the zoo's. Exits with 1 where the median ratio is below 0.9.
"""

import argparse
import math
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from outcrop_zoo.architectures import Architecture, build_architecture
from outcrop_zoo.patches import load_patches
from outcrop_zoo.recipes import Recipe
from outcrop_zoo.training import ImageSet, train

LEAST = 0.9


def minimal(recipe: Recipe, data: ImageSet) -> float:
    """Train as one would in a notebook, and return the last loss."""
    torch.manual_seed(recipe.seed)
    network = build_architecture(recipe.architecture).to(memory_format=torch.channels_last)
    kernels = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
    optimizer = torch.optim.SGD(
        [{"params": kernels, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda e: 0.5 * (1 + math.cos(math.pi * e / recipe.epochs)))
    loss = torch.zeros(())
    for _ in range(recipe.epochs):
        network.train()
        for chosen in torch.randperm(len(data.labels)).split(recipe.batch_size):
            images = augmented(data.images[chosen]).contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16):
                logits = network(images)
            loss = F.cross_entropy(logits.float(), data.labels[chosen])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call] # torch's
            optimizer.step()
        schedule.step()
    return float(loss.detach())


def augmented(images: torch.Tensor) -> torch.Tensor:
    """Return the images, each reflect-padded by 4, cropped at random and flipped half the time."""
    padded = F.pad(images, [4] * 4, mode="reflect")
    rows = torch.randint(0, 9, (len(images), 1)) + torch.arange(32)
    columns = torch.randint(0, 9, (len(images), 1)) + torch.arange(32)
    columns = torch.where(torch.rand(len(images), 1) < 0.5, columns.flip(1), columns)
    cropped = padded[torch.arange(len(images))[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return cropped.permute(0, 3, 1, 2)


def own(recipe: Recipe, data: ImageSet) -> float:
    """Train by the zoo's loop, with a checkpoint after each epoch, and return the last loss."""
    with tempfile.TemporaryDirectory() as folder:
        return train(recipe, data, checkpoint=Path(folder, "network.pt"), device="cpu").history[-1]["loss"]


def seconds(job: object, recipe: Recipe, data: ImageSet) -> float:
    """Return how long a training takes."""
    assert callable(job)
    started = time.perf_counter()
    loss = job(recipe, data)
    assert math.isfinite(loss), loss
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--depth", type=int, default=14)
    parser.add_argument("--images", type=int, default=64, help="of each of ten classes")
    parser.add_argument("--epochs", type=int, default=2, help="of each training of a round")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    recipe = Recipe(
        name="benchmark",
        family="benchmark",
        architecture=Architecture(depth=options.depth),
        images_per_class=options.images,
        epochs=options.epochs,
    )
    patches = load_patches("train", per_class=options.images)
    images = torch.from_numpy(patches.images).permute(0, 3, 1, 2).float() / 255
    data = ImageSet(images, torch.from_numpy(patches.labels))
    # Kernels are chosen and compiled, and torch's late imports done, before the first round.
    warm = recipe.model_copy(update={"epochs": 1})
    seconds(own, warm, data)
    seconds(minimal, warm, data)
    steps = options.epochs * -(-len(data.labels) // recipe.batch_size)
    ratios = []
    print(f"ResNet-{options.depth}, {len(data.labels)} images, {steps} steps a training, {options.threads} thread(s)")
    for round_ in range(options.rounds):
        order = (minimal, own) if round_ % 2 == 0 else (own, minimal)
        times = {job: seconds(job, recipe, data) for job in order}
        ratios.append(times[minimal] / times[own])
        print(
            f"round {round_ + 1}: minimal {steps / times[minimal]:.2f} steps/s, zoo {steps / times[own]:.2f} steps/s, "
            f"ratio {ratios[-1]:.3f}"
        )
    median = statistics.median(ratios)
    print(f"median ratio {median:.3f} (from {min(ratios):.3f} to {max(ratios):.3f}); at least {LEAST} is wanted")
    sys.exit(0 if median >= LEAST else 1)


if __name__ == "__main__":
    main()
