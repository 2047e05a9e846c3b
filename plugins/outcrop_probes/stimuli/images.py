"""Dominant images without some of what they have: frequencies, phases, order, background, colours."""

from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from outcrop.stimuli import Stimulus, StimulusFamily, StimulusMaterial
from outcrop_probes.stimuli.colours import mean_of_border
from outcrop_probes.stimuli.pictures import (
    Colour,
    Picture,
    amplitude_of,
    blurred,
    centre_of,
    fitted,
    to_picture,
    with_random_phases,
)

CUTOFFS = (16, 8, 4)
PATCHES = 4
BACKGROUNDS: dict[str, Colour] = {"black": (0.0, 0.0, 0.0), "grey": (0.5, 0.5, 0.5), "white": (1.0, 1.0, 1.0)}


def themselves(material: StimulusMaterial) -> list[Stimulus]:
    """Return the dominant images and some typical ones as they are, to compare with."""
    return [Stimulus(f"dominant image {rank}", picture) for rank, picture in enumerate(material.dominant, start=1)] + [
        Stimulus(f"typical image {rank}", picture) for rank, picture in enumerate(material.typical[:3], start=1)
    ]


def filtered(material: StimulusMaterial) -> list[Stimulus]:
    """Return dominant images with what a Gaussian blur leaves, and with what it takes, about the mean colour."""
    made = []
    for rank, picture in enumerate(material.dominant, start=1):
        pixels = picture.astype(np.float64)
        mean = pixels.mean(axis=(0, 1), keepdims=True)
        for cutoff in CUTOFFS:
            low = blurred(pixels, min(pixels.shape[:2]) / cutoff)
            what = f"blur of 1/{cutoff} of dominant image {rank}"
            made += [
                Stimulus(f"after a {what}", to_picture(low)),
                Stimulus(f"without a {what}", to_picture(mean + pixels - low)),
            ]
    return made


def phase_scrambled(material: StimulusMaterial) -> list[Stimulus]:
    """Return images of the spectra of dominant ones, with random phases."""
    rng = material.rng("phase_scrambled")
    return [
        Stimulus(
            f"random phases of dominant image {rank}",
            to_picture(with_random_phases(amplitude_of(picture.astype(np.float64)), rng)),
        )
        for rank, picture in enumerate(material.dominant, start=1)
    ]


def patch_shuffled(material: StimulusMaterial) -> list[Stimulus]:
    """Return dominant images cut into 4 x 4 patches, which are put together in another order."""
    rng = material.rng("patch_shuffled")
    return [
        Stimulus(f"shuffled patches of dominant image {rank}", _shuffled(picture, rng))
        for rank, picture in enumerate(material.dominant, start=1)
        if min(picture.shape[:2]) >= PATCHES
    ]


def background_swapped(material: StimulusMaterial) -> list[Stimulus]:
    """Return the centres of dominant images before other backgrounds."""
    made = []
    for rank, picture in enumerate(material.dominant, start=1):
        grounds = {name: 255 * np.asarray(colour) for name, colour in BACKGROUNDS.items()}
        grounds |= {
            f"that of typical image {number}": fitted(other, picture.shape).astype(np.float64)
            for number, other in enumerate(material.typical[:2], start=1)
        }
        made += [
            Stimulus(f"dominant image {rank} before {name}", _composed(picture, ground))
            for name, ground in grounds.items()
        ]
    return made


def background_given(material: StimulusMaterial) -> list[Stimulus]:
    """Return the centres of typical images before the backgrounds of dominant ones, and before their border colour."""
    made = []
    for rank, dominant in enumerate(material.dominant, start=1):
        for number, picture in enumerate(material.typical[:3], start=1):
            ground = fitted(dominant, picture.shape).astype(np.float64)
            colour = 255 * np.asarray(mean_of_border(dominant))
            what = f"typical image {number} before"
            made += [
                Stimulus(f"{what} dominant image {rank}", _composed(picture, ground)),
                Stimulus(f"{what} the border colour of dominant image {rank}", _composed(picture, colour)),
            ]
    return made


def colour_swapped(material: StimulusMaterial) -> list[Stimulus]:
    """Return dominant images with their channels in every other order, and in complementary colours."""
    made = []
    for rank, picture in enumerate(material.dominant, start=1):
        made += [
            Stimulus(
                f"dominant image {rank} with channels {''.join('rgb'[channel] for channel in order)}",
                np.ascontiguousarray(picture[:, :, list(order)]),
            )
            for order in list(permutations(range(3)))[1:]
        ]
        made.append(Stimulus(f"dominant image {rank} in complementary colours", 255 - picture))
    return made


def _composed(picture: Picture, ground: NDArray[np.float64]) -> Picture:
    share = centre_of(picture)
    return to_picture(share * picture + (1 - share) * ground)


def _shuffled(picture: Picture, rng: np.random.Generator) -> Picture:
    # Patches of one size, so that any fits in any place; what is left over at the edges stays.
    height, width = (size // PATCHES for size in picture.shape[:2])
    made = picture.copy()
    places = [(row * height, column * width) for row in range(PATCHES) for column in range(PATCHES)]
    for (y, x), source in zip(places, rng.permutation(len(places)), strict=True):
        from_y, from_x = places[source]
        made[y : y + height, x : x + width] = picture[from_y : from_y + height, from_x : from_x + width]
    return made


IMAGES = (
    StimulusFamily(
        "real", "dominant and typical images as they are", takes="image", make=themselves, per_model=True,
        keeps_content=True,
    ),
    StimulusFamily(
        "filtered", "low and high frequencies of dominant images", takes="image", make=filtered, per_model=True,
        keeps_content=True,
    ),
    StimulusFamily(
        "phase_scrambled", "spectra of dominant images", takes="image", make=phase_scrambled, per_model=True,
        keeps_content=True,
    ),
    StimulusFamily(
        "patch_shuffled", "patches of dominant images in another order", takes="image", make=patch_shuffled,
        per_model=True, keeps_content=True,
    ),
    StimulusFamily(
        "background_swap", "centres of dominant images before other backgrounds", takes="image",
        make=background_swapped, per_model=True, keeps_content=True,
    ),
    StimulusFamily(
        "dominant_background", "centres of typical images before backgrounds of dominant ones", takes="image",
        make=background_given, per_model=True, keeps_content=True,
    ),
    StimulusFamily(
        "colour_swap", "dominant images in other colours", takes="image", make=colour_swapped, per_model=True,
        keeps_content=True,
    ),
)  # fmt: skip
