"""The kind of result that a training's metrics are: ``training``."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from outcrop_schemas import Attribute, Kind, Problem, Variable

if TYPE_CHECKING:
    import xarray as xr


def epochs_and_steps_increase(dataset: "xr.Dataset") -> Iterator[Problem]:
    """Every epoch and every step is greater than the one before it."""
    for name in ("epoch", "step"):
        values = dataset[name].values
        wrong = int((values[1:] <= values[:-1]).sum())
        if wrong:
            yield Problem(f"coords/{name}", f"{name}s that increase", f"{wrong} that do not")


_EPOCH = ("epoch",)

TRAINING = Kind(
    name="training",
    version="1.0",
    summary="Loss, accuracies, learning rate and time of every epoch of a training.",
    dims={"epoch": 1},
    coords=(
        Variable("epoch", _EPOCH, "int", "epoch", minimum=1),
        Variable("step", _EPOCH, "int", "optimiser step", minimum=1),
    ),
    variables=(
        Variable("loss", _EPOCH, "float", "cross-entropy, mean over the epoch", "1", 0, nullable=True),
        Variable(
            "penalty", _EPOCH, "float", "what interventions add to the loss", "1", 0, required=False, nullable=True
        ),
        Variable("train_accuracy", _EPOCH, "float", "accuracy on the training images", "1", 0, 1),
        Variable(
            "held_out_accuracy",
            _EPOCH,
            "float",
            "accuracy on held-out images",
            "1",
            0,
            1,
            required=False,
            nullable=True,
        ),
        Variable("learning_rate", _EPOCH, "float", "learning rate", "1", 0),
        Variable("seconds", _EPOCH, "float", "wall-clock time of the epoch", "s", 0),
    ),
    attributes=(
        Attribute("recipe", "json", "what was trained, and how"),
        Attribute("model", "str", "name of the model that the training makes"),
        Attribute("device", "str", "kind of the device that it was trained on"),
        Attribute("selected_epoch", "int", "epoch whose weights were kept"),
    ),
    checks=(epochs_and_steps_increase,),
)
