"""The hooks of outcrop.

A plugin is a module that implements some of them, named by an entry point of group ``outcrop``:

    from outcrop import hookimpl

    @hookimpl
    def outcrop_analyses():
        from my_plugin.analysis import MyAnalysis
        return [MyAnalysis]

Hooks return typed objects and are handed none to fill. A registration module stays light: heavy imports sit
inside the hooks and inside what they return. Names must be unique over all plugins.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    import click

    from outcrop.analysis.analysis import Analysis
    from outcrop.data.dataset import Data
    from outcrop.models.model import Model
    from outcrop.report.figure import Figure
    from outcrop.stimuli import StimulusFamily

hookspec = pluggy.HookspecMarker("outcrop")
hookimpl = pluggy.HookimplMarker("outcrop")


@hookspec
def outcrop_analyses() -> "Sequence[type[Analysis]]":  # type: ignore[empty-body] # pluggy reads the signature only
    """Return the analyses offered. Their class attributes must be readable without importing torch."""


@hookspec
def outcrop_model_sources() -> "Mapping[str, Callable[[str], Model]]":  # type: ignore[empty-body] # as above
    """Return loaders by scheme: ``{"zoo": load}`` answers ``zoo:NAME`` with ``load("NAME")``."""


@hookspec
def outcrop_data_sources() -> "Mapping[str, Callable[[str], Data]]":  # type: ignore[empty-body] # as above
    """Return loaders by scheme: ``{"zoo": load}`` answers ``zoo:patches`` with ``load("patches")``."""


@hookspec
def outcrop_stimuli() -> "Sequence[StimulusFamily]":  # type: ignore[empty-body] # as above
    """Return families of synthetic stimuli that networks are probed with (:mod:`outcrop.stimuli`)."""


@hookspec
def outcrop_zoo_cards() -> "Sequence[str]":  # type: ignore[empty-body] # as above
    """Return folders of zoo cards (JSON files with the models they describe beside them)."""


@hookspec
def outcrop_figures() -> "Sequence[Figure]":  # type: ignore[empty-body] # as above
    """Return figures for result kinds that a plugin brings."""


@hookspec
def outcrop_schemas() -> "Sequence[Any]":  # type: ignore[empty-body] # as above
    """Return the result kinds that a plugin brings (``outcrop_schemas.Kind``)."""


@hookspec
def outcrop_replications() -> "Mapping[str, Callable[..., Any]]":  # type: ignore[empty-body] # as above
    """Return replications of papers' claims by name."""


@hookspec
def outcrop_commands() -> "Sequence[click.Command]":  # type: ignore[empty-body] # as above
    """Return commands added to the ``outcrop`` command line."""
