"""One readable training loop: SGD with momentum, cosine decay by epoch, resumable after each epoch."""

import json
import math
import os
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from outcrop.errors import ZooError
from outcrop_zoo.architectures import build_architecture
from outcrop_zoo.recipes import Recipe
from outcrop_zoo.training.augmentation import crop_and_flip


@dataclass(frozen=True)
class ImageSet:
    """Images (sample, channel, y, x) float32 in [0, 1] and labels (sample,)."""

    images: Tensor
    labels: Tensor


@dataclass
class TrainingRun:
    """What a training run returns.

    Attributes:
        network: The trained network, in evaluation mode.
        history: One row an epoch: ``epoch``, ``learning_rate``, ``loss``, ``train_accuracy``, ``seconds``, ``threads``.
    """

    network: nn.Module
    history: list[dict[str, float]] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Wall-clock time of all epochs, over every session that contributed."""
        return sum(row["seconds"] for row in self.history)


def train(
    recipe: Recipe,
    data: ImageSet,
    *,
    checkpoint: Path | None = None,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
) -> TrainingRun:
    """Return the network that a recipe makes of the given images.

    The result depends on the recipe, the images, the machine's instruction set and its number of threads only:
    every epoch draws its order and its augmentation from a generator seeded by (seed, epoch), so
    a run that was stopped continues to the same weights.

    Args:
        recipe: What to train, and how.
        data: Training images.
        checkpoint: File written atomically after every epoch, and resumed from when it is there.
        on_epoch: Called with the history row of every finished epoch.

    Raises:
        ZooError: The checkpoint was written by another recipe, or cannot be read.
    """
    torch.manual_seed(recipe.seed)
    network = build_architecture(recipe.architecture).to(memory_format=torch.channels_last)
    optimizer = _optimizer(network, recipe)
    run = TrainingRun(network)
    if checkpoint is not None and checkpoint.exists():
        run.history = _restore(checkpoint, recipe, network, optimizer)
    for epoch in range(len(run.history), recipe.epochs):
        row = _train_epoch(network, optimizer, data, recipe, epoch)
        run.history.append(row)
        if checkpoint is not None:
            _save(checkpoint, recipe, network, optimizer, run.history)
        if on_epoch is not None:
            on_epoch(row)
    network.eval()
    return run


@torch.no_grad()
def accuracy(network: nn.Module, data: ImageSet, *, batch_size: int = 256) -> float:
    """Return the share of images, in [0, 1], whose largest logit is their label."""
    network.eval()
    hits = 0
    for start in range(0, len(data.labels), batch_size):
        chosen = network(data.images[start : start + batch_size]).argmax(1)
        hits += int((chosen == data.labels[start : start + batch_size]).sum())
    return hits / len(data.labels)


def _train_epoch(
    network: nn.Module, optimizer: torch.optim.Optimizer, data: ImageSet, recipe: Recipe, epoch: int
) -> dict[str, float]:
    started = time.perf_counter()
    generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + epoch)
    learning_rate = recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * epoch / recipe.epochs))
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    network.train()
    total_loss, hits = 0.0, 0
    order = torch.randperm(len(data.labels), generator=generator)
    for start in range(0, len(order), recipe.batch_size):
        chosen = order[start : start + recipe.batch_size]
        images = crop_and_flip(data.images[chosen], generator=generator).contiguous(memory_format=torch.channels_last)
        labels = data.labels[chosen]
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bfloat16"):
            logits = network(images).float()
        loss = F.cross_entropy(logits, labels)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
        total_loss += float(loss.detach()) * len(chosen)
        hits += int((logits.detach().argmax(1) == labels).sum())
    samples = len(data.labels)
    return {
        "epoch": float(epoch + 1),
        "learning_rate": learning_rate,
        "loss": total_loss / samples,
        "train_accuracy": hits / samples,
        "seconds": time.perf_counter() - started,
        "threads": float(torch.get_num_threads()),
    }


def _optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Decay kernels only: biases and batch norm are left alone, as in the papers' code."""
    kernels = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    groups = [{"params": kernels, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum)


def _save(
    path: Path, recipe: Recipe, network: nn.Module, optimizer: torch.optim.Optimizer, history: list[dict[str, float]]
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    state: dict[str, Any] = {
        "recipe": json.dumps(recipe.model_dump(), sort_keys=True),
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "history": history,
    }
    torch.save(state, partial)
    os.replace(partial, path)


def read_checkpoint(path: Path, recipe: Recipe) -> dict[str, Any]:
    """Return ``network``, ``optimizer`` and ``history`` of a checkpoint.

    Raises:
        ZooError: The file was written by another recipe, or is no checkpoint.
    """
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True)
        # A recipe of an older release lacks the newer fields, which then have their defaults.
        found = Recipe.model_validate_json(state["recipe"])
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError, ValidationError) as error:
        reason = str(error).partition("\n")[0]
        raise ZooError(
            f"The checkpoint {path} cannot be read ({reason}). Delete it to train again from the start."
        ) from error
    if found != recipe:
        expected, got = recipe.model_dump(), found.model_dump()
        changes = "; ".join(f"{key} {got[key]}, expected {expected[key]}" for key in got if got[key] != expected[key])
        raise ZooError(
            f"The checkpoint {path} was written by another recipe than {recipe.name!r}: found {changes}. "
            f"Delete it or choose another folder."
        )
    return state


def _restore(
    path: Path, recipe: Recipe, network: nn.Module, optimizer: torch.optim.Optimizer
) -> list[dict[str, float]]:
    state = read_checkpoint(path, recipe)
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    history: list[dict[str, float]] = state["history"]
    return history
