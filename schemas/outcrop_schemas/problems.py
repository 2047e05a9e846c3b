"""What is wrong with a dataset: every problem with its path, what was expected and what was found."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One way in which a dataset differs from its kind.

    Attributes:
        path: Where, as in ``xarray.Dataset.to_dict``: ``data_vars/similarity/dims``, ``attrs/kind_version``.
        expected: What the kind declares.
        found: What the dataset has.
    """

    path: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.path}: expected {self.expected}, found {self.found}"


class SchemaError(ValueError):
    """A dataset does not satisfy its kind.

    Attributes:
        problems: All of them.
    """

    def __init__(self, message: str, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


class NewerVersionError(SchemaError):
    """A dataset has a major version that this outcrop does not know."""
