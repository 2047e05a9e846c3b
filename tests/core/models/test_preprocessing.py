"""How images become the inputs of an ONNX model."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.models import ResNet18_Weights
from torchvision.transforms._presets import ImageClassification

from outcrop.errors import ModelLoadError
from outcrop.models.preprocessing import ImageRecipe, assumed_recipe, read_recipe


def gradient(width: int, height: int) -> Image.Image:
    """Return an image whose red is its column and whose green is its row."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.arange(width)
    pixels[..., 1] = np.arange(height)[:, None]
    return Image.fromarray(pixels)


def test_an_image_of_the_right_size_is_only_scaled() -> None:
    image = gradient(32, 32)
    prepared = ImageRecipe(size=(32, 32)).apply(image)
    assert prepared.dtype == torch.float32
    np.testing.assert_array_equal(prepared.numpy(), np.asarray(image, np.float32).transpose(2, 0, 1) / 255)


def test_mean_and_deviation_are_applied_by_channel() -> None:
    recipe = ImageRecipe(size=(4, 4), mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 2.0))
    prepared = recipe.apply(Image.new("RGB", (4, 4), (255, 255, 255)))
    torch.testing.assert_close(prepared[:, 0, 0], torch.tensor([1.0, 3.0, 0.5]))


def test_a_large_image_that_is_not_resized_is_cropped_at_its_centre() -> None:
    prepared = ImageRecipe(size=(10, 20)).apply(gradient(100, 50))
    red, green = (prepared[:2].numpy() * 255).round()
    np.testing.assert_array_equal(red[0], np.arange(40, 60))
    np.testing.assert_array_equal(green[:, 0], np.arange(20, 30))


def test_the_shorter_side_is_resized_before_the_crop() -> None:
    image = gradient(200, 100)
    expected = image.resize((80, 40), Image.Resampling.BICUBIC).crop((24, 4, 56, 36))
    prepared = ImageRecipe(size=(32, 32), resize=40, interpolation="bicubic").apply(image)
    np.testing.assert_array_equal((prepared.numpy() * 255).round(), np.asarray(expected).transpose(2, 0, 1))


ODD_SIZES = [(300, 451), (427, 640), (281, 500), (333, 500), (375, 500), (500, 375), (224, 224), (37, 301), (256, 999)]


@pytest.mark.parametrize(("height", "width"), ODD_SIZES)
@pytest.mark.parametrize(("size", "resize"), [(224, 256), (224, 224), (224, 232), (299, 342)])
def test_images_of_odd_sizes_are_prepared_exactly_as_by_torchvision(height, width, size, resize) -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))
    expected = ImageClassification(crop_size=size, resize_size=resize, mean=mean, std=std)(image)
    prepared = ImageRecipe(size=(size, size), resize=resize, mean=mean, std=std).apply(image)
    torch.testing.assert_close(prepared, expected, rtol=0, atol=1e-6)


def test_the_recipe_of_resnet18_is_that_of_its_weights() -> None:
    recipe = ImageRecipe(size=(224, 224), resize=256, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    expected = ResNet18_Weights.IMAGENET1K_V1.transforms()
    for width, height in ODD_SIZES:
        torch.testing.assert_close(
            recipe.apply(gradient(width, height)), expected(gradient(width, height)), rtol=0, atol=1e-6
        )


def test_a_recipe_that_is_assumed_says_so() -> None:
    recipe = assumed_recipe(8, 8, channels_last=False)
    assert not recipe.preprocessing().assumed
    assumed = recipe.preprocessing(note=" (assumed: the file says nothing)")
    assert assumed.assumed
    assert assumed.description == recipe.describe() + " (assumed: the file says nothing)"


def test_channels_last_is_the_same_image_with_its_axes_turned() -> None:
    image = gradient(50, 40)
    first, last = (assumed_recipe(24, 24, channels_last=value).apply(image) for value in (False, True))
    torch.testing.assert_close(last.permute(2, 0, 1), first)


@given(
    width=st.integers(1, 90),
    height=st.integers(1, 90),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    resize=st.none() | st.integers(1, 60),
    mode=st.sampled_from(["RGB", "L", "RGBA"]),
)
def test_every_image_becomes_the_size_that_the_network_takes(
    width: int, height: int, size: tuple[int, int], resize: int | None, mode: str
) -> None:
    prepared = ImageRecipe(size=size, resize=resize).apply(Image.new(mode, (width, height)))
    assert prepared.shape == (3, *size)


def test_the_description_tells_everything_that_changes_pixels() -> None:
    plain = ImageRecipe(size=(32, 32)).describe()
    assert plain.startswith("no resizing of large images; bilinear interpolation; centre crop 32x32; scaled to [0, 1]")
    assert plain.endswith("not normalised; NCHW")
    changes = (
        {"resize": 40},
        {"mean": (0.1, 0, 0)},
        {"std": (2, 1, 1)},
        {"interpolation": "nearest"},
        {"layout": "NHWC"},
    )
    described = {ImageRecipe.model_validate({"size": (32, 32), **change}).describe() for change in changes}
    assert len(described | {plain}) == 6


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"size": [0, 32]}', r"size\.0: Input should be greater than 0"),
        ('{"size": [32, 32], "colour": 1}', r"colour: Extra inputs are not permitted"),
        ("nothing", r"Invalid JSON"),
    ],
)
def test_metadata_that_is_no_recipe_is_refused(text: str, words: str) -> None:
    with pytest.raises(ModelLoadError, match=rf"metadata 'outcrop\.preprocessing' is not a recipe for images: {words}"):
        read_recipe(text)
