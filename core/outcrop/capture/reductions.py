"""Reductions at capture by their text: ``spatial_mean``, ``positions:16``, ``projection:256,seed=1``, ``float16``."""

from collections.abc import Callable

from outcrop.capture.means import HalfPrecision, SpatialMean
from outcrop.capture.positions import SampledPositions
from outcrop.capture.projections import RandomProjection
from outcrop.capture.random_bits import LARGEST_SEED
from outcrop.capture.reduction import Chain, Reduction
from outcrop.errors import ParameterError, did_you_mean

__all__ = ["GRAMMAR", "Reduction", "parse_reduction"]

GRAMMAR = (
    "none, or one or more of spatial_mean (or positions:NUMBER[,seed=NUMBER]), projection:NUMBER[,seed=NUMBER] and "
    "float16, in this order, joined by +"
)
"""What :func:`parse_reduction` takes."""

_PLAIN: dict[str, Callable[[], Reduction]] = {"spatial_mean": SpatialMean, "float16": HalfPrecision}
_NUMBERED: dict[str, Callable[[int, int], Reduction]] = {"positions": SampledPositions, "projection": RandomProjection}
_ORDER = {"spatial_mean": 0, "positions": 0, "projection": 1, "float16": 2}


def parse_reduction(text: str) -> Reduction | None:
    """Return the reduction that a text describes, or None for ``none``.

    * ``spatial_mean``: mean over y and x, or over tokens.
    * ``positions:16``: values at 16 places of the image, the same in every layer and model.
    * ``projection:256``: all features times a sparse random matrix, which keeps inner products.
    * ``float16``: half precision.

    ``seed=`` follows after a comma, and is 0 by default. Several are joined by ``+`` and applied from left to right.

    Args:
        text: Such as ``spatial_mean+float16``; the ``description`` of a reduction gives that reduction again.

    Raises:
        ParameterError: The text describes none.
    """
    names = [part.strip().partition(":")[0].strip() for part in text.split("+")]
    if names == ["none"] and text.strip() == "none":
        return None
    for name in names:
        if name not in _ORDER:
            hint = did_you_mean(name, [*_ORDER, "none"]) if name else ""
            hint = " 'none' stands alone." if name == "none" else hint
            raise ParameterError(f"Unknown reduction {name!r} in {text!r}.{hint} Expected {GRAMMAR}.")
    ranks = [_ORDER[name] for name in names]
    if ranks != sorted(set(ranks)):
        raise ParameterError(f"The reduction {text!r} repeats or reorders its parts. Expected {GRAMMAR}.")
    parts = tuple(_part(name, part, text) for name, part in zip(names, text.split("+"), strict=True))
    return parts[0] if len(parts) == 1 else Chain(parts)


def _part(name: str, part: str, text: str) -> Reduction:
    _, colon, argument = part.strip().partition(":")
    if name in _PLAIN:
        if colon:
            raise ParameterError(f"{name} takes no parameter; got {part.strip()!r} in the reduction {text!r}.")
        return _PLAIN[name]()
    number, *options = (piece.strip() for piece in argument.split(","))
    seed = 0
    for option in options:
        key, _, value = (piece.strip() for piece in option.partition("="))
        if key != "seed" or len(options) > 1:
            raise ParameterError(f"{name} takes one option, seed=NUMBER; got {argument!r} in the reduction {text!r}.")
        seed = _whole(value, 0, LARGEST_SEED, f"The seed of {name}", text)
    return _NUMBERED[name](_whole(number, 1, (1 << 31) - 1, f"The number of {name}", text), seed)


def _whole(value: str, least: int, most: int, what: str, text: str) -> int:
    # isdecimal also takes other scripts' digits, which int() reads and nobody means; and int() refuses very long ones.
    if not (value.isascii() and value.isdecimal() and len(value) <= 20 and least <= int(value) <= most):
        raise ParameterError(
            f"{what} is {value!r} in the reduction {text!r}; expected a number from {least} to {most}."
        )
    return int(value)
