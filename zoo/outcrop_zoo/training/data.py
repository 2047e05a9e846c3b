"""Images and labels for training and testing, by the data source that a recipe names."""

from dataclasses import dataclass

import torch

from outcrop.models.preprocessing import ImageRecipe
from outcrop_zoo.patches import PATCH_SIZE, Split, load_patches
from outcrop_zoo.recipes import Recipe
from outcrop_zoo.training.loop import ImageSet


@dataclass(frozen=True)
class RecipeData:
    """What a recipe trains and tests on.

    Attributes:
        train: The class-balanced subset that the recipe asks for.
        test: All test images.
        test_source: Data reference of the test images.
        classes: Names of the labels.
        preprocessing: How an RGB image becomes the input of the network.
    """

    train: ImageSet
    test: ImageSet
    test_source: str
    classes: tuple[str, ...]
    preprocessing: ImageRecipe


def load_recipe_data(recipe: Recipe) -> RecipeData:
    """Return the images of a recipe's data source."""
    train, classes = _patches("train", recipe.images_per_class)
    test, _ = _patches("test", None)
    return RecipeData(
        train=train,
        test=test,
        test_source=recipe.data,
        classes=classes,
        preprocessing=ImageRecipe(size=(PATCH_SIZE, PATCH_SIZE), resize=PATCH_SIZE),
    )


def _patches(split: Split, per_class: int | None) -> tuple[ImageSet, tuple[str, ...]]:
    patches = load_patches(split, per_class=per_class)
    images = torch.from_numpy(patches.images).permute(0, 3, 1, 2).float() / 255
    return ImageSet(images, torch.from_numpy(patches.labels)), patches.classes
