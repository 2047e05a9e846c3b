"""Which step of the training each checkpoint is of, and what the series is called."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from outcrop.errors import AnalysisError

_NUMBER = re.compile(r"(.*?)(\d+)(\D*)")
"""A name up to its last number, that number, and what follows it."""


@dataclass(frozen=True)
class Series:
    """Checkpoints in the order of training.

    Attributes:
        name: Of the network.
        checkpoints: Names of the models, one a step.
        steps: Increasing.
    """

    name: str
    checkpoints: tuple[str, ...]
    steps: tuple[int, ...]


def order_checkpoints(names: Sequence[str], steps: Sequence[int] | None) -> Series:
    """Return the checkpoints in the order of training.

    Steps that are given belong to the models as they were given. Otherwise names that differ in their last number only
    (``net@0``, ``net@120``; ``epoch-3``, ``epoch-10``) tell the steps and with them the order. All others keep the
    order in which they were given, and their positions are the steps.

    Raises:
        AnalysisError: Fewer than two models, or steps that are not one for each, or do not increase.
    """
    if len(names) < 2:
        raise AnalysisError(
            f"Analysis 'checkpoints' compares checkpoints of one training; got {', '.join(map(repr, names))} only. "
            "Give two or more models, in the order of training."
        )
    found = _from_names(names)
    if steps is None:
        return found or Series(names[-1], tuple(names), tuple(range(len(names))))
    if len(steps) != len(names):
        raise AnalysisError(f"There are {len(steps)} steps for {len(names)} checkpoints; give one for each.")
    for before, after in pairwise(steps):
        if after <= before:
            raise AnalysisError(
                f"Step {after} follows step {before}; give checkpoints and steps in the order of training."
            )
    return Series(found.name if found else names[-1], tuple(names), tuple(steps))


def _from_names(names: Sequence[str]) -> Series | None:
    """Return the series that the names tell, or None where they tell none."""
    matches = [_NUMBER.fullmatch(name) for name in names]
    parts = [match.groups() for match in matches if match is not None]
    numbers = [int(number) for _, number, _ in parts]
    alike = len({(before, after) for before, _, after in parts}) == 1
    if len(parts) < len(names) or not alike or len(set(numbers)) < len(numbers):
        return None
    ordered = sorted(zip(numbers, names, strict=True))
    name = parts[0][0].rstrip("@-_.:/ ") or names[-1]
    return Series(name, tuple(name for _, name in ordered), tuple(number for number, _ in ordered))
