"""Registers the ``dominant`` analysis."""

from typing import TYPE_CHECKING

from outcrop import hookimpl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from outcrop import Analysis


@hookimpl
def outcrop_analyses() -> "Sequence[type[Analysis]]":
    """Return the analyses of this plugin."""
    from outcrop_dominant.analysis import DominantAnalysis

    return [DominantAnalysis]
