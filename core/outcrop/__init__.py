"""outcrop: see the strata of a neural network.

    import outcrop

    model = outcrop.load_model("timm:resnet18")
    images = outcrop.load_data("photos/")
    study = outcrop.open("study.zarr", mode="a")
    result = study.run("blocks", models=[model], data=images)

Everything here is loaded when it is first used, so that importing outcrop costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from outcrop.analysis.analysis import Analysis, Parameters
    from outcrop.analysis.context import Context
    from outcrop.api import open, version  # noqa: A004 - the public name, as in xarray and zarr
    from outcrop.capture.accumulator import Accumulator, ReducingAccumulator
    from outcrop.capture.restricted import RestrictedAccumulator
    from outcrop.data import Data, load_data
    from outcrop.errors import OutcropError
    from outcrop.hookspecs import hookimpl
    from outcrop.models import Layer, Model, load_model, select_layers
    from outcrop.report import write_report
    from outcrop.stimuli import Stimulus, StimulusFamily, StimulusMaterial
    from outcrop.store.study import Study
    from outcrop.tracking import Tracker

_HOMES = {
    "Accumulator": "outcrop.capture.accumulator",
    "Analysis": "outcrop.analysis.analysis",
    "Context": "outcrop.analysis.context",
    "Data": "outcrop.data",
    "Layer": "outcrop.models",
    "Model": "outcrop.models",
    "OutcropError": "outcrop.errors",
    "Parameters": "outcrop.analysis.analysis",
    "ReducingAccumulator": "outcrop.capture.accumulator",
    "RestrictedAccumulator": "outcrop.capture.restricted",
    "Stimulus": "outcrop.stimuli",
    "StimulusFamily": "outcrop.stimuli",
    "StimulusMaterial": "outcrop.stimuli",
    "Study": "outcrop.store.study",
    "Tracker": "outcrop.tracking",
    "hookimpl": "outcrop.hookspecs",
    "load_data": "outcrop.data",
    "load_model": "outcrop.models",
    "open": "outcrop.api",
    "select_layers": "outcrop.models",
    "version": "outcrop.api",
    "write_report": "outcrop.report",
}

__all__ = [
    "Accumulator",
    "Analysis",
    "Context",
    "Data",
    "Layer",
    "Model",
    "OutcropError",
    "Parameters",
    "ReducingAccumulator",
    "RestrictedAccumulator",
    "Stimulus",
    "StimulusFamily",
    "StimulusMaterial",
    "Study",
    "Tracker",
    "hookimpl",
    "load_data",
    "load_model",
    "open",
    "select_layers",
    "version",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'outcrop' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
