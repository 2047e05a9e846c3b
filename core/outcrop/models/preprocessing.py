"""How images become the inputs of an ONNX model: as the file says, or as its input's shape suggests."""

from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError

from outcrop.errors import ModelLoadError
from outcrop.models.model import Preprocessing

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

METADATA_KEY = "outcrop.preprocessing"
"""Of the metadata of an ONNX file; its value is the JSON of :class:`ImageRecipe`."""


class ImageRecipe(BaseModel):
    """Resize, centre crop, scale to [0, 1], normalise.

    Attributes:
        size: Height and width that the network takes.
        resize: Length of the shorter side before the crop; None leaves the image at its size where it is large enough.
        mean: Per channel, subtracted.
        std: Per channel, divided by.
        interpolation: Of the resizing.
        layout: Order of the network's input.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: tuple[PositiveInt, PositiveInt]
    resize: PositiveInt | None = None
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bilinear"
    layout: Literal["NCHW", "NHWC"] = "NCHW"

    def describe(self) -> str:
        """Return everything that it does to the pixels."""
        height, width = self.size
        plain = self.mean == (0.0, 0.0, 0.0) and self.std == (1.0, 1.0, 1.0)
        steps = [
            "no resizing of large images" if self.resize is None else f"shorter side to {self.resize}",
            f"{self.interpolation} interpolation",
            f"centre crop {height}x{width}",
            "scaled to [0, 1]",
            "not normalised" if plain else f"mean {list(self.mean)}, std {list(self.std)}",
            self.layout,
        ]
        return "; ".join(steps)

    def apply(self, image: "Image") -> "Tensor":
        """Return an RGB image as a float32 tensor (channel, y, x), or (y, x, channel) where the layout is NHWC."""
        import torch
        from PIL.Image import Resampling

        height, width = self.size
        resized = _resized(image.size, self.resize, width=width, height=height)
        if resized != image.size:
            image = image.resize(resized, Resampling[self.interpolation.upper()])
        left, top = round((image.width - width) / 2), round((image.height - height) / 2)
        image = image.crop((left, top, left + width, top + height))
        mean, std = np.array(self.mean, dtype=np.float32), np.array(self.std, dtype=np.float32)
        pixels = (np.array(image.convert("RGB"), dtype=np.float32) / 255.0 - mean) / std
        if self.layout == "NCHW":
            pixels = pixels.transpose(2, 0, 1)
        return torch.from_numpy(np.ascontiguousarray(pixels, dtype=np.float32))

    def preprocessing(self, *, note: str = "") -> Preprocessing:
        """Return what a model carries.

        Args:
            note: Behind the description: why the recipe is assumed, where nobody states it.
        """
        return Preprocessing(self.describe() + note, self.apply, assumed=bool(note))


def _resized(size: tuple[int, int], shorter: int | None, *, width: int, height: int) -> tuple[int, int]:
    """Return the (width, height) to resize to, exactly as torchvision's ``Resize`` does: the longer side is truncated.

    Where a crop of ``width`` and ``height`` would not fit, the image is enlarged to cover it.
    """
    small, large = min(size), max(size)
    if shorter is not None:
        small, large = shorter, int(shorter * large / small)
    found = (small, large) if size[0] <= size[1] else (large, small)
    if found[0] >= width and found[1] >= height:
        return found
    scale = max(width / size[0], height / size[1])
    return max(width, round(size[0] * scale)), max(height, round(size[1] * scale))


def read_recipe(text: str) -> ImageRecipe:
    """Return the recipe that a file's metadata holds.

    Raises:
        ModelLoadError: It is not one.
    """
    try:
        return ImageRecipe.model_validate_json(text)
    except ValidationError as error:
        problems = "; ".join(
            ": ".join(filter(None, (".".join(map(str, problem["loc"])), problem["msg"]))) for problem in error.errors()
        )
        raise ModelLoadError(
            f"The model's metadata {METADATA_KEY!r} is not a recipe for images: {problems}."
        ) from error


def assumed_recipe(height: int, width: int, *, channels_last: bool) -> ImageRecipe:
    """Return what is done to images where the file says nothing."""
    return ImageRecipe(
        size=(height, width),
        resize=min(height, width),
        interpolation="bicubic",
        layout="NHWC" if channels_last else "NCHW",
    )
