"""The words in which a kind is declared: variables and attributes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

DataType = Literal["float", "float64", "int", "bool", "str"]
"""Family of dtypes: ``float`` is any of float16 to float64, ``str`` any way numpy holds text."""

AttributeType = Literal["str", "int", "float", "bool", "list", "json"]
"""``json`` is a string that holds JSON."""


class DeclarationError(ValueError):
    """A kind is declared in a way that contradicts itself."""


@dataclass(frozen=True)
class Attribute:
    """An attribute of a dataset or of one variable.

    Attributes:
        name: Its key.
        type: What it holds.
        summary: One line.
        required: Whether it must be there.
    """

    name: str
    type: AttributeType
    summary: str
    required: bool = True


@dataclass(frozen=True)
class Variable:
    """A data variable or coordinate.

    Attributes:
        name: Its key.
        dims: In order.
        dtype: Family of its dtype.
        long_name: What it is, for axes and tables.
        units: CF units; ``1`` for shares and ratios, None where units make no sense.
        minimum: Least allowed value (within 1e-9), or None.
        maximum: Greatest allowed value (within 1e-9), or None.
        values: All allowed values of a string, or None.
        required: Whether it must be there.
        nullable: Whether NaN may stand for "not defined here". Infinities are never allowed.
        attributes: Attributes that its producer sets.
        references: Papers that define it.
    """

    name: str
    dims: tuple[str, ...]
    dtype: DataType
    long_name: str
    units: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    values: tuple[str, ...] | None = None
    required: bool = True
    nullable: bool = False
    attributes: tuple[Attribute, ...] = ()
    references: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        numeric = self.dtype in {"float", "float64", "int"}
        if self.nullable and not self.dtype.startswith("float"):
            raise DeclarationError(
                f"Variable {self.name!r} is {self.dtype}, which cannot be nullable: only floats hold NaN."
            )
        if not numeric and (self.minimum, self.maximum) != (None, None):
            raise DeclarationError(f"Variable {self.name!r} is {self.dtype}, which has no minimum or maximum.")
        if self.values is not None and self.dtype != "str":
            raise DeclarationError(f"Variable {self.name!r} is {self.dtype}; only str lists its values.")

    def described(self) -> Mapping[str, Any]:
        """Return the CF attributes that describe it."""
        attributes: dict[str, Any] = {"long_name": self.long_name}
        if self.units is not None:
            attributes["units"] = self.units
        if self.minimum is not None and self.maximum is not None:
            attributes["valid_range"] = [self.minimum, self.maximum]
        elif self.minimum is not None:
            attributes["valid_min"] = self.minimum
        elif self.maximum is not None:
            attributes["valid_max"] = self.maximum
        if self.references:
            attributes["references"] = " ".join(self.references)
        return attributes
