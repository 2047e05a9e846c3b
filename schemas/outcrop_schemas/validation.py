"""Compare a dataset with its kind, and list every difference."""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from outcrop_schemas.data_types import DTYPE_PATTERNS, is_text
from outcrop_schemas.declaration import Attribute, Variable
from outcrop_schemas.problems import Problem
from outcrop_schemas.versions import parse_version

if TYPE_CHECKING:
    import xarray as xr

    from outcrop_schemas.kind import Kind

TOLERANCE = 1e-9
"""How far rounding may carry a value beyond its range."""


def find_problems(dataset: "xr.Dataset", kind: "Kind") -> list[Problem]:
    """Return every way in which a dataset differs from a kind; an empty list where there is none.

    Args:
        dataset: Held in memory or opened from a study. Its values are read.
        kind: What it should be.
    """
    problems = [
        *_identity(dataset, kind),
        *_attributes("attrs", dataset.attrs, kind.attributes),
        *_dims(dataset, kind),
        *_names("coords", list(map(str, dataset.coords)), kind.coords, dataset, kind),
        *_names("data_vars", list(map(str, dataset.data_vars)), kind.variables, dataset, kind),
    ]
    if kind.any_of and not any(name in dataset.variables for name in kind.any_of):
        problems.append(Problem("data_vars", f"at least one of {', '.join(kind.any_of)}", "none of them"))
    for group, declared in (("coords", kind.coords), ("data_vars", kind.variables)):
        for variable in declared:
            if variable.name in getattr(dataset, group):
                problems.extend(_variable(f"{group}/{variable.name}", dataset[variable.name], variable))
    if not problems:
        # The rules between variables may rely on every variable being as declared.
        problems = [problem for check in kind.checks for problem in check(dataset)]
    return problems


def _identity(dataset: "xr.Dataset", kind: "Kind") -> Iterator[Problem]:
    if dataset.attrs.get("kind") != kind.name:
        yield Problem("attrs/kind", repr(kind.name), _shown(dataset.attrs.get("kind")))
    found = parse_version(dataset.attrs.get("kind_version"))
    if found is None:
        yield Problem("attrs/kind_version", "'MAJOR.MINOR'", _shown(dataset.attrs.get("kind_version")))
    elif found[0] != kind.major:
        what = "a newer outcrop wrote it" if found[0] > kind.major else "upgrade it first"
        yield Problem("attrs/kind_version", f"'{kind.major}.*'", f"'{found[0]}.{found[1]}' ({what})")


def _attributes(path: str, found: Mapping[Any, Any], declared: Sequence[Attribute]) -> Iterator[Problem]:
    for attribute in declared:
        if attribute.name in found:
            if not _is_type(found[attribute.name], attribute.type):
                yield Problem(f"{path}/{attribute.name}", attribute.type, _shown(found[attribute.name]))
        elif attribute.required:
            yield Problem(f"{path}/{attribute.name}", f"{attribute.type}: {attribute.summary}", "nothing")
    for name, value in found.items():
        if not isinstance(name, str) or not _is_json(value):
            yield Problem(f"{path}/{name}", "a finite value that JSON can hold", _shown(value))


def _is_type(value: object, expected: str) -> bool:
    if expected == "json":
        return isinstance(value, str) and _parses(value)
    if expected == "bool":
        return isinstance(value, bool)
    if isinstance(value, bool):
        return False
    types: Mapping[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float), "list": (list, tuple)}
    return isinstance(value, types[expected])


def _parses(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _is_json(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, list | tuple):
        return all(_is_json(item) for item in value)
    return isinstance(value, str | int)


def _dims(dataset: "xr.Dataset", kind: "Kind") -> Iterator[Problem]:
    for dim, least in kind.dims.items():
        if dim in dataset.sizes and dataset.sizes[dim] < least:
            yield Problem(f"dims/{dim}", f"at least {least}", str(dataset.sizes[dim]))


def _names(
    group: str, found: Sequence[str], declared: Sequence[Variable], dataset: "xr.Dataset", kind: "Kind"
) -> Iterator[Problem]:
    for variable in declared:
        if variable.required and variable.name not in found:
            yield Problem(f"{group}/{variable.name}", f"{variable.dtype} over {_tuple(variable.dims)}", "nothing")
    version = parse_version(dataset.attrs.get("kind_version"))
    newer = version is not None and version[0] == kind.major and version[1] > kind.minor
    if not kind.open and not newer:
        names = [variable.name for variable in declared]
        for name in found:
            if name not in names:
                expected = f"only what kind {kind.name!r} declares (extend the kind to add to it)"
                yield Problem(f"{group}/{name}", expected, "an undeclared name")


def _variable(path: str, array: "xr.DataArray", variable: Variable) -> Iterator[Problem]:
    yield from _attributes(f"{path}/attrs", array.attrs, variable.attributes)
    if array.dims != variable.dims:
        yield Problem(f"{path}/dims", _tuple(variable.dims), _tuple(tuple(map(str, array.dims))))
    if not re.match(DTYPE_PATTERNS[variable.dtype], str(array.dtype)):
        yield Problem(f"{path}/dtype", variable.dtype, str(array.dtype))
    elif variable.dtype == "str":
        if not is_text(array.values):
            yield Problem(path, "text in every place", "values that are not text")
        elif variable.values is not None:
            foreign = sorted(set(array.values.ravel().tolist()) - set(variable.values))
            if foreign:
                yield Problem(path, f"one of {', '.join(map(repr, variable.values))}", ", ".join(map(repr, foreign)))
    elif variable.dtype != "bool":
        yield from _numbers(path, array, variable)


def _numbers(path: str, array: "xr.DataArray", variable: Variable) -> Iterator[Problem]:
    import numpy as np

    values = array.values
    if not variable.nullable and np.isnan(values).any():
        yield Problem(path, "no NaN", f"{int(np.isnan(values).sum())} of {values.size}")
    if np.isinf(values).any():
        yield Problem(path, "finite values", f"{int(np.isinf(values).sum())} infinite of {values.size}")
    finite = values[np.isfinite(values)]
    if variable.minimum is not None and (finite < variable.minimum - TOLERANCE).any():
        yield Problem(path, f"values of at least {variable.minimum:g}", f"{finite.min():g}")
    if variable.maximum is not None and (finite > variable.maximum + TOLERANCE).any():
        yield Problem(path, f"values of at most {variable.maximum:g}", f"{finite.max():g}")


def _tuple(names: Sequence[str]) -> str:
    return f"({', '.join(names)})"


def _shown(value: object) -> str:
    if value is None:
        return "nothing"
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"
