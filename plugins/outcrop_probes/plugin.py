"""Registers the ``probes`` analysis and the families of stimuli that come with it."""

from typing import TYPE_CHECKING

from outcrop import hookimpl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from outcrop import Analysis, StimulusFamily


@hookimpl
def outcrop_analyses() -> "Sequence[type[Analysis]]":
    """Return the analyses of this plugin."""
    from outcrop_probes.analysis import ProbesAnalysis

    return [ProbesAnalysis]


@hookimpl
def outcrop_stimuli() -> "Sequence[StimulusFamily]":
    """Return the families of stimuli of this plugin."""
    from outcrop_probes.stimuli import FAMILIES

    return list(FAMILIES)
