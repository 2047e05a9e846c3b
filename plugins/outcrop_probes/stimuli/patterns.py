"""Patterns: gradients, gratings, and noise that has mean, deviation or spectrum of the data's images."""

from itertools import product

import numpy as np

from outcrop.stimuli import Stimulus, StimulusFamily, StimulusMaterial
from outcrop_probes.stimuli.pictures import Pixels, amplitude_of, fitted, to_picture, with_random_phases

ORIENTATIONS = (0, 45, 90)
CYCLES = (1, 2, 4, 8, 16)
_ROUNDS = 100
_LOOKED_AT = 64


def gradients(material: StimulusMaterial) -> list[Stimulus]:
    """Return ramps from black to white: from left to right, from top to bottom, and from the centre outward."""
    height, width = material.shape[:2]
    y, x = np.linspace(0, 1, height)[:, None], np.linspace(0, 1, width)[None, :]
    ramps = {
        "from left to right": x + 0 * y,
        "from top to bottom": y + 0 * x,
        "from the centre": np.hypot(2 * x - 1, 2 * y - 1) / np.sqrt(2),
    }
    return [Stimulus(f"gradient {name}", to_picture(255 * _grey(ramp))) for name, ramp in ramps.items()]


def grating(shape: tuple[int, ...], cycles: float, orientation: float) -> Pixels:
    """Return a sinusoid of full contrast, so many cycles to the shorter side, its wave at an angle in degrees."""
    height, width = shape[:2]
    # At the middles of pixels: at their corners, the finest wave that pixels can show would be zero in all of them.
    y, x = (np.indices((height, width)) + 0.5) / min(height, width)
    angle = np.deg2rad(orientation)
    wave = np.sin(2 * np.pi * cycles * (x * np.cos(angle) + y * np.sin(angle)))
    return 127.5 + 127.5 * _grey(wave)


def gratings(material: StimulusMaterial) -> list[Stimulus]:
    """Return gratings of several frequencies, those that the size can show, and orientations."""
    shown = [cycles for cycles in CYCLES if cycles <= min(material.shape[:2]) / 2]
    return [
        Stimulus(f"grating of {cycles} cycles at {angle}", to_picture(grating(material.shape, cycles, angle)))
        for cycles, angle in product(shown, ORIENTATIONS)
    ]


def grating_at(material: StimulusMaterial, level: float) -> list[Stimulus]:
    """Return gratings whose frequency rises with the level, from one cycle to the finest that the size can show."""
    cycles = max(1.0, min(material.shape[:2]) / 2) ** level
    return [
        Stimulus(
            f"grating of {cycles:.3g} cycles at {angle}",
            to_picture(grating(material.shape, cycles, angle)),
            level=level,
        )
        for angle in ORIENTATIONS
    ]


def noise_at(material: StimulusMaterial, level: float) -> list[Stimulus]:
    """Return noise of the mean colour of the data whose deviation rises with the level, up to twice that of the data.

    Pixels and channels are independent.
    """
    rng = material.rng("noise")
    mean, deviation = channel_statistics(material)
    drawn = rng.standard_normal((2, *material.shape))
    return [
        Stimulus(f"noise {number} at {level:g}", to_picture(matched(one, mean, 2 * level * deviation)), level=level)
        for number, one in enumerate(drawn, start=1)
    ]


def noise(material: StimulusMaterial) -> list[Stimulus]:
    """Return noise with the mean and deviation of each channel, and noise with the spectrum of typical images too."""
    rng = material.rng("noise")
    mean, deviation = channel_statistics(material)
    white = [matched(rng.standard_normal(material.shape), mean, deviation) for _ in range(2)]
    made = [Stimulus(f"noise {number}", to_picture(one)) for number, one in enumerate(white, start=1)]
    if material.typical:
        pictures = [fitted(picture, material.shape).astype(np.float64) for picture in material.typical]
        amplitude = np.mean([amplitude_of(picture) for picture in pictures], axis=0)
        made += [
            Stimulus(f"noise of natural spectrum {number}", to_picture(with_random_phases(amplitude, rng)))
            for number in (1, 2)
        ]
    return made


def matched(noise: Pixels, mean: Pixels, deviation: Pixels) -> Pixels:
    """Return noise clipped to the range of a picture that has given means and deviations of each channel after that.

    Clipping draws the mean to the middle and takes deviation, most where the data is nearly black or white; so scale
    and offset are changed until what is left is what was asked for. More deviation than pixels that are all black or
    white have at a mean cannot be had.
    """
    # Some thousand pixels tell scale and offset as well as all of a large picture.
    looked_at = noise[:_LOOKED_AT, :_LOOKED_AT]
    scale, offset = deviation, mean
    for _ in range(_ROUNDS):
        made = np.clip(offset + scale * looked_at, 0, 255)
        left = made.std(axis=(0, 1), keepdims=True)
        scale = scale * np.clip(deviation / np.where(left > 0, left, 1), 0.5, 2)
        offset = offset + mean - made.mean(axis=(0, 1), keepdims=True)
    return np.asarray(np.clip(offset + scale * noise, 0, 255))


def channel_statistics(material: StimulusMaterial) -> tuple[Pixels, Pixels]:
    """Return mean and deviation (1, 1, channel) of all pixels of the data's images."""
    mean = material.mean.mean(axis=(0, 1), keepdims=True)
    # Of all pixels of all images: what images differ by at a pixel, and pixels by on average.
    variance = (material.deviation**2).mean(axis=(0, 1), keepdims=True) + material.mean.var(axis=(0, 1), keepdims=True)
    return mean, np.sqrt(variance)


def _grey(values: Pixels) -> Pixels:
    return np.repeat(values[:, :, None], 3, axis=2)


PATTERNS = (
    StimulusFamily("gradient", "ramps from black to white", takes="image", make=gradients),
    StimulusFamily("grating", "waves of one frequency", takes="image", make=gratings, at=grating_at),
    StimulusFamily(
        "noise",
        "noise of the data's mean, deviation and spectrum",
        takes="image",
        make=noise,
        at=noise_at,
        per_model=True,
    ),
)
