"""Run an analysis on planted activations, and measure how far two results lie apart."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from outcrop.analysis.context import Context
from outcrop.analysis.run import make_parameters, run_analysis
from outcrop.capture.source import ActivationSource, LiveSource
from outcrop.plugins import plugin_registry
from outcrop.testing.arrays import ArrayModel, IndexData

if TYPE_CHECKING:
    from outcrop.analysis.analysis import Analysis

Result = dict[str, xr.Dataset]


def run_planted(
    analysis: "type[Analysis]",
    models: Mapping[str, Mapping[str, NDArray[Any]]],
    *,
    parameters: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Result:
    """Return the validated result of an analysis on given activations, without a study.

    Args:
        analysis: Its class; analyses that it requires are found among the installed plugins and run first.
        models: Values (sample, ...) by layer name, by model name; all of one number of samples.
        parameters: Of the analysis, by name.
        seed: Of the run.

    Raises:
        AnalysisError: The analysis cannot run on these activations.
        SchemaError: Its result does not satisfy its kinds.
    """
    made = [ArrayModel(name, arrays) for name, arrays in models.items()]
    sources = [LiveSource(model, model.layers, IndexData(model.sample_count)) for model in made]
    return run_on_sources(analysis, sources, sample_count=made[0].sample_count, parameters=parameters, seed=seed)


def run_on_sources(
    analysis: "type[Analysis]",
    sources: Sequence[ActivationSource],
    *,
    sample_count: int,
    parameters: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Result:
    """Return the validated result of an analysis on any activations; see :func:`run_planted`."""
    earlier = {
        name: run_on_sources(plugin_registry().analysis(name), sources, sample_count=sample_count, seed=seed)
        for name in analysis.requires
    }
    context = Context(sources, sample_count=sample_count, seed=seed, results=lambda name, leaf: earlier[name][leaf])
    return run_analysis(analysis, context, make_parameters(analysis, parameters or {}))


def difference(first: Result, second: Result) -> float:
    """Return the largest relative difference of any number; infinite where names, shapes, texts or NaN differ.

    Numbers of size below one are compared as they are.
    """
    if set(first) != set(second):
        return math.inf
    return max((_between(first[leaf], second[leaf]) for leaf in first), default=0.0)


def _between(first: xr.Dataset, second: xr.Dataset) -> float:
    if set(first.variables) != set(second.variables) or dict(first.sizes) != dict(second.sizes):
        return math.inf
    largest = 0.0
    for name in first.variables:
        one, other = first[name].values, second[name].values
        if one.dtype.kind != "f" or other.dtype.kind != "f":
            if one.tolist() != other.tolist():
                return math.inf
        elif (np.isnan(one) != np.isnan(other)).any():
            return math.inf
        else:
            relative = np.abs(one - other) / np.maximum(1, np.abs(one))
            largest = max(largest, float(np.nanmax(relative, initial=0.0)))
    return largest
