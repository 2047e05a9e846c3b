"""Result schemas: what a result of each kind must look like, declared once and checked everywhere.

A result is an :class:`xarray.Dataset` of a declared :class:`Kind`. The declaration validates datasets, fills in
their attributes, and generates the JSON Schema that is committed beside it (``python -m outcrop_schemas``).
"""

from outcrop_schemas.declaration import Attribute, DeclarationError, Variable
from outcrop_schemas.dimensions import DIMENSIONS
from outcrop_schemas.kind import Kind
from outcrop_schemas.kinds import KINDS
from outcrop_schemas.problems import NewerVersionError, Problem, SchemaError
from outcrop_schemas.validation import find_problems

__all__ = [
    "DIMENSIONS",
    "KINDS",
    "Attribute",
    "DeclarationError",
    "Kind",
    "NewerVersionError",
    "Problem",
    "SchemaError",
    "Variable",
    "find_problems",
]
