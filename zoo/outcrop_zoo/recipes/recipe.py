"""What a recipe is."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from outcrop_zoo.architectures.architecture import Architecture
from outcrop_zoo.interventions.specs import InterventionSpec


class Recipe(BaseModel):
    """One training run, after arXiv 2202.07184, appendix B, on less data.

    Attributes:
        name: Name of the model that it makes.
        family: Models of one family differ by seed, depth or width only.
        data: Data source of the training and test images: ``zoo:patches``, ``cifar10`` (of torchvision),
            ``cifar10-jpeg``, ``fashion-mnist``, or what :func:`outcrop.load_data` takes, with ``{split}`` where it is
            to say ``train`` or ``test``.
        images_per_class: Class-balanced subset of the training split, the first of each class; None for all images.
        held_out_per_class: Images of each class, also of the training split, that follow those and are not trained on.
        selection: Which weights are kept: those after the last epoch, or those of the epoch that is best on the
            held-out images, the earliest where several are.
        learning_rate: Peak rate; decays by half a cosine to zero over the epochs, once an epoch.
        weight_decay: Coupled L2 of convolution and dense kernels only, in torch's convention
            (twice the coefficient of a Keras ``l2``).
        precision: Type of the convolutions' arithmetic during training.
        crop_padding: Pixels of reflected border, of which a random crop is taken; 0 for no crop.
        flip: Direction in which half of the images are flipped.
        snapshots: Optimiser steps after which the weights are kept as well, as models ``NAME@STEP``; 0 is the
            initialisation.
        interventions: What is done to network, images or loss beside, in this order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    family: str
    architecture: Architecture
    data: str = "zoo:patches"
    images_per_class: int | None = Field(default=300, ge=1)
    held_out_per_class: int = Field(default=0, ge=0)
    selection: Literal["last", "held_out"] = "last"
    seed: int = 0
    epochs: int = Field(default=60, ge=1)
    batch_size: int = Field(default=128, ge=2)
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 2e-3
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    crop_padding: int = Field(default=4, ge=0)
    flip: Literal["horizontal", "vertical", "none"] = "horizontal"
    snapshots: tuple[int, ...] = ()
    interventions: tuple[InterventionSpec, ...] = ()

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if self.selection == "held_out" and self.held_out_per_class == 0:
            raise ValueError("selection 'held_out' needs held-out images; set held_out_per_class to 1 or more")
        if self.held_out_per_class and self.images_per_class is None:
            raise ValueError("held-out images are those after images_per_class of each class; set images_per_class")
        if any(step < 0 for step in self.snapshots) or list(self.snapshots) != sorted(set(self.snapshots)):
            raise ValueError(f"snapshots must be increasing steps, 0 or above; got {self.snapshots}")
        return self
