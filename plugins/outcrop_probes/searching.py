"""What excites a model most: the colour of a solid image, and the level of each family of one parameter."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from outcrop.stimuli import Stimulus, StimulusFamily, StimulusMaterial
from outcrop_probes.search import Maximum, find_maximum
from outcrop_probes.shown import FOUND, Shown
from outcrop_probes.stimuli.colours import colour_text, one_colour

COLOUR = "colour"
"""Origin of the solid image that a search over colours ended at."""

COLOUR_PRECISION = 2 / 255
LEVEL_PRECISION = 1 / 64
LEVEL_STEPS = 9

Excitation = Callable[[Sequence[Stimulus]], NDArray[np.float64]]
"""Projection of stimuli at a model's reference layer, over that of its most dominant sample: 1 is as far."""


@dataclass(frozen=True)
class Search:
    """What a search ended at.

    Attributes:
        origin: ``colour``, or the family that was searched.
        excitation: There; the median over the stimuli.
        point: The colour, or the level.
        evaluations: Points that were tried.
        shown: The stimuli there.
    """

    origin: str
    excitation: float
    point: tuple[float, ...]
    evaluations: int
    shown: tuple[Shown, ...]


def at_edge(point: Sequence[float]) -> bool:
    """Return whether a point of the unit cube lies on its surface, beyond which nothing can be shown."""
    return bool(min(point) <= 0 or max(point) >= 1)


def search_model(
    model: str,
    material: StimulusMaterial,
    families: Iterable[StimulusFamily],
    excitation: Excitation,
    *,
    grey: bool = False,
) -> tuple[Search, ...]:
    """Return the best colour, for images (the best grey for grey ones), and the best level of every family with levels.

    Families that keep the content of dominant samples are not searched: that such a sample excites its own direction
    is known.
    """
    found = []
    if material.takes == "image":
        found.append(_search_colour(model, material, excitation, grey=grey))
    found += [
        _search_level(model, material, family, excitation)
        for family in families
        if family.takes == material.takes and family.at is not None and not family.keeps_content
    ]
    return tuple(one for one in found if np.isfinite(one.excitation))


def _search_colour(model: str, material: StimulusMaterial, excitation: Excitation, *, grey: bool) -> Search:
    def objective(points: Float[np.ndarray, "point dimension"]) -> NDArray[np.float64]:
        return excitation([_solid(material, point) for point in points])

    best = find_maximum(
        objective,
        dimensions=1 if grey else 3,
        steps=max(3, material.steps),
        precision=COLOUR_PRECISION,
        resolution=1 / 255,
    )
    return _ended(model, COLOUR, best, [_solid(material, np.asarray(best.point))])


def _search_level(model: str, material: StimulusMaterial, family: StimulusFamily, excitation: Excitation) -> Search:
    def objective(points: Float[np.ndarray, "point dimension"]) -> NDArray[np.float64]:
        made = [family.stimuli_at(material, float(level)) for level in points[:, 0]]
        values = excitation([one for stimuli in made for one in stimuli])
        parts = np.split(values, np.cumsum([len(stimuli) for stimuli in made])[:-1])
        return np.array([np.median(part) if len(part) else np.nan for part in parts])

    best = find_maximum(objective, dimensions=1, steps=LEVEL_STEPS, precision=LEVEL_PRECISION)
    return _ended(model, family.name, best, family.stimuli_at(material, best.point[0]))


def _solid(material: StimulusMaterial, colour: NDArray[np.float64]) -> Stimulus:
    # As an image holds it: the colour that is told is the one that is shown.
    red, green, blue = (np.round(255 * np.broadcast_to(colour, 3)) / 255).tolist()
    return one_colour(f"solid {colour_text((red, green, blue))}", (red, green, blue), material)


def _ended(model: str, origin: str, best: Maximum, stimuli: Sequence[Stimulus]) -> Search:
    shown = tuple(Shown(one, FOUND, model, origin=origin) for one in stimuli)
    return Search(origin, best.value, best.point, best.evaluations, shown)
