"""Run an analysis on planted activations, and measure how far two results lie apart."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from outcrop.analysis.context import Context
from outcrop.analysis.run import check_analysis, make_parameters, run_analysis
from outcrop.capture.source import ActivationSource, LiveSource
from outcrop.plugins import plugin_registry
from outcrop.testing.arrays import ArrayModel, IndexData
from outcrop.testing.responding import RespondingModel

if TYPE_CHECKING:
    from outcrop.analysis.analysis import Analysis
    from outcrop.data.dataset import Data
    from outcrop.models.model import Model

Result = dict[str, xr.Dataset]


def run_planted(
    analysis: "type[Analysis]",
    models: Mapping[str, Mapping[str, NDArray[Any]]],
    *,
    parameters: Mapping[str, Any] | None = None,
    seed: int = 0,
    data: "Data | None" = None,
    described: xr.Dataset | None = None,
) -> Result:
    """Return the validated result of an analysis on given activations, without a study.

    Args:
        analysis: Its class; analyses that it requires are found among the installed plugins and run first.
        models: Values (sample, ...) by layer name, by model name; all of one number of samples.
        parameters: Of the analysis, by name.
        seed: Of the run.
        data: What ``context.data`` is: images, or an array each, that the activations are of. Other samples that the
            analysis shows the models are answered as :class:`outcrop.testing.RespondingModel` does. None by default.
        described: What ``context.described()`` returns; by default what is found out from ``data``.

    Raises:
        AnalysisError: The analysis cannot run on these activations, or the data has another number of samples.
        SchemaError: Its result does not satisfy its kinds.
    """
    made = [ArrayModel(name, arrays) for name, arrays in models.items()]
    sources = [LiveSource(model, model.layers, IndexData(model.sample_count)) for model in made]
    return run_on_sources(
        analysis,
        sources,
        sample_count=made[0].sample_count,
        parameters=parameters,
        seed=seed,
        data=data,
        described=described,
        live=None if data is None else responding(models, data),
    )


def responding(models: Mapping[str, Mapping[str, NDArray[Any]]], data: "Data") -> "dict[str, Model]":
    """Return models by name that have given activations for the samples of data and answer others."""
    return {name: RespondingModel(name, arrays, data) for name, arrays in models.items()}


def run_on_sources(
    analysis: "type[Analysis]",
    sources: Sequence[ActivationSource],
    *,
    sample_count: int,
    parameters: Mapping[str, Any] | None = None,
    seed: int = 0,
    data: "Data | None" = None,
    described: xr.Dataset | None = None,
    live: "Mapping[str, Model] | None" = None,
) -> Result:
    """Return the validated result of an analysis on any activations; see :func:`run_planted`.

    Args:
        analysis: Its class.
        sources: One per model.
        sample_count: Number of samples of each.
        parameters: Of the analysis, by name; those that it requires run with their defaults.
        seed: Of the run.
        data: What ``context.data`` is.
        described: What ``context.described()`` returns; by default what is found out from ``data``.
        live: Models at hand by name, whose activations may be stored; those of live sources are by default.
    """
    earlier: dict[str, Result] = {}

    def run(one: "type[Analysis]", given: Mapping[str, Any]) -> Result:
        parameters = make_parameters(one, given)
        context = partial(
            Context,
            sources,
            sample_count=sample_count,
            seed=seed,
            data=data,
            described=None if described is None else lambda: described,
            live=live,
        )
        check_analysis(one, context(), parameters)
        for name in one.requires:
            if name not in earlier:
                earlier[name] = run(plugin_registry().analysis(name), {})
        return run_analysis(one, context(results=lambda name, leaf: earlier[name][leaf]), parameters)

    return run(analysis, parameters or {})


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
