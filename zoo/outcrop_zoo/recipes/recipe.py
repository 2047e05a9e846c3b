"""What a recipe is."""

import re
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from outcrop_zoo.architectures.architecture import Architecture
from outcrop_zoo.interventions.specs import InterventionSpec

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

_WRITTEN_WHERE_SET = ("order_seed", "shared_epochs")
"""Left out of the JSON where they have their default, which says the same without them."""


class Recipe(BaseModel):
    """One training run, after arXiv 2202.07184, appendix B, on less data.

    Attributes:
        name: Name of the model that it makes: letters, digits, ``.``, ``_`` and ``-``.
        family: Models of one family differ by seed, depth or width only.
        data: Data source of the training and test images: ``zoo:patches``, ``cifar10`` (of torchvision),
            ``cifar10-jpeg``, ``fashion-mnist``, or what :func:`outcrop.load_data` takes, with ``{split}`` where it is
            to say ``train`` or ``test``.
        images_per_class: Class-balanced subset of the training split, the first of each class; None for all images.
        held_out_per_class: Images of each class, also of the training split, that follow those and are not trained on.
        selection: Which weights are kept: those after the last epoch, or those of the epoch that is best on the
            held-out images, the earliest where several are.
        seed: Of the initial weights, and of the training unless ``order_seed`` says otherwise.
        order_seed: Of the order of the images, their augmentation, and what the network draws while it trains. Recipes
            that differ by it only begin with the same weights, and part after ``shared_epochs``: the instability
            analysis of arXiv 1912.05671.
        shared_epochs: Epochs at the beginning that are trained as if there were no ``order_seed``.
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
    seed: int = Field(default=0, ge=0, lt=2**32)
    order_seed: int | None = Field(default=None, ge=0, lt=2**32)
    shared_epochs: int = Field(default=0, ge=0)
    epochs: int = Field(default=60, ge=1)
    batch_size: int = Field(default=128, ge=2)
    learning_rate: float = Field(default=0.01, gt=0, allow_inf_nan=False)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=2e-3, ge=0, allow_inf_nan=False)
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    crop_padding: int = Field(default=4, ge=0)
    flip: Literal["horizontal", "vertical", "none"] = "horizontal"
    snapshots: tuple[int, ...] = ()
    interventions: tuple[InterventionSpec, ...] = ()

    def training_seed(self, epoch: int) -> int:
        """Return what the order and the augmentation of an epoch, counted from 0, are drawn with."""
        return self.seed if self.order_seed is None or epoch < self.shared_epochs else self.order_seed

    @field_validator("name")
    @classmethod
    def _is_the_name_of_a_file(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"the name {name!r} is no name of a file; use letters, digits, '.', '_' and '-', and begin with a "
                "letter or a digit"
            )
        return name

    @model_serializer(mode="wrap")
    def _without_later_fields(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = type(self).model_fields
        left_out = {name for name in _WRITTEN_WHERE_SET if getattr(self, name) == fields[name].default}
        return {key: value for key, value in handler(self).items() if key not in left_out}

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if self.selection == "held_out" and self.held_out_per_class == 0:
            raise ValueError("selection 'held_out' needs held-out images; set held_out_per_class to 1 or more")
        if self.held_out_per_class and self.images_per_class is None:
            raise ValueError("held-out images are those after images_per_class of each class; set images_per_class")
        if any(step < 0 for step in self.snapshots) or list(self.snapshots) != sorted(set(self.snapshots)):
            raise ValueError(f"snapshots must be increasing steps, 0 or above; got {self.snapshots}")
        if self.order_seed == self.seed:
            raise ValueError(f"order_seed {self.order_seed} is the seed itself; choose another, or leave it out")
        if self.shared_epochs and self.order_seed is None:
            raise ValueError(f"shared_epochs {self.shared_epochs} without order_seed: nothing parts; set order_seed")
        if self.shared_epochs >= self.epochs:
            raise ValueError(f"shared_epochs {self.shared_epochs} of {self.epochs} epochs leave none to part in")
        if self.crop_padding >= min(self.architecture.image[1:]):
            raise ValueError(
                f"crop_padding {self.crop_padding} reflects more than the image of {self.architecture.image[1:]} "
                "pixels has; choose less"
            )
        return self
