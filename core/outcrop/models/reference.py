"""Split a model reference into its parts: ``scheme:name?option=value&option=value``."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from outcrop.errors import ModelLoadError, did_you_mean

_SWITCH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


@dataclass(frozen=True)
class Reference:
    """What follows the scheme: a name, and options after a question mark.

    Attributes:
        name: Such as ``resnet18``.
        options: Such as ``{"seed": "0"}``.
    """

    name: str
    options: Mapping[str, str]

    def switch(self, option: str) -> bool | None:
        """Return a yes or no, or None where it is not given.

        Raises:
            ModelLoadError: It is neither.
        """
        value = self.options.get(option)
        if value is None:
            return None
        if value.lower() not in _SWITCH:
            raise ModelLoadError(f"Option {option}={value} of {self.name!r} is neither true nor false.")
        return _SWITCH[value.lower()]

    def number(self, option: str, default: int) -> int:
        """Return a whole number that is not negative.

        Raises:
            ModelLoadError: It is none.
        """
        value = self.options.get(option, str(default))
        if not value.isdecimal():
            raise ModelLoadError(f"Option {option}={value} of {self.name!r} is not a whole number.")
        return int(value)

    def shape(self, option: str = "input_shape") -> tuple[int, ...] | None:
        """Return a shape written as ``3x32x32``, or None where it is not given.

        Raises:
            ModelLoadError: It is not written so.
        """
        value = self.options.get(option)
        if value is None:
            return None
        sizes = value.lower().split("x")
        if not all(size.isdecimal() and int(size) > 0 for size in sizes):
            raise ModelLoadError(f"Option {option}={value} of {self.name!r} is not a shape; write it as 3x32x32.")
        return tuple(int(size) for size in sizes)


def parse_reference(text: str, options: Collection[str]) -> Reference:
    """Return the parts of what follows the scheme.

    Args:
        text: Such as ``resnet18?pretrained=false&seed=0``.
        options: Names of the options that the scheme knows.

    Raises:
        ModelLoadError: An option is unknown or has no value.
    """
    name, _, query = text.partition("?")
    found: dict[str, str] = {}
    for part in filter(None, query.split("&")):
        option, equals, value = part.partition("=")
        if option not in options:
            known = ", ".join(sorted(options))
            raise ModelLoadError(
                f"Unknown option {option!r} in {text!r}.{did_you_mean(option, options)} Known: {known}."
            )
        if not equals or not value:
            raise ModelLoadError(f"Option {option!r} in {text!r} has no value; write {option}=VALUE.")
        found[option] = value
    return Reference(name, found)
