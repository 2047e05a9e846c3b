"""Images and labels for training and testing, by the data source that a recipe names."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from outcrop.errors import ZooError
from outcrop.models.preprocessing import ImageRecipe
from outcrop_zoo.data_sources import load_zoo_data
from outcrop_zoo.data_sources.fashion_mnist import first_of_each_class
from outcrop_zoo.recipes import Recipe
from outcrop_zoo.training.images import ImageSet

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from outcrop.data import Data

_TEMPLATES: Mapping[str, str] = {
    "zoo:patches": "zoo:patches/{split}",
    "cifar10": "torchvision:CIFAR10/{split}",
    "cifar10-jpeg": "zoo:cifar10-jpeg/{split}",
    "fashion-mnist": "zoo:fashion-mnist/{split}",
}
"""What :func:`outcrop.load_data` takes for the data that recipes name."""


@dataclass(frozen=True)
class RecipeData:
    """What a recipe trains and tests on.

    Attributes:
        train: The class-balanced subset that the recipe asks for.
        test: All test images.
        test_source: Data reference of the test images.
        classes: Names of the labels.
        preprocessing: How an RGB image becomes the input of the network; None where samples are arrays.
        training_samples: The training images as data, for studies and analyses.
        held_out: Images of the training split that are not trained on, where the recipe asks for any.
        held_out_samples: They as data.
    """

    train: ImageSet
    test: ImageSet
    test_source: str
    classes: tuple[str, ...]
    preprocessing: ImageRecipe | None
    training_samples: "Data"
    held_out: ImageSet | None = None
    held_out_samples: "Data | None" = None


def load_recipe_data(recipe: Recipe) -> RecipeData:
    """Return the images of a recipe's data source.

    Raises:
        DataNotFoundError: They are not on this machine, or a class has fewer images than the recipe asks for.
        DataReadError: What is there cannot be read.
        ZooError: The data has no labels, other classes than the recipe's network, one split only, or no images.
    """
    template = _template(recipe.data)
    test_source = (
        template.replace("/{split}", "") if template.startswith("zoo:") else template.replace("{split}", "test")
    )
    training, held_out = _training_splits(recipe, template)
    test = _load(test_source)
    _, height, width = recipe.architecture.image
    preprocessing = ImageRecipe(size=(height, width), resize=min(height, width))
    for samples in (training, test):
        _check_classes(recipe, samples)
    if training.classes != test.classes:
        raise ZooError(
            f"The training images of {recipe.data!r} have classes {training.classes}, the test images {test.classes}; "
            "expected the same. Give each split the same class folders."
        )
    return RecipeData(
        train=image_set(training, preprocessing),
        test=image_set(test, preprocessing),
        test_source=test_source,
        classes=training.classes or (),
        preprocessing=preprocessing if _is_picture(training) else None,
        training_samples=training,
        held_out=None if held_out is None else image_set(held_out, preprocessing),
        held_out_samples=held_out,
    )


def image_set(data: "Data", preprocessing: ImageRecipe) -> ImageSet:
    """Return data as the tensors that a network is trained on.

    Pictures go through the preprocessing; arrays (channel, y, x) are taken as they are.

    Raises:
        ZooError: Samples are neither.
    """
    assert data.labels is not None  # checked when the data was chosen
    labels = torch.from_numpy(np.array(data.labels, dtype=np.int64))
    if not _is_picture(data):
        arrays = [np.asarray(data.read(index)) for index in range(len(data))]
        if arrays[0].ndim != 3 or arrays[0].dtype.kind != "f":
            raise ZooError(
                f"The samples of {data.source!r} are of shape {arrays[0].shape} and type {arrays[0].dtype}; expected "
                "images, or arrays of floats (channel, y, x)."
            )
        return ImageSet(torch.from_numpy(np.stack(arrays).astype(np.float32)), labels)
    pixels = np.stack([_pixels(data, index, preprocessing) for index in range(len(data))])
    return ImageSet(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255, labels)


def _pixels(data: "Data", index: int, preprocessing: ImageRecipe) -> "NDArray[np.uint8]":
    """Return a picture (y, x, channel) in the size of the network."""
    from PIL.Image import Image

    picture = data.read(index)
    assert isinstance(picture, Image)  # data holds one kind of samples
    height, width = preprocessing.size
    if picture.size == (width, height):
        return np.asarray(picture)
    applied = (preprocessing.apply(picture) * 255).round().to(torch.uint8)
    return applied.permute(1, 2, 0).contiguous().numpy()


def _is_picture(data: "Data") -> bool:
    from PIL.Image import Image

    return isinstance(data.read(0), Image)


def _load(reference: str) -> "Data":
    if reference.startswith("zoo:"):
        # The zoo's own need no plugin host.
        return load_zoo_data(reference.removeprefix("zoo:"))
    from outcrop.data import load_data

    return load_data(reference)


def _template(data: str) -> str:
    template = _TEMPLATES.get(data, data)
    if "{split}" not in template:
        raise ZooError(
            f"The recipe's data {data!r} does not say where the splits are: expected one of {', '.join(_TEMPLATES)}, "
            "or a reference with {split}, such as 'photos/{split}' with the folders photos/train and photos/test."
        )
    return template


def _training_splits(recipe: Recipe, template: str) -> "tuple[Data, Data | None]":
    """Return the images to train on, and those to choose by: other images of the same split."""
    from outcrop.data import subset

    count, held_out = recipe.images_per_class, recipe.held_out_per_class
    if template == _TEMPLATES["zoo:patches"]:
        # Neighbouring patches overlap, so those that are held out come from another part of each photograph.
        split, query = ("fit" if held_out else "train"), "" if count is None else f"?per_class={count}"
        training = _load(template.replace("{split}", split) + query)
        return training, _load(f"zoo:patches/held_out?per_class={held_out}") if held_out else None
    # The zoo's own data reads no more files than are asked for.
    query = f"?per_class={count + held_out}" if count is not None and template.startswith("zoo:") else ""
    data = _load(template.replace("{split}", "train") + query)
    if count is None:
        return data, None
    _check_classes(recipe, data)
    labels, classes = data.labels, data.classes
    assert labels is not None and classes is not None  # noqa: PT018 - checked in the line before
    training = subset(data, first_of_each_class(labels, classes, count))
    if not held_out:
        return training, None
    return training, subset(data, first_of_each_class(labels, classes, held_out, skip=count))


def _check_classes(recipe: Recipe, data: "Data") -> None:
    found = 0 if data.labels is None or data.classes is None else len(data.classes)
    if found != recipe.architecture.classes:
        raise ZooError(
            f"The data {data.source!r} has {found or 'no'} classes; the recipe {recipe.name!r} is for "
            f"{recipe.architecture.classes}. Change 'classes' of its architecture, or give a folder for each class."
        )
