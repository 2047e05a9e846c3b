"""Whether synthetic samples excite a model's block as much as its most dominant sample does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from outcrop.analysis.references import Reference
from outcrop.stimuli import StimulusMaterial
from outcrop_probes.response import RealSamples, Response
from outcrop_probes.searching import COLOUR, Search
from outcrop_probes.shown import Shown
from outcrop_probes.stimuli.colours import OWN, colour_text

Colour = tuple[float, float, float]

OWN_FAMILIES = ("own_colour", "own_token")
"""Families that show a single value that dominant samples have, and nothing else of them."""

_NO_COLOUR: Colour = (float("nan"), float("nan"), float("nan"))


@dataclass(frozen=True)
class Excited:
    """How far one stimulus, or several of one kind, excite a model at its reference layer.

    Attributes:
        name: Of the stimulus in the results; of a statistic, of the family.
        title: The same for people, without the family.
        excitation: Projection over that of the most dominant sample; 1 is as far, to the same side.
        norm_ratio: Norm over the median of real samples.
        colour: Red, green and blue, NaN where it stands for none.
        level: In its family; NaN where it has none.
    """

    name: str = ""
    title: str = ""
    excitation: float = float("nan")
    norm_ratio: float = float("nan")
    colour: Colour = _NO_COLOUR
    level: float = float("nan")


NOTHING = Excited()


@dataclass(frozen=True)
class Judgement:
    """What the stimuli say on one model.

    Attributes:
        reference: Where it is judged.
        dominant_sample: Position of its most dominant sample.
        dominant_norm_ratio: Norm of that sample over the median, at the reference layer.
        own: The strongest stimulus of a single value that dominant samples have: the paper's recipe.
        colour: The solid colour that a search found.
        colour_distance: Largest difference of a channel between that colour and the nearest that a dominant image has.
        statistic: The family of one parameter that excites most, at its best level.
        strongest: The strongest of all stimuli that do not still show a dominant sample.
        evaluations: Stimuli that the searches tried.
    """

    reference: Reference
    dominant_sample: int
    dominant_norm_ratio: float
    own: Excited
    colour: Excited
    colour_distance: float
    statistic: Excited
    strongest: Excited
    evaluations: int

    @property
    def excited(self) -> bool:
        """Return whether a synthetic sample lies at least as far out as the most dominant sample."""
        return self.strongest.excitation >= 1

    @property
    def verdict(self) -> str:
        """Return ``excited`` or ``not excited``, or ``no block`` where there is none to excite."""
        if not self.reference.is_block:
            return "no block"
        return "excited" if self.excited else "not excited"

    @property
    def text(self) -> str:
        """Return the verdict with its numbers, in one line."""
        layers = self.reference.layers
        where = f"block {layers[0]} to {layers[-1]}" if self.reference.is_block else "no block"
        reach = "at least as far as" if self.excited else "less far than"
        said = [
            f"{where}; on the first principal component of {self.reference.layer}, synthetic samples reach {reach} the "
            f"most dominant sample, number {self.dominant_sample}, whose norm is {self.dominant_norm_ratio:.2f} times "
            "the median",
            _told("strongest", self.strongest),
            _told("of a dominant sample's own", self.own),
            _told("found colour", self.colour),
            _told("statistic", self.statistic),
        ]
        return "; ".join(part for part in said if part) + "."


def judge(
    reference: Reference,
    material: StimulusMaterial,
    dominant_sample: int,
    real: RealSamples,
    shown: Sequence[Shown],
    response: Response,
    searches: Sequence[Search],
) -> Judgement:
    """Return what the stimuli say on one model.

    Args:
        reference: Where it is judged.
        material: Of the model.
        dominant_sample: Position of its most dominant sample.
        real: What layers do with real samples.
        shown: All stimuli, those that searches ended at among them.
        response: To these.
        searches: Of this model.
    """
    row = real.layers.index((reference.model, reference.layer))
    excitations = response.projection[row] / real.projections[row, dominant_sample]
    places = {one.name: place for place, one in enumerate(shown)}

    def excited(chosen: Sequence[Shown], name: str = "") -> Excited:
        """Return the median of several, which is the one where there is one."""
        at = [places[one.name] for one in chosen]
        first = chosen[0].stimulus
        return Excited(
            name=name or chosen[0].name,
            title=name or first.name,
            excitation=float(np.median(excitations[at])),
            norm_ratio=float(np.median(response.norm_ratio[row, at])),
            colour=first.colour or _NO_COLOUR,
            level=float("nan") if first.level is None else first.level,
        )

    counting = [one for one in shown if one.counts_for(reference.model) and np.isfinite(excitations[places[one.name]])]
    by_strength = sorted(counting, key=lambda one: -excitations[places[one.name]])
    own = [one for one in by_strength if one.family in OWN_FAMILIES]
    found: Mapping[str, Search] = {search.origin: search for search in searches}
    levels = sorted((search for search in searches if search.origin != COLOUR), key=lambda one: -one.excitation)
    colour = excited(found[COLOUR].shown) if COLOUR in found else NOTHING
    return Judgement(
        reference=reference,
        dominant_sample=dominant_sample,
        dominant_norm_ratio=float((real.norms[row] / real.median_norms[row])[dominant_sample]),
        own=excited(own[:1]) if own else NOTHING,
        colour=colour,
        colour_distance=_distance_to_own(np.asarray(colour.colour), material),
        statistic=excited(levels[0].shown, levels[0].origin) if levels else NOTHING,
        strongest=excited(by_strength[:1]) if by_strength else NOTHING,
        evaluations=sum(search.evaluations for search in searches),
    )


def _distance_to_own(colour: NDArray[np.float64], material: StimulusMaterial) -> float:
    if material.takes != "image" or np.isnan(colour).any():
        return float("nan")
    own = np.array([of(picture) for picture in material.dominant for of in OWN.values()])
    return float(np.abs(own - colour).max(axis=1).min())


def _told(what: str, excited: Excited) -> str:
    if not excited.name:
        return ""
    at = f" at level {excited.level:.2f}" if np.isfinite(excited.level) else ""
    colour = f" ({colour_text(excited.colour)})" if np.isfinite(excited.colour[0]) else ""
    return (
        f"{what} {excited.title!r}{at}{colour}: {excited.excitation:.2f} times as far, "
        f"{excited.norm_ratio:.2f} times the median norm"
    )
