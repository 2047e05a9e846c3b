"""What a result of kind ``probe_verdict`` says of a model, in sentences."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from outcrop.report.probes.probed import times

Row = Mapping[str, Any]
"""Values of one model in the result."""

_TITLES = {
    "excited": "yes, those with what dominant samples share",
    "unspecific": "yes, but not only those with what dominant samples share",
    "not excited": "no, not those with what dominant samples share",
    "not comparable": "not known",
}


def title_of(row: Row) -> str:
    """Return the answer in a few words."""
    return _TITLES.get(str(row["verdict"]), "no block to excite")


def found_sentence(row: Row) -> str:
    """Return whether synthetic samples with what dominant ones share excite the block, with the deciding numbers."""
    layer = str(row["reference_layer"])
    if not int(row["compared_count"]):
        return f"{_why_not(row)}: stimuli with it and without it cannot be compared at {layer}."
    where = f"the block {row['first_layer']} to {row['last_layer']}" if row["is_block"] else layer
    reaches = float(row["carrying_reach"]) >= 1
    far = times(float(row["carrying_excitation"]))
    said = (
        f"Synthetic samples with a {row['shared']}, as dominant samples have, excite {where} "
        f"{'at least as much as' if reaches else 'less than'} the most dominant real sample does: "
        f"{short_name(row, 'carrying')} lies {far} as far out"
    )
    if not reaches:
        return f"{said}."
    expected = f"of {int(row['compared_count']):,}, the farthest is expected at {_far(row, 'control_expected')} times"
    if float(row["control_expected"]) < 1:
        return f"{said}. As many without it do not: {expected}."
    return f"{said}. But as many without it do so too, so it is not this alone that excites: {expected}."


def comparison_sentences(row: Row) -> list[str]:
    """Return how equally many are compared, and how sure it is that the statistic is shared."""
    layers = float(row["carrying_layer_share"])
    interval = "block's layers" if row["is_block"] else "similar layers around it"
    several = str(row["first_layer"]) != str(row["last_layer"]) and np.isfinite(layers)
    return [
        f"A {row['shared']} tells dominant samples from the rest with an AUROC of {float(row['shared_auroc']):.3f} "
        f"(p {float(row['shared_p_value']):.2g}, corrected for all statistics that were tried); without it are stimuli "
        "that have no more of it than the median of the other samples.",
        "The more stimuli are tried, the farther the farthest of them reaches, so groups are compared by the farthest "
        f"that is expected of {int(row['compared_count']):,} drawn from each.",
        f"{short_name(row, 'carrying')} lies farther out than the most dominant sample in {100 * layers:.0f} % of the "
        f"{interval}."
        if several
        else "",
    ]


def search_sentence(row: Row) -> str:
    """Return how many points searches tried, and what it means that one ended at the edge; nothing without searches."""
    tried = int(row["evaluations"])
    if not tried:
        return ""
    said = f"Searches tried {tried:,} points; what they chose takes no part in the comparison."
    if row["colour_at_edge"]:
        near = float(row["colour_distance"])
        far = f", {near:.2f} of 1 in a channel from the nearest colour of a dominant image" if near == near else ""
        said += f" That for the colour ended at the edge of the RGB cube{far}: farther out there is no colour to try."
    return said


def own_sentence(row: Row) -> str:
    """Return how far a single value that dominant samples have reaches, which is no choice by response of the network.

    An empty text where no such stimulus was shown.
    """
    lies = _lies(row, "own")
    return f"Of single values that dominant samples have, {short_name(row, 'own')} {lies}." if lies else ""


def level_of(row: Row) -> str:
    """Return the best family of one parameter, and where in it."""
    level = float(row["statistic_level"])
    edge = ", the end of its range" if row["statistic_at_edge"] else ""
    return str(row["statistic"]).replace("_", " ") + (f", level {level:.2f}{edge}" if level == level else "")


def short_name(row: Row, subject: str) -> str:
    """Return the name of a stimulus without its family and its model."""
    family, found, rest = str(row[subject]).partition(": ")
    return (rest if found else family).removesuffix(f" ({row['block_model']})")


def _why_not(row: Row) -> str:
    if not str(row["shared"]):
        return "No statistic tells the dominant samples from the rest"
    lacking = "has it" if not int(row["carrying_count"]) else "is without it"
    return f"The dominant samples share a {row['shared']}, but no stimulus {lacking}"


def _far(row: Row, name: str) -> str:
    value = float(row[name])
    return f"{value:.2f}" if np.isfinite(value) else "unknown"


def _lies(row: Row, subject: str) -> str:
    """Return how far out a subject lies, as a verb with its object; an empty text where there is none."""
    if not str(row[subject]):
        return ""
    far, norm = float(row[f"{subject}_excitation"]), float(row[f"{subject}_norm_ratio"])
    side = " to the other side" if far < 0 else ""
    return f"lies {times(abs(far))} as far out{side}, with {times(norm)} the median norm"
