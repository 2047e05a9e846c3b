"""Typical images with one statistic changed: brightness, contrast, saturation, blur, border, dark spots.

Each family has one parameter, so that a search finds how much of the statistic excites a network most. Pictures are
of samples that do not dominate; what they gain, the statistic brings.
"""

from collections.abc import Callable, Sequence

import numpy as np

from outcrop.stimuli import MakeAt, Stimulus, StimulusFamily, StimulusMaterial
from outcrop_probes.stimuli.colours import mean_of_border
from outcrop_probes.stimuli.pictures import Pixels, blurred, luma_of, outer, to_picture

BASES = 3
"""Typical images that are changed."""

Change = Callable[[Pixels, float, StimulusMaterial], Pixels]


def brightness(pixels: Pixels, level: float, _: StimulusMaterial) -> Pixels:
    """Return pixels drawn to black below level 0.5, to white above it."""
    towards = 0.0 if level <= 0.5 else 255.0
    return np.asarray(pixels + (towards - pixels) * abs(2 * level - 1))


def contrast(pixels: Pixels, level: float, _: StimulusMaterial) -> Pixels:
    """Return pixels whose distance from the mean colour is multiplied by twice the level."""
    mean = pixels.mean(axis=(0, 1), keepdims=True)
    return np.asarray(mean + 2 * level * (pixels - mean))


def saturation(pixels: Pixels, level: float, _: StimulusMaterial) -> Pixels:
    """Return pixels whose distance from their luma is multiplied by three times the level: 0 is grey."""
    luma = luma_of(pixels)
    return np.asarray(luma + 3 * level * (pixels - luma))


def low_pass(pixels: Pixels, level: float, _: StimulusMaterial) -> Pixels:
    """Return pixels blurred by up to a quarter of the shorter side."""
    return blurred(pixels, level * min(pixels.shape[:2]) / 4)


def high_pass(pixels: Pixels, level: float, _: StimulusMaterial) -> Pixels:
    """Return what a blur by a quarter of the shorter side or less takes away, about the mean colour; 1 keeps least."""
    mean = pixels.mean(axis=(0, 1), keepdims=True)
    return np.asarray(mean + pixels - blurred(pixels, (1.01 - level) * min(pixels.shape[:2]) / 4))


def border(pixels: Pixels, level: float, _: StimulusMaterial) -> Pixels:
    """Return pixels with a border of the image's own mean border colour; 1 covers the image."""
    height, width = pixels.shape[:2]
    thickness = level * (min(height, width) + 1) / 2
    own = pixels[outer(height, width, 1)].mean(axis=0)
    return np.where(outer(height, width, thickness)[:, :, None], own, pixels)


def border_of_dominant(pixels: Pixels, level: float, material: StimulusMaterial) -> Pixels:
    """Return pixels with a border of the colour that the most dominant image has there.

    It grows to a quarter of the shorter side: the centre stays, so that this is no solid image.
    """
    if not material.dominant:
        return pixels
    height, width = pixels.shape[:2]
    own = 255 * np.asarray(mean_of_border(material.dominant[0]))
    return np.where(outer(height, width, level * min(height, width) / 4)[:, :, None], own, pixels)


def dark_spots(pixels: Pixels, level: float, material: StimulusMaterial) -> Pixels:
    """Return pixels with discs drawn to black, which cover up to half of the image; their places are of the seed."""
    height, width = pixels.shape[:2]
    y, x = np.indices((height, width))
    rng = material.rng("dark_spots")
    spots = 9
    radius = np.sqrt(level * 0.5 * height * width / (spots * np.pi))
    # One in each cell of three by three, so that they overlap little.
    cells = (np.indices((3, 3)).reshape(2, -1).T + rng.uniform(0.3, 0.7, (spots, 2))) / 3
    distance = np.min([np.hypot(y - row * height, x - column * width) for row, column in cells], axis=0)
    return np.asarray(np.where((distance < radius)[:, :, None], 0.1 * pixels, pixels))


def at_level(name: str, change: Change) -> MakeAt:
    """Return what makes the stimuli of one level of a change."""

    def make(material: StimulusMaterial, level: float) -> Sequence[Stimulus]:
        return [
            Stimulus(
                f"{name} {level:.3g} of typical image {number}",
                to_picture(change(picture.astype(np.float64), level, material)),
                level=level,
            )
            for number, picture in enumerate(material.typical[:BASES], start=1)
        ]

    return make


def _family(name: str, summary: str, change: Change) -> StimulusFamily:
    return StimulusFamily(name, summary, takes="image", at=at_level(name.replace("_", " "), change), per_model=True)


CHANGES = (
    _family("brightness", "typical images made darker or brighter", brightness),
    _family("contrast", "typical images of less or more contrast", contrast),
    _family("saturation", "typical images of less or more colour", saturation),
    _family("low_pass", "typical images without high frequencies", low_pass),
    _family("high_pass", "typical images without low frequencies", high_pass),
    _family("border", "typical images with an even border of their own colour", border),
    _family("dominant_border", "typical images with the border colour of a dominant one", border_of_dominant),
    _family("dark_spots", "typical images with dark discs", dark_spots),
)
