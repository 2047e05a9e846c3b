"""Which classes a few samples are of, against the rest."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from outcrop.errors import InputError


@dataclass(frozen=True)
class ClassShares:
    """Shares of classes among the members and among the rest.

    Attributes:
        labels: (class,), those that occur, ascending.
        of_members: (class,), share of the members that have a label.
        of_rest: (class,), share of the others that have one.
        p_value: (class,), two-sided, of Fisher's exact test of the class against all others; NaN where either side
            has no label.
    """

    labels: Int[np.ndarray, " class"]
    of_members: Float[np.ndarray, " class"]
    of_rest: Float[np.ndarray, " class"]
    p_value: Float[np.ndarray, " class"]


def class_shares(labels: Int[np.ndarray, " sample"], members: Bool[np.ndarray, " sample"]) -> ClassShares:
    """Return which classes are more or less frequent among the members than among the rest.

    Each class against all others by Fisher's exact test, two-sided (Fisher 1935, doi:10.2307/2342435).

    Args:
        labels: Negative for samples without one, which are left out.
        members: Which samples.

    Raises:
        InputError: Labels and members that do not fit.
    """
    from scipy.stats import fisher_exact

    if labels.shape != members.shape or labels.ndim != 1:
        raise InputError(
            f"Labels have shape {labels.shape} and members {members.shape}; expected one of each per sample."
        )
    known = labels >= 0
    chosen, rest = labels[known & members], labels[known & ~members]
    present = np.unique(labels[known])
    inside = np.array([(chosen == label).sum() for label in present], dtype=np.int64)
    outside = np.array([(rest == label).sum() for label in present], dtype=np.int64)
    p_values = np.full(len(present), np.nan)
    if len(chosen) and len(rest):
        tables = {}
        for row, counts in enumerate(zip(inside.tolist(), outside.tolist(), strict=True)):
            if counts not in tables:
                table = [[counts[0], counts[1]], [len(chosen) - counts[0], len(rest) - counts[1]]]
                tables[counts] = float(fisher_exact(table)[1])
            p_values[row] = min(tables[counts], 1.0)
    with np.errstate(invalid="ignore"):
        return ClassShares(present, inside / np.float64(len(chosen)), outside / np.float64(len(rest)), p_values)
