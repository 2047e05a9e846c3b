"""Images of one colour: over the RGB cube, by name, and of the colours that dominant images have.

A solid image of the corner's colour excites a block as much as the image it is of (Nguyen, Raghu and Kornblith 2022,
arXiv 2202.07184, section 5, figure 6).
"""

from collections.abc import Callable, Mapping
from itertools import product

import numpy as np

from outcrop.stimuli import Stimulus, StimulusFamily, StimulusMaterial
from outcrop_probes.stimuli.pictures import Colour, Picture, border_of, colour_of, solid, to_picture

NAMED: Mapping[str, Colour] = {
    "black": (0.0, 0.0, 0.0),
    "grey": (0.5, 0.5, 0.5),
    "white": (1.0, 1.0, 1.0),
    "red": (1.0, 0.0, 0.0),
    "green": (0.0, 1.0, 0.0),
    "blue": (0.0, 0.0, 1.0),
    "yellow": (1.0, 1.0, 0.0),
    "cyan": (0.0, 1.0, 1.0),
    "magenta": (1.0, 0.0, 1.0),
    "orange": (1.0, 0.65, 0.0),
    "brown": (0.55, 0.27, 0.07),
    "pink": (1.0, 0.75, 0.8),
    "olive": (0.5, 0.5, 0.0),
    "navy": (0.0, 0.0, 0.5),
    "sky blue": (0.53, 0.81, 0.92),
    "grass green": (0.2, 0.5, 0.1),
}


def colour_text(colour: Colour) -> str:
    """Return a colour as text: ``0.00 0.50 1.00``."""
    return " ".join(f"{part:.2f}" for part in colour)


def one_colour(name: str, colour: Colour, material: StimulusMaterial) -> Stimulus:
    """Return a stimulus of one colour."""
    return Stimulus(name, solid(material.shape, colour), colour=colour)


def grid(material: StimulusMaterial) -> list[Stimulus]:
    """Return every colour of a grid over the RGB cube, its corners among them; ``steps`` values a channel."""
    levels = np.linspace(0, 1, max(2, material.steps)).tolist()
    colours = list(product(levels, repeat=3))
    return [one_colour(f"solid {colour_text(colour)}", colour, material) for colour in colours]


def named(material: StimulusMaterial) -> list[Stimulus]:
    """Return colours that have names."""
    return [one_colour(name, colour, material) for name, colour in NAMED.items()]


def pixel_of_corner(picture: Picture) -> Colour:
    """Return the colour of the pixel at the top left."""
    return colour_of(picture[0, 0])


def mean_of_corners(picture: Picture) -> Colour:
    """Return the mean colour of the four corners."""
    return colour_of(picture[[0, 0, -1, -1], [0, -1, 0, -1]])


def mean_of_border(picture: Picture) -> Colour:
    """Return the mean colour of the border."""
    return colour_of(picture[border_of(picture)])


OWN: Mapping[str, Callable[[Picture], Colour]] = {
    "corner pixel": pixel_of_corner,
    "corners": mean_of_corners,
    "border": mean_of_border,
    "mean": colour_of,
}
"""Colours that an image has of its own."""


def own_colours(material: StimulusMaterial) -> list[Stimulus]:
    """Return the colours of the dominant images."""
    return [
        one_colour(f"{name} of dominant image {rank}", colour(picture), material)
        for rank, picture in enumerate(material.dominant, start=1)
        for name, colour in OWN.items()
    ]


def mean_image(material: StimulusMaterial) -> list[Stimulus]:
    """Return the mean of the data's images, and the colour it has on average."""
    return [
        Stimulus("mean image", to_picture(material.mean)),
        one_colour("mean colour", colour_of(material.mean), material),
    ]


COLOURS = (
    StimulusFamily("solid", "one colour, over a grid of the RGB cube", takes="image", make=grid),
    StimulusFamily("named", "one colour that has a name", takes="image", make=named),
    StimulusFamily(
        "own_colour", "one colour that a dominant image has", takes="image", make=own_colours, per_model=True
    ),
    StimulusFamily("mean", "mean of the data's images", takes="image", make=mean_image),
)
