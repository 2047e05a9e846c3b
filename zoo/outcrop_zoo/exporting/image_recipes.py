"""The preprocessing of timm and torchvision as an ONNX file states it."""

from typing import Any

import numpy as np
from PIL import Image

from outcrop.models.model import Preprocessing
from outcrop.models.preprocessing import ImageRecipe

_PROBED_SIZES = ((640, 480), (427, 600), (180, 200))
_TOLERANCE = 1e-5


def image_recipe(preprocessing: Preprocessing | None) -> ImageRecipe | None:
    """Return the recipe that does to images what a model's preprocessing does.

    Transforms are read, and then compared with what was read of them on images of several sizes.

    Returns:
        None where there is no preprocessing, where it is only assumed, and where no recipe gives the same pixels.
    """
    if preprocessing is None or preprocessing.assumed:
        return None
    recipe = _read(preprocessing.transform)
    return recipe if recipe is not None and _agree(recipe, preprocessing) else None


def _read(transform: Any) -> ImageRecipe | None:
    owner = getattr(transform, "__self__", None)
    if isinstance(owner, ImageRecipe):
        return owner
    found: dict[str, Any] = {}
    if hasattr(transform, "crop_size"):  # torchvision's presets, one object
        found = {
            "size": transform.crop_size,
            "resize": transform.resize_size,
            "mean": transform.mean,
            "std": transform.std,
            "interpolation": transform.interpolation,
        }
    for step in getattr(transform, "transforms", ()):  # timm's, a sequence
        name = type(step).__name__
        if name.startswith("Resize"):
            found |= {"resize": step.size, "interpolation": step.interpolation}
        elif name.startswith("CenterCrop"):
            found["size"] = step.size
        elif name == "Normalize":
            found |= {"mean": step.mean, "std": step.std}
    if "size" not in found:
        return None
    height, *others = _numbers(found["size"])
    fields: dict[str, Any] = {"size": (int(height), int(others[0] if others else height))}
    if "resize" in found:
        fields["resize"] = int(min(_numbers(found["resize"])))
        fields["interpolation"] = getattr(found["interpolation"], "value", found["interpolation"])
    if "mean" in found:
        fields |= {key: tuple(float(f"{value:.7g}") for value in _numbers(found[key])) for key in ("mean", "std")}
    known = ImageRecipe.model_fields["interpolation"].annotation
    if len(fields.get("mean", (0, 0, 0))) != 3 or fields.get("interpolation", "bilinear") not in known.__args__:  # type: ignore[union-attr] # a Literal
        return None
    return ImageRecipe(**fields)


def _numbers(value: Any) -> list[float]:
    return [float(number) for number in np.atleast_1d(np.asarray(value, dtype=np.float64))]


def _agree(recipe: ImageRecipe, preprocessing: Preprocessing) -> bool:
    rng = np.random.default_rng(0)
    for width, height in _PROBED_SIZES:
        coarse = rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        wanted, found = preprocessing.transform(image.copy()), recipe.apply(image)
        if wanted.shape != found.shape or float((wanted - found).abs().max()) > _TOLERANCE:
            return False
    return True
