"""Training recipes: everything that determines a zoo model's weights, as data."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Architecture(_Frozen):
    """Which network is built."""

    name: Literal["cifar_resnet"] = "cifar_resnet"
    depth: int
    width: int = 1
    classes: int = 10


class Recipe(_Frozen):
    """One training run, after arXiv 2202.07184, appendix B, on less data.

    Attributes:
        name: Name of the model that it makes.
        family: Models of one family differ by seed, depth or width only.
        data: Data source of the training and test images.
        images_per_class: Class-balanced subset of the training split.
        learning_rate: Peak rate; decays by half a cosine to zero over the epochs, once an epoch.
        weight_decay: Coupled L2 of convolution and dense kernels only, in torch's convention
            (twice the coefficient of a Keras ``l2``).
        precision: Type of the convolutions' arithmetic during training.
    """

    name: str
    family: str
    architecture: Architecture
    data: str = "zoo:patches"
    images_per_class: int = 300
    seed: int = 0
    epochs: int = Field(default=60, ge=1)
    batch_size: int = Field(default=128, ge=2)
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 2e-3
    precision: Literal["float32", "bfloat16"] = "bfloat16"


def _resnet_recipe(depth: int, seed: int) -> Recipe:
    return Recipe(
        name=f"resnet{depth}-patches-seed{seed}",
        family="resnet-patches",
        architecture=Architecture(depth=depth),
        seed=seed,
    )


def recipes() -> dict[str, Recipe]:
    """Return all recipes by the name of the model they make."""
    made = [_resnet_recipe(depth, seed) for depth in (14, 110) for seed in (0, 1)]
    made.append(
        Recipe(
            name="resnet8-patches-quick",
            family="quick",
            architecture=Architecture(depth=8),
            images_per_class=40,
            epochs=2,
            precision="float32",
        )
    )
    return {recipe.name: recipe for recipe in made}
