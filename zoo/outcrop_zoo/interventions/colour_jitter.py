"""Distort the colours of images at random, each its own way (SimCLR, arXiv 2002.05709, appendix A).

The operations are those of the released code of arXiv 2202.07184, which are TensorFlow's and not torchvision's:
brightness is *added*, contrast is taken about the mean of each *channel*, saturation is scaled in HSV, and nothing is
clipped before the end.
"""

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from outcrop.errors import InputError, ParameterError
from outcrop_zoo.interventions.intervention import Intervention

Images = Float[Tensor, "sample channel y x"]
Amounts = Float[Tensor, " sample"]

_LUMA = (0.2989, 0.5870, 0.1140)


def jitter_colours(
    images: Images,
    *,
    generator: Generator,
    brightness: float = 0.8,
    contrast: float = 0.8,
    saturation: float = 0.8,
    hue: float = 0.2,
    probability: float = 0.8,
    greyscale: float = 0.2,
) -> Images:
    """Return images whose colours are distorted at random, each its own way.

    Brightness, contrast, saturation and hue, in this order, of a share of the images, clipped to [0, 1]; then a share
    of all loses its colour. Six numbers an image are drawn, whatever happens to it.

    Args:
        images: (sample, 3, y, x), RGB in [0, 1]; left as they are.
        generator: The only source of chance; may live on another device than the images.
        brightness: The number added is uniform in [-brightness, brightness].
        contrast: The factor is uniform in [1 - contrast, 1 + contrast].
        saturation: The factor is uniform in [1 - saturation, 1 + saturation].
        hue: The turn is uniform in [-hue, hue], in full turns.
        probability: Share of images that are jittered.
        greyscale: Share of images that lose their colour.

    Raises:
        InputError: The images are not RGB.
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise InputError(f"Colours need images (sample, 3, y, x); got {tuple(images.shape)}. Leave the jitter out.")
    draws = torch.rand(6, len(images), generator=generator, device=generator.device).to(images)
    signed = 2 * draws[1:5] - 1
    jittered = add_brightness(images, brightness * signed[0])
    jittered = scale_contrast(jittered, 1 + contrast * signed[1])
    jittered = scale_saturation(jittered, 1 + saturation * signed[2])
    jittered = turn_hue(jittered, hue * signed[3]).clamp(0, 1)
    images = torch.where(_each(draws[0] < probability), jittered, images)
    return torch.where(_each(draws[5] < greyscale), to_grey(images), images)


def add_brightness(images: Images, amount: Amounts) -> Images:
    """Return images with a number added to every pixel, one an image."""
    return images + _each(amount)


def scale_contrast(images: Images, factor: Amounts) -> Images:
    """Return images whose distances from the mean of each channel are multiplied, one factor an image."""
    mean = images.mean((2, 3), keepdim=True)
    return mean + _each(factor) * (images - mean)


def scale_saturation(images: Images, factor: Amounts) -> Images:
    """Return images whose saturation in HSV is multiplied and clipped to [0, 1], one factor an image.

    Hue and value stay, so the distance of each channel from the largest shrinks or grows by one ratio.
    """
    value, lowest = images.amax(1, keepdim=True), images.amin(1, keepdim=True)
    distance = value - lowest
    # Without colour, or where the largest channel is not above zero, the saturation is 0.
    wanted = value * (_each(factor) * distance / torch.where(value > 0, value, 1)).clamp(0, 1)
    ratio = torch.where((value > 0) & (distance > 0), wanted / torch.where(distance > 0, distance, 1), 0)
    return value - ratio * (value - images)


def turn_hue(images: Images, turn: Amounts) -> Images:
    """Return images whose hue in HSV is turned, one part of a full turn an image; value and saturation stay."""
    red, green, blue = images.unbind(1)
    value, distance = images.amax(1), images.amax(1) - images.amin(1)
    divisor = torch.where(distance > 0, distance, 1)
    sixths = torch.where(
        value == red,
        (green - blue) / divisor,
        torch.where(value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    sixths = sixths + 6 * turn[:, None, None]
    # Each channel is the same piecewise linear function of the hue, a third of a turn apart.
    places = [torch.remainder(offset + sixths, 6) for offset in (5, 3, 1)]
    return torch.stack([value - distance * torch.minimum(k, 4 - k).clamp(0, 1) for k in places], dim=1)


def to_grey(images: Images) -> Images:
    """Return images (sample, 3, y, x) with the luma (ITU-R BT.601) in every channel."""
    grey = sum(weight * channel for weight, channel in zip(_LUMA, images.unbind(1), strict=True))
    return torch.stack([torch.as_tensor(grey)] * 3, dim=1)


class ColourJitter(Intervention):
    """Distorts the colours of every training batch by :func:`jitter_colours`.

    Args:
        brightness: As there.
        contrast: As there.
        saturation: As there.
        hue: As there.
        probability: As there.
        greyscale: As there.

    Raises:
        ParameterError: An amount out of range.
    """

    def __init__(
        self,
        *,
        brightness: float = 0.8,
        contrast: float = 0.8,
        saturation: float = 0.8,
        hue: float = 0.2,
        probability: float = 0.8,
        greyscale: float = 0.2,
    ) -> None:
        self.amounts = {
            "brightness": brightness,
            "contrast": contrast,
            "saturation": saturation,
            "hue": hue,
            "probability": probability,
            "greyscale": greyscale,
        }
        for name, amount in self.amounts.items():
            largest = 0.5 if name == "hue" else 1
            if not 0 <= amount <= largest:
                raise ParameterError(f"{name}={amount} is out of range; give a number from 0 to {largest}.")

    def augment(self, images: Tensor, generator: Generator) -> Tensor:
        return jitter_colours(images, generator=generator, **self.amounts)


def _each(amount: Tensor) -> Tensor:
    """Return one number an image, (sample), as (sample, 1, 1, 1)."""
    return amount[:, None, None, None]
