"""Whether synthetic samples with what dominant samples share excite a model's block as much as the most dominant."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from outcrop.analysis.references import Reference
from outcrop.stimuli import StimulusMaterial
from outcrop_probes.comparison import Comparison, compare
from outcrop_probes.response import RealSamples, Response
from outcrop_probes.searching import COLOUR, Search, at_edge
from outcrop_probes.shared import Shared
from outcrop_probes.shown import FOUND, Shown
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
        percentile: Percentage of real samples that lie nearer to the mean on the component.
        colour: Red, green and blue, NaN where it stands for none.
        level: In its family; NaN where it has none.
    """

    name: str = ""
    title: str = ""
    excitation: float = float("nan")
    norm_ratio: float = float("nan")
    percentile: float = float("nan")
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
        shared: What its dominant samples share; None where no statistic tells them.
        comparison: Of the stimuli that have that, those that have it not, and the real samples.
        carrying: The strongest stimulus that has it.
        layer_share: Share of the layers of the interval in which that stimulus lies as far out as the most dominant
            sample; NaN without one.
        control: The strongest stimulus that has no more of it than samples that are not dominant mostly have.
        own: The strongest stimulus of a single value that dominant samples have: the paper's recipe.
        colour: The solid colour that a search found.
        colour_at_edge: Whether a channel of it is at an end of its range, so that more of it might excite more.
        colour_distance: Largest difference of a channel between that colour and the nearest that a dominant image has.
        statistic: The family of one parameter that excites most, at its best level.
        statistic_at_edge: Whether that level is an end of the family's range.
        strongest: The strongest of all stimuli that do not still show a dominant sample, found ones among them.
        evaluations: Stimuli that the searches tried.
    """

    reference: Reference
    dominant_sample: int
    dominant_norm_ratio: float
    shared: Shared | None
    comparison: Comparison
    carrying: Excited
    layer_share: float
    control: Excited
    own: Excited
    colour: Excited
    colour_at_edge: bool
    colour_distance: float
    statistic: Excited
    statistic_at_edge: bool
    strongest: Excited
    evaluations: int

    @property
    def answer(self) -> str:
        """Return the verdict but for whether there is a block."""
        if not self.comparison.possible:
            return "not comparable"
        if not self.comparison.reaches:
            return "not excited"
        return "excited" if self.comparison.specific else "unspecific"

    @property
    def verdict(self) -> str:
        """Return the answer, or ``no block`` where there is none to excite."""
        return self.answer if self.reference.is_block else "no block"


def judge(
    reference: Reference,
    material: StimulusMaterial,
    dominant_sample: int,
    real: RealSamples,
    shown: Sequence[Shown],
    response: Response,
    searches: Sequence[Search],
    shared: Shared | None,
    amounts: NDArray[np.float64],
) -> Judgement:
    """Return what the stimuli say on one model.

    What a search ended at was chosen by its response, so it takes no part in the comparison.

    Args:
        reference: Where it is judged.
        material: Of the model.
        dominant_sample: Position of its most dominant sample.
        real: What layers do with real samples.
        shown: All stimuli, those that searches ended at among them.
        response: To these.
        searches: Of this model.
        shared: What its dominant samples share.
        amounts: (stimulus,), how much stimuli have of that.
    """
    row = real.layers.index((reference.model, reference.layer))
    farthest = real.projections[row, dominant_sample]
    excitations = response.projection[row] / farthest
    places = {one.name: place for place, one in enumerate(shown)}

    def excited(at: Sequence[int], name: str = "") -> Excited:
        """Return the median of several, which is the one where there is one."""
        first = shown[at[0]]
        return Excited(
            name=name or first.name,
            title=name or first.stimulus.name,
            excitation=float(np.median(excitations[at])),
            norm_ratio=float(np.median(response.norm_ratio[row, at])),
            percentile=float(np.median(response.projection_percentile[row, at])),
            colour=first.stimulus.colour or _NO_COLOUR,
            level=float("nan") if first.stimulus.level is None else first.stimulus.level,
        )

    def strongest(chosen: NDArray[np.intp]) -> Excited:
        return excited([int(chosen[0])]) if len(chosen) else NOTHING

    counting = np.array([one.counts_for(reference.model) for one in shown]) & np.isfinite(excitations)
    order = np.argsort(-excitations, kind="stable")
    ranked = order[counting[order]]
    carrying = control = ranked[:0]
    if shared is not None:
        compared = ranked[[shown[place].family != FOUND for place in ranked]]
        carrying, control = (compared[chosen(amounts[compared])] for chosen in (shared.had_by, shared.lacked_by))
    own = ranked[[shown[place].family in OWN_FAMILIES for place in ranked]]
    found: Mapping[str, Search] = {search.origin: search for search in searches}
    levels = sorted((search for search in searches if search.origin != COLOUR), key=lambda one: -one.excitation)
    colour = excited([places[one.name] for one in found[COLOUR].shown]) if COLOUR in found else NOTHING
    return Judgement(
        reference=reference,
        dominant_sample=dominant_sample,
        dominant_norm_ratio=float((real.norms[row] / real.median_norms[row])[dominant_sample]),
        shared=shared,
        comparison=compare(excitations[carrying], excitations[control], real.projections[row] / farthest),
        carrying=strongest(carrying),
        layer_share=_layer_share(reference, real, response, int(carrying[0]), dominant_sample)
        if len(carrying)
        else np.nan,
        control=strongest(control),
        own=strongest(own),
        colour=colour,
        colour_at_edge=COLOUR in found and at_edge(colour.colour),
        colour_distance=_distance_to_own(np.asarray(colour.colour), material),
        statistic=excited([places[one.name] for one in levels[0].shown], levels[0].origin) if levels else NOTHING,
        statistic_at_edge=bool(levels) and at_edge(levels[0].point),
        strongest=strongest(ranked),
        evaluations=sum(search.evaluations for search in searches),
    )


def judgement_text(judged: Judgement) -> str:
    """Return the verdict with its numbers, in one line."""
    layers = judged.reference.layers
    where = f"block {layers[0]} to {layers[-1]}" if judged.reference.is_block else "no block"
    said = [
        where,
        _compared_text(judged),
        _told("strongest of all, and of what searches found,", judged.strongest),
        _told("of a dominant sample's own", judged.own),
        _told("found colour", judged.colour, at_edge=judged.colour_at_edge),
        _told("statistic", judged.statistic, at_edge=judged.statistic_at_edge),
    ]
    return "; ".join(part for part in said if part) + "."


def _compared_text(judged: Judgement) -> str:
    """Return what stimuli that have what is shared do, beside as many that have it not."""
    sample = (
        f"the most dominant sample, number {judged.dominant_sample}, whose norm is "
        f"{judged.dominant_norm_ratio:.2f} times the median"
    )
    shared, comparison = judged.shared, judged.comparison
    if shared is None:
        return f"no statistic tells dominant samples from the rest, so that stimuli cannot be told by it; to {sample}"
    having = f"{shared.text}, which tells dominant samples with an AUROC of {shared.auroc:.2f}"
    if not comparison.possible:
        lacking = "with it" if not comparison.carrying_count else "without it"
        return f"dominant samples share a {having}, and no stimulus {lacking} was shown; to {sample}"
    reach = "at least as far as" if comparison.reaches else "less far than"
    share = f", as far in {judged.layer_share:.0%} of the layers" if np.isfinite(judged.layer_share) else ""
    return (
        f"on the first principal component of {judged.reference.layer}, {comparison.carrying_count} stimuli with a "
        f"{having}, reach {reach} {sample}: {judged.carrying.title} {judged.carrying.excitation:.2f} times, beyond "
        f"{judged.carrying.percentile:.4g} % of real samples{share}; of {comparison.count} each, the farthest is "
        f"expected at {comparison.carrying:.2f} with it, {comparison.control:.2f} without it and "
        f"{comparison.real:.2f} among real samples"
    )


def _layer_share(
    reference: Reference, real: RealSamples, response: Response, stimulus: int, dominant_sample: int
) -> float:
    """Return the share of the interval's layers in which a stimulus lies as far out as the most dominant sample."""
    rows = [real.layers.index((reference.model, layer)) for layer in reference.layers]
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = response.projection[rows, stimulus] / real.projections[rows, dominant_sample]
    known = np.isfinite(ratios)
    return float((ratios[known] >= 1).mean()) if known.any() else float("nan")


def _distance_to_own(colour: NDArray[np.float64], material: StimulusMaterial) -> float:
    if material.takes != "image" or np.isnan(colour).any() or not material.dominant:
        return float("nan")
    own = np.array([of(picture) for picture in material.dominant for of in OWN.values()])
    return float(np.abs(own - colour).max(axis=1).min())


def _told(what: str, excited: Excited, *, at_edge: bool = False) -> str:
    if not excited.name:
        return ""
    at = f" at level {excited.level:.2f}" if np.isfinite(excited.level) else ""
    colour = f" ({colour_text(excited.colour)})" if np.isfinite(excited.colour[0]) else ""
    edge = ", at the edge of what can be shown" if at_edge else ""
    return (
        f"{what} {excited.title}{at}{colour}: {excited.excitation:.2f} times as far, norm "
        f"{excited.norm_ratio:.2f} times the median{edge}"
    )
