"""From a recipe's data to tensors."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from outcrop.data import ArrayData, ImageArray
from outcrop.errors import DataNotFoundError, ZooError
from outcrop.models.preprocessing import ImageRecipe
from outcrop_zoo.recipes import Recipe
from outcrop_zoo.training.data import image_set, load_recipe_data

SIZES = {"train": 5, "test": 2}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of 40 x 40 pictures, five for training and two for testing each; the first pixel tells them apart."""
    generator = np.random.default_rng(0)
    for split, count in SIZES.items():
        for name in ("bees", "ants"):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                Image.fromarray(generator.integers(0, 256, (40, 40, 3), np.uint8)).save(folder / f"{index}.png")
    return tmp_path / "photos"


@pytest.fixture
def recipe(tiny_recipe: Recipe, photos: Path) -> Recipe:
    changes = {
        "data": f"{photos}/{{split}}",
        "images_per_class": 3,
        "architecture": tiny_recipe.architecture.model_copy(update={"classes": 2}),
    }
    return tiny_recipe.model_copy(update=changes)


def test_recipe_data_are_pixels_in_zero_to_one_with_the_asked_number_of_images(tiny_recipe: Recipe) -> None:
    data = load_recipe_data(tiny_recipe)
    assert data.train.images.shape == (40, 3, 32, 32)
    assert data.test.images.shape == (3000, 3, 32, 32)
    assert torch.bincount(data.train.labels).tolist() == [4] * 10
    assert (float(data.test.images.min()), float(data.test.images.max())) == (0, 1)
    assert (data.test_source, data.held_out) == ("zoo:patches", None)


def test_any_data_that_outcrop_loads_can_be_trained_on(recipe: Recipe) -> None:
    data = load_recipe_data(recipe)
    assert (data.classes, data.test_source) == (("ants", "bees"), recipe.data.replace("{split}", "test"))
    assert list(data.training_samples.sample_ids) == [f"{name}/{i}.png" for name in ("ants", "bees") for i in range(3)]
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.test.images.shape == (4, 3, 32, 32)
    path = Path(recipe.data.replace("{split}", "train"), "ants", "1.png")
    assert data.preprocessing is not None
    expected = data.preprocessing.apply(Image.open(path))
    torch.testing.assert_close(data.train.images[1], expected, rtol=0, atol=1e-6)


def test_held_out_images_are_the_next_ones_of_the_training_split(recipe: Recipe) -> None:
    data = load_recipe_data(recipe.model_copy(update={"held_out_per_class": 2}))
    assert data.held_out_samples is not None
    assert list(data.held_out_samples.sample_ids) == ["ants/3.png", "ants/4.png", "bees/3.png", "bees/4.png"]
    assert data.held_out is not None
    everything = torch.cat([data.train.images, data.held_out.images, data.test.images]).flatten(1)
    assert len(torch.unique(everything, dim=0)) == 2 * sum(SIZES.values())


def test_all_images_are_used_where_no_number_is_given(recipe: Recipe) -> None:
    assert len(load_recipe_data(recipe.model_copy(update={"images_per_class": None})).train.labels) == 10


def test_a_class_with_too_few_images_is_told(recipe: Recipe) -> None:
    with pytest.raises(
        DataNotFoundError, match="Class 'ants' has fewer than the 6 images of each class that are asked"
    ):
        load_recipe_data(recipe.model_copy(update={"images_per_class": 6}))


def test_data_of_other_classes_than_the_network_are_refused(recipe: Recipe, tiny_recipe: Recipe, photos: Path) -> None:
    with pytest.raises(ZooError, match=r"has 2 classes; the recipe 'tiny' is for 10. Change 'classes'"):
        load_recipe_data(recipe.model_copy(update={"architecture": tiny_recipe.architecture}))
    (photos / "test" / "bees").rename(photos / "test" / "wasps")
    with pytest.raises(
        ZooError, match=r"classes \('ants', 'bees'\), the test images \('ants', 'wasps'\); expected the"
    ):
        load_recipe_data(recipe)


def test_data_without_splits_are_refused(recipe: Recipe) -> None:
    with pytest.raises(
        ZooError, match=r"data 'photos' does not say where the splits are: expected one of zoo:patches, "
    ):
        load_recipe_data(recipe.model_copy(update={"data": "photos"}))


def test_all_256_values_become_what_a_model_makes_of_them() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    preprocessing = ImageRecipe(size=(16, 16), resize=16)
    data = ImageArray(values, labels=[0], classes=["grey"])
    found = image_set(data, preprocessing).images[0]
    assert torch.equal(found, preprocessing.apply(Image.fromarray(values[0])))


def test_arrays_are_taken_as_they_are() -> None:
    arrays: NDArray[np.float64] = np.random.default_rng(1).normal(size=(2, 3, 4, 4))
    data = ArrayData(arrays, labels=[1, 0], classes=["a", "b"])
    found = image_set(data, ImageRecipe(size=(8, 8)))
    np.testing.assert_array_equal(found.images.numpy(), arrays.astype(np.float32))
    assert found.labels.tolist() == [1, 0]


def test_samples_that_are_no_images_are_refused() -> None:
    data = ArrayData(np.zeros((2, 7), dtype=np.int64), labels=[0, 1], classes=["a", "b"])
    with pytest.raises(ZooError, match=r"are of shape \(7,\) and type int64; expected images, or arrays of floats"):
        image_set(data, ImageRecipe(size=(8, 8)))


def test_fashion_mnist_is_trained_on_by_its_short_name(
    tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "fashion-mnist"
    folder.mkdir()
    labels = np.arange(40, dtype=np.uint8) % 10
    for prefix in ("train", "t10k"):
        images = np.full((40, 28, 28), 255, np.uint8)
        header = struct.pack(">HBBIII", 0, 8, 3, 40, 28, 28)
        (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + images.tobytes()))
        header = struct.pack(">HBBI", 0, 8, 1, 40)
        (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(header + labels.tobytes()))
    monkeypatch.setenv("OUTCROP_DATA", str(tmp_path))
    data = load_recipe_data(tiny_recipe.model_copy(update={"data": "fashion-mnist", "images_per_class": 2}))
    assert data.test_source == "zoo:fashion-mnist"
    assert data.train.labels.tolist() == [label for label in range(10) for _ in range(2)]
    assert data.train.images.shape == (20, 3, 32, 32)
    assert (float(data.train.images[0, 0, 0, 0]), float(data.train.images[0, 2, 2, 2])) == (0, 1)
