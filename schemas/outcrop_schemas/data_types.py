"""Families of dtypes: which arrays belong to one, and how their dtypes are written."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from outcrop_schemas.declaration import DataType

if TYPE_CHECKING:
    from numpy.typing import NDArray

DTYPE_PATTERNS: Mapping[DataType, str] = {
    "float": "^float(16|32|64)$",
    "float64": "^float64$",
    "int": "^u?int(8|16|32|64)$",
    "bool": "^bool$",
    "str": r"^(object|str|string|<U[0-9]+|StringDType\(.*\))$",
}
"""What ``str(array.dtype)`` looks like, as a regular expression that JSON Schema understands."""


def is_text(values: "NDArray[Any]") -> bool:
    """Return whether an array holds text and nothing else, however numpy keeps it."""
    if values.dtype.kind in {"U", "T"}:
        return True
    return all(isinstance(value, str) for value in values.ravel().tolist())
