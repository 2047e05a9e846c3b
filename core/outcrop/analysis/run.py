"""Run one analysis over sources of activations, and check what it returns."""

import traceback
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from outcrop.analysis.analysis import Analysis, Parameters
from outcrop.analysis.validation import annotate_result, validate_result
from outcrop.errors import AnalysisError, OutcropError, ParameterError, did_you_mean
from outcrop.plugins import plugin_registry

if TYPE_CHECKING:
    import xarray as xr

    from outcrop.analysis.context import Context


def make_parameters(analysis: type[Analysis], given: Mapping[str, Any]) -> Parameters:
    """Return the validated parameters of an analysis; text is converted as each parameter asks.

    Raises:
        ParameterError: A parameter is unknown or has a wrong value; lists every problem.
    """
    try:
        return analysis.parameters.model_validate(dict(given))
    except ValidationError as error:
        known = list(analysis.parameters.model_fields)
        raise ParameterError(
            "; ".join(_problem_text(analysis.name, dict(problem), known) for problem in error.errors())
        ) from None


def check_analysis(analysis: type[Analysis], context: "Context", parameters: Parameters) -> None:
    """Ask an analysis whether it can be run, before anything is computed.

    Raises:
        AnalysisError: It cannot, or failed to tell.
    """
    with _boundary(analysis):
        analysis().check(context, parameters)


def run_analysis(analysis: type[Analysis], context: "Context", parameters: Parameters) -> "dict[str, xr.Dataset]":
    """Return the leaves of a result, each validated against its declared kind.

    Raises:
        AnalysisError: The analysis failed, or returned something else than it declares.
        SchemaError: A leaf does not satisfy its kind.
    """
    with _boundary(analysis):
        returned = analysis().run(context, parameters)
    leaves = _by_leaf(analysis, returned)
    kinds = {**analysis.optional, **analysis.produces}
    if not set(analysis.produces) <= set(leaves) <= set(kinds):
        raise AnalysisError(
            f"Analysis {_title(analysis)} returned {', '.join(sorted(map(str, leaves))) or 'nothing'}; "
            f"it declares {', '.join(sorted(analysis.produces))}. Return one dataset for each."
        )
    annotated = {}
    for leaf, dataset in leaves.items():
        kind = dataset.attrs.get("kind", kinds[leaf])
        if kind != kinds[leaf]:
            raise AnalysisError(
                f"Analysis {_title(analysis)} declares leaf {leaf!r} as kind {kinds[leaf]!r} "
                f"and returned kind {kind!r}. Make them agree."
            )
        annotated[leaf] = annotate_result(dataset, kind)
        validate_result(annotated[leaf])
    return annotated


@contextmanager
def _boundary(analysis: type[Analysis]) -> Generator[None]:
    """Say whose failure it is: in a plugin anything may fail."""
    try:
        yield
    except OutcropError:
        raise
    except Exception as error:
        raise AnalysisError(f"Analysis {_title(analysis)} failed: {_reason(error)}") from error


def _by_leaf(analysis: type[Analysis], returned: "Mapping[str, xr.Dataset] | xr.Dataset") -> "dict[str, xr.Dataset]":
    import xarray as xr

    if isinstance(returned, xr.Dataset):
        return {next(iter(analysis.produces)): returned}
    if not isinstance(returned, Mapping):
        raise AnalysisError(
            f"Analysis {_title(analysis)} returned {_described(returned)}; expected a dataset for each of "
            f"{', '.join(sorted(analysis.produces))}."
        )
    leaves = {}
    for leaf, dataset in returned.items():
        if not isinstance(dataset, xr.Dataset):
            raise AnalysisError(
                f"Analysis {_title(analysis)} returned {_described(dataset)} as leaf {leaf!r}; "
                "expected an xarray.Dataset."
            )
        leaves[str(leaf)] = dataset
    return leaves


def _title(analysis: type[Analysis]) -> str:
    """Return the analysis' name and who made it."""
    provider = plugin_registry().provider("outcrop_analyses", analysis) or f"module {analysis.__module__}"
    return f"{analysis.name!r} ({provider})"


def _reason(error: Exception) -> str:
    """Return type, message and place of an error, for those who will see one line of it only."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" (in {frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{place}"


def _described(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def _problem_text(analysis: str, problem: dict[str, Any], known: list[str]) -> str:
    name = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return (
            f"Analysis {analysis!r} has no parameter {name!r}.{did_you_mean(name, known)} "
            f"It has {', '.join(known) or 'none'}."
        )
    if problem["type"] == "value_error":  # raised by the analysis itself, in words that are whole
        said = str(problem["ctx"]["error"]).rstrip(".")
        return f"Parameter {name!r} of {analysis!r}: {said}; got {problem['input']!r}."
    return f"Parameter {name!r} of {analysis!r}: {problem['msg'].lower()}, got {problem['input']!r}."
