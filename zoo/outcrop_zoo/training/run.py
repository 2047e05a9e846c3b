"""What a training returns: the network, and how it came about."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from outcrop_zoo.recipes import Recipe

if TYPE_CHECKING:
    import xarray as xr

KIND, KIND_VERSION = "training", "1.0"

_VARIABLES: dict[str, tuple[str, str]] = {
    "loss": ("cross-entropy of the training images, mean over the epoch", "1"),
    "penalty": ("what interventions add to the loss, mean over the epoch", "1"),
    "train_accuracy": ("share of training images that are classified correctly during the epoch", "1"),
    "held_out_accuracy": ("share of held-out images that are classified correctly after the epoch", "1"),
    "learning_rate": ("learning rate of the epoch", "1"),
    "seconds": ("wall-clock time of the epoch", "s"),
}


@dataclass
class TrainingRun:
    """What a training run returns.

    Attributes:
        network: The trained network, in evaluation mode, on the CPU.
        recipe: What it was trained by.
        history: One row an epoch: ``epoch`` (from 1), ``step`` (optimiser steps so far), ``learning_rate``, ``loss``
            (cross-entropy), ``train_accuracy``, ``seconds``, ``threads``; ``penalty`` and ``held_out_accuracy`` where
            there are any.
        epoch: Whose weights the network has.
        device: Kind of the device that it was trained on.
        compiler: Backend of ``torch.compile``; empty where the network was not compiled.
    """

    network: nn.Module
    recipe: Recipe
    history: list[dict[str, float]] = field(default_factory=list)
    epoch: int = 0
    device: str = "cpu"
    compiler: str = ""

    @property
    def seconds(self) -> float:
        """Wall-clock time of all epochs, over every session that contributed."""
        return sum(row["seconds"] for row in self.history)

    @property
    def step(self) -> int:
        """Optimiser steps behind the network's weights."""
        return int(self.history[self.epoch - 1]["step"]) if self.epoch else 0

    def metrics(self) -> "xr.Dataset":
        """Return the history (epoch) of kind ``training``, with the optimiser step as a second coordinate."""
        import xarray as xr

        names = [name for name in _VARIABLES if any(name in row for row in self.history)]
        variables: dict[str, Any] = {
            name: (
                "epoch",
                np.array([row.get(name, np.nan) for row in self.history], dtype=np.float64),
                {"long_name": _VARIABLES[name][0], "units": _VARIABLES[name][1]},
            )
            for name in names
        }
        coordinates: dict[str, Any] = {
            name: ("epoch", np.array([int(row[name]) for row in self.history], dtype=np.int64), {"long_name": text})
            for name, text in (("epoch", "epoch"), ("step", "optimiser step"))
        }
        attributes = {
            "kind": KIND,
            "kind_version": KIND_VERSION,
            "recipe": self.recipe.model_dump_json(),
            "model": self.recipe.name,
            "device": self.device,
            "selected_epoch": self.epoch,
        }
        return xr.Dataset(variables, coordinates, attributes)
