"""One readable training loop: SGD with momentum, cosine decay by epoch, resumable after each epoch."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from outcrop.errors import ZooError
from outcrop_zoo.interventions.intervention import Intervention
from outcrop_zoo.recipes import Recipe
from outcrop_zoo.training.checkpoints import read_checkpoint, snapshot_path, write_state
from outcrop_zoo.training.compilation import Forward, compiled, told
from outcrop_zoo.training.device import choose_device, reproducible
from outcrop_zoo.training.finishing import finished
from outcrop_zoo.training.images import ImageSet
from outcrop_zoo.training.run import TrainingRun
from outcrop_zoo.training.setup import (
    LoadNetwork,
    learning_rate,
    make_network,
    make_optimizer,
    steps_per_epoch,
    training_batches,
)


def train(
    recipe: Recipe,
    data: ImageSet,
    *,
    held_out: ImageSet | None = None,
    checkpoint: Path | None = None,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
    watch: Callable[[TrainingRun], None] | None = None,
    device: str | None = None,
    compiler: str = "",
    load_network: LoadNetwork | None = None,
) -> TrainingRun:
    """Return the network that a recipe makes of the given images.

    The result depends on the recipe, the images, the kind of device, the machine's instruction set and its number of
    threads only: every epoch draws its order and its augmentation from a generator seeded by (seed, epoch), so
    a run that was stopped, or killed at any moment, continues to the same weights. torch's global generator is left as
    it was.

    Args:
        recipe: What to train, and how.
        data: Training images.
        held_out: Images of the training split that are not trained on, on which accuracy is measured every epoch.
        checkpoint: File written atomically after every epoch, and resumed from when it is there. The recipe's snapshots
            are written beside it.
        on_epoch: Called with the history row of every finished epoch.
        watch: Called after that with the run so far; its network is the one in training.
        device: Such as ``cpu``, ``cuda``, ``cuda:1``; by default CUDA where there is any.
        compiler: Backend of ``torch.compile``, such as ``inductor``; empty for none. Other last bits, as every device.
        load_network: Returns the trained network of a zoo name, for interventions; by default from the catalogue.

    Raises:
        ZooError: The checkpoint was written by another recipe, with other settings or on other images, or cannot be
            read; the recipe selects by held-out images, or keeps snapshots, and there is no place or none are given;
            the images do not fit the recipe; the loss is no longer finite; or the network cannot be compiled.
    """
    place = choose_device(device)
    steps = steps_per_epoch(recipe, len(data.labels))
    _check(recipe, steps, data, held_out, checkpoint)
    # Held-out images count where weights are chosen by them.
    digest = data.digest(held_out if recipe.selection == "held_out" else None) if checkpoint is not None else ""
    with reproducible(place):
        network, interventions = make_network(recipe, load_network)
        network = network.to(place).to(memory_format=torch.channels_last)
        training = _Training(recipe, network, interventions, steps, checkpoint, place, compiler, digest)
        training.resume()
        here, held_out_here = data.to(place), held_out.to(place) if held_out is not None else None
        for epoch in range(len(training.history), recipe.epochs):
            row = training.train_epoch(here, epoch)
            if held_out_here is not None:
                row["held_out_accuracy"] = accuracy(network, held_out_here)
            training.finish_epoch(row)
            if on_epoch is not None:
                on_epoch(row)
            if watch is not None:
                watch(training.run())
        training.select()
        run = training.run()
        run.network = finished(network, interventions, recipe, here)
    return run


@torch.no_grad()
def accuracy(network: nn.Module, data: ImageSet, *, batch_size: int = 256) -> float:
    """Return the share of images, in [0, 1], whose largest logit is their label; leaves evaluation mode behind."""
    network.eval()
    hits = 0
    for start in range(0, len(data.labels), batch_size):
        chosen = network(data.images[start : start + batch_size]).argmax(1)
        hits += int((chosen == data.labels[start : start + batch_size]).sum())
    return hits / len(data.labels)


@dataclass
class _Training:
    """A training in progress, and all that its checkpoint holds."""

    recipe: Recipe
    network: nn.Module
    interventions: list[Intervention]
    steps: int
    checkpoint: Path | None
    device: str
    compiler: str
    images: str
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        self.optimizer = make_optimizer(self.network, self.recipe)
        self._settings = {"device": torch.device(self.device).type, "compiler": self.compiler}

    @cached_property
    def _forward(self) -> Forward:
        return compiled(self.network, self.compiler)

    def train_epoch(self, data: ImageSet, epoch: int) -> dict[str, float]:
        started = time.perf_counter()
        rate = learning_rate(self.recipe, epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.network.train()
        # Summed where they are computed: reading a number from a GPU waits for it.
        total_loss = torch.zeros((), dtype=torch.float64, device=data.labels.device)
        total_penalty, hits = torch.zeros_like(total_loss), torch.zeros_like(total_loss)
        step = epoch * self.steps
        self._keep_snapshot(step)
        for images, labels in training_batches(self.recipe, data, self.interventions, epoch):
            with told(self.compiler):
                loss, penalty, correct = self._step(images, labels)
            step += 1
            self._keep_snapshot(step)
            total_loss += loss * len(labels)
            total_penalty += penalty * len(labels)
            hits += correct
        samples = len(data.labels)
        row = {
            "epoch": float(epoch + 1),
            "step": float(step),
            "learning_rate": rate,
            "loss": float(total_loss) / samples,
            "train_accuracy": float(hits) / samples,
            "seconds": time.perf_counter() - started,
            "threads": float(torch.get_num_threads()),
        }
        if self.interventions:
            row["penalty"] = float(total_penalty) / samples
        return row

    def _step(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Take one optimiser step; return cross-entropy, penalty and correct answers, each a scalar."""
        kind = torch.device(self.device).type
        with torch.autocast(kind, torch.bfloat16, enabled=self.recipe.precision == "bfloat16"):
            logits = self._forward(images).float()
        loss = F.cross_entropy(logits, labels)
        penalties = [penalty for one in self.interventions if (penalty := one.penalty()) is not None]
        added = torch.stack(penalties).sum() if penalties else loss.new_zeros(())
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss + added if penalties else loss)
        self.optimizer.step()
        correct = (logits.detach().argmax(1) == labels).sum()
        return loss.detach().double(), added.detach().double(), correct

    def finish_epoch(self, row: dict[str, float]) -> None:
        if not math.isfinite(row["loss"]):
            raise ZooError(
                f"The loss of {self.recipe.name!r} is {row['loss']} in epoch {row['epoch']:.0f}: the training diverged "
                f"at learning rate {row['learning_rate']:.3g}. Lower learning_rate, or the strength of interventions."
            )
        self.history.append(row)
        if self.recipe.selection == "held_out":
            found = row["held_out_accuracy"]
            if self.best is None or found > self.best["accuracy"]:
                weights = {key: value.cpu().clone() for key, value in self.network.state_dict().items()}
                self.best = {"epoch": len(self.history), "accuracy": found, "network": weights}
        if self.checkpoint is not None:
            state = {
                **self._weights(),
                "optimizer": self.optimizer.state_dict(),
                "history": self.history,
                "best": self.best,
                "settings": self._settings,
                "images": self.images,
            }
            write_state(self.checkpoint, self.recipe, state)

    def select(self) -> None:
        """Give the network the weights that the recipe selects."""
        if self.best is not None:
            self.network.load_state_dict(self.best["network"])

    def run(self) -> TrainingRun:
        """Return the run so far."""
        epoch = len(self.history) if self.best is None else int(self.best["epoch"])
        kind = self._settings["device"]
        return TrainingRun(self.network, self.recipe, list(self.history), epoch, kind, self.compiler)

    def resume(self) -> None:
        """Continue from the checkpoint, where there is one."""
        if self.checkpoint is None or not self.checkpoint.exists():
            return
        state = read_checkpoint(self.checkpoint, self.recipe)
        if state["settings"] != self._settings:
            raise ZooError(
                f"The checkpoint {self.checkpoint} was trained with {_words(state['settings'])}; "
                f"{_words(self._settings)} would give other weights. Continue as it was, or delete it."
            )
        if state["images"] not in ("", self.images):
            raise ZooError(
                f"The checkpoint {self.checkpoint} was trained on other images than the data {self.recipe.data!r} "
                "holds. Give those of then, or delete it to train again."
            )
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        for intervention, own in zip(self.interventions, state["interventions"], strict=True):
            intervention.load_state_dict(own)
        self.history, self.best = state["history"], state["best"]
        for row in self.history:
            # Rows of an earlier release lack it.
            row.setdefault("step", row["epoch"] * self.steps)
        done = len(self.history) * self.steps
        for step in self.recipe.snapshots:
            if step <= done and not snapshot_path(self.checkpoint.parent, self.recipe, step).exists():
                raise ZooError(
                    f"The checkpoint {self.checkpoint} is at step {done}, and the snapshot of step {step} that should "
                    "lie beside it is gone. Delete the checkpoint to train again."
                )

    def _keep_snapshot(self, step: int) -> None:
        if step in self.recipe.snapshots:
            assert self.checkpoint is not None  # checked before the training began
            path = snapshot_path(self.checkpoint.parent, self.recipe, step)
            write_state(path, self.recipe, {"step": step, **self._weights()})

    def _weights(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "interventions": [intervention.state_dict() for intervention in self.interventions],
        }


def _check(recipe: Recipe, steps: int, data: ImageSet, held_out: ImageSet | None, checkpoint: Path | None) -> None:
    if len(data.images) != len(data.labels) or not steps:
        raise ZooError(
            f"There are {len(data.images)} images and {len(data.labels)} labels to train {recipe.name!r} on; give as "
            "many of both, and at least one."
        )
    smallest, largest = int(data.labels.min()), int(data.labels.max())
    if smallest < 0 or largest >= recipe.architecture.classes:
        raise ZooError(
            f"The labels go from {smallest} to {largest}; the recipe {recipe.name!r} has {recipe.architecture.classes} "
            "classes, from 0. Change 'classes' of its architecture, or the labels."
        )
    if recipe.selection == "held_out" and held_out is None:
        raise ZooError(f"The recipe {recipe.name!r} selects its weights by held-out images; give held_out=.")
    if recipe.snapshots and checkpoint is None:
        raise ZooError(f"The recipe {recipe.name!r} keeps snapshots beside its checkpoint; give checkpoint=.")
    if recipe.snapshots and recipe.snapshots[-1] > steps * recipe.epochs:
        raise ZooError(
            f"The recipe {recipe.name!r} keeps a snapshot of step {recipe.snapshots[-1]}; its training ends at step "
            f"{steps * recipe.epochs} ({recipe.epochs} epochs of {steps}). Choose earlier steps."
        )


def _words(settings: dict[str, str]) -> str:
    return f"device {settings['device']!r} and compiler {settings['compiler'] or 'none'!r}"
