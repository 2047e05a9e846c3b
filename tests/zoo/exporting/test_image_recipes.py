from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import InterpolationMode
from torchvision.transforms._presets import ImageClassification

from outcrop.models.model import Preprocessing
from outcrop.models.preprocessing import ImageRecipe
from outcrop_zoo.exporting.image_recipes import image_recipe


def recipe_of(transform: Callable[[Image.Image], Tensor], *, assumed: bool = False) -> ImageRecipe | None:
    return image_recipe(Preprocessing("as tested", transform, assumed=assumed))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("crop", [0.875, 1.0])
def test_transforms_of_timm_are_read(interpolation: str, crop: float) -> None:
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
    transform = create_transform((3, 160, 160), interpolation=interpolation, mean=mean, std=std, crop_pct=crop)
    expected = {"size": (160, 160), "resize": int(160 / crop), "mean": mean, "std": std, "interpolation": interpolation}
    assert recipe_of(transform) == ImageRecipe(**expected)


def test_presets_of_torchvision_are_read() -> None:
    preset = ImageClassification(crop_size=224, resize_size=232, interpolation=InterpolationMode.BICUBIC)
    assert recipe_of(preset) == ImageRecipe(
        size=(224, 224), resize=232, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), interpolation="bicubic"
    )


def test_a_recipe_comes_back_as_it_was() -> None:
    recipe = ImageRecipe(size=(32, 40), resize=50, mean=(0.5, 0.5, 0.5), interpolation="lanczos")
    assert image_recipe(recipe.preprocessing()) == recipe


def negative(image: Image.Image) -> Tensor:
    return 1 - torch.from_numpy(np.array(image.resize((32, 32)), dtype=np.float32).transpose(2, 0, 1)) / 255


class Exposed(transforms.Compose):  # type: ignore[misc] # torchvision is not typed
    """Looks like a crop, and does something else afterwards."""

    def __call__(self, image: Any) -> Tensor:
        values: Tensor = super().__call__(image)
        return values * 1.001


@pytest.mark.parametrize(
    "transform",
    [
        negative,
        Exposed([transforms.Resize(40), transforms.CenterCrop(32), transforms.ToTensor()]),
        transforms.Compose([transforms.Resize((40, 50)), transforms.CenterCrop(32), transforms.ToTensor()]),
        transforms.Compose([transforms.Resize(40, InterpolationMode.BOX), transforms.CenterCrop(32)]),
        create_transform((3, 64, 64), crop_mode="squash"),
    ],
    ids=["a function", "another step", "to a shape", "box", "squashed"],
)
def test_what_no_recipe_does_is_not_stated(transform: Callable[[Image.Image], Tensor]) -> None:
    assert recipe_of(transform) is None


def test_what_is_assumed_or_absent_is_not_stated() -> None:
    assert image_recipe(None) is None
    assert recipe_of(ImageRecipe(size=(32, 32)).apply, assumed=True) is None
