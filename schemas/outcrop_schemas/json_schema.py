"""Generate JSON Schema from a declared kind: what ``dataset.to_dict(data=False)`` must look like.

It covers structure, dtypes and attributes. Values and the rules between variables are checked by
:meth:`outcrop_schemas.Kind.validate` only; the rules are listed in ``$comment``.
"""

import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from outcrop_schemas.data_types import DTYPE_PATTERNS
from outcrop_schemas.declaration import Attribute, Variable
from outcrop_schemas.dimensions import DIMENSIONS

if TYPE_CHECKING:
    from outcrop_schemas.kind import Kind

FOLDER = Path(__file__).parent / "json"
"""Where the generated schemas of outcrop's own kinds are committed."""

_FREE_ATTRIBUTES = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean", "array"]}}
_ATTRIBUTE_TYPES: Mapping[str, Mapping[str, Any]] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "list": {"type": "array"},
    "json": {"type": "string", "contentMediaType": "application/json"},
}


def json_schema(kind: "Kind") -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a kind at its version."""
    versions = [f"{kind.major}.{minor}" for minor in range(kind.minor + 1)]
    attributes = _attributes(kind.attributes)
    attributes["properties"] = {
        "kind": {"const": kind.name},
        "kind_version": {"enum": versions},
        **attributes["properties"],
    }
    attributes["required"] = ["kind", "kind_version", *attributes["required"]]
    schema: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:outcrop:kind:{kind.name}:{kind.version}",
        "title": f"{kind.name} {kind.version}",
        "description": kind.summary,
        "type": "object",
        "required": ["attrs", "coords", "data_vars", "dims"],
        "properties": {
            "attrs": attributes,
            "dims": {
                "type": "object",
                "properties": {
                    dim: {"type": "integer", "minimum": least, "description": DIMENSIONS.get(dim, dim)}
                    for dim, least in kind.dims.items()
                },
            },
            "coords": _variables(kind.coords, closed=not kind.open),
            "data_vars": _variables(kind.variables, closed=not kind.open),
        },
    }
    schema["$defs"] = {"attributes": _FREE_ATTRIBUTES}
    if kind.any_of:
        schema["properties"]["data_vars"]["anyOf"] = [{"required": [name]} for name in kind.any_of]
    if kind.checks:
        schema["$comment"] = "Also: " + " ".join(inspect.getdoc(check) or check.__name__ for check in kind.checks)
    return schema


def _attributes(declared: Sequence[Attribute]) -> dict[str, Any]:
    return {
        "required": [attribute.name for attribute in declared if attribute.required],
        "properties": {
            attribute.name: {**_ATTRIBUTE_TYPES[attribute.type], "description": attribute.summary}
            for attribute in declared
        },
        **_FREE_ATTRIBUTES,
    }


def _variables(declared: Sequence[Variable], *, closed: bool) -> dict[str, Any]:
    schema: dict[str, Any] = {
        "type": "object",
        "required": [variable.name for variable in declared if variable.required],
        "properties": {variable.name: _variable(variable) for variable in declared},
    }
    if closed:
        schema["additionalProperties"] = False
    return schema


def _variable(variable: Variable) -> dict[str, Any]:
    limits = [
        *([f"at least {variable.minimum:g}"] if variable.minimum is not None else []),
        *([f"at most {variable.maximum:g}"] if variable.maximum is not None else []),
        *([f"one of {', '.join(map(repr, variable.values))}"] if variable.values else []),
        *(["NaN where not defined"] if variable.nullable else []),
    ]
    return {
        "description": variable.long_name + (f" ({'; '.join(limits)})" if limits else ""),
        "type": "object",
        "required": ["dims", "dtype", "attrs"],
        "properties": {
            "dims": {"const": list(variable.dims)},
            "dtype": {"type": "string", "pattern": DTYPE_PATTERNS[variable.dtype]},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
            "attrs": _attributes(variable.attributes) if variable.attributes else {"$ref": "#/$defs/attributes"},
        },
    }


def schema_text(kind: "Kind") -> str:
    """Return the JSON Schema as it is committed."""
    return json.dumps(json_schema(kind), indent=2, ensure_ascii=False) + "\n"


def schema_path(kind: "Kind", folder: Path = FOLDER) -> Path:
    """Return the file of a kind's schema: one per name and major version."""
    return folder / f"{kind.name}.{kind.major}.json"
