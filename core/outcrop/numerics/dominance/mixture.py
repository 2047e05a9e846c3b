"""Split the samples of a layer into those that dominate its first component and the rest."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from outcrop.errors import ParameterError
from outcrop.numerics.dominance.modes import BULK_DEVIATION, Modes, fit_modes

Rule = Literal["mixture", "top fraction", "none"]

LEAST_GAIN = 10.0
"""Gain in BIC from which evidence counts as very strong (Kass and Raftery 1995, doi 10.1080/01621459.1995.10476572)."""

LEAST_SEPARATION = 2.0
"""Ashman's D from which two modes are apart (Ashman, Bird and Zepf 1994, doi 10.1086/117248)."""

LARGEST_SHARE = 0.5
"""Share of the samples above which an upper component is the bulk and not a dominant few."""

RISE_LEVEL = 0.05
"""Chance that sizes of one mode are allowed to look as if there were a second one."""

LEAST_VALUES = 12
"""With fewer values, five parameters are not worth fitting."""

NEGLIGIBLE = 1e-7
"""Share of the largest size below which a projection is a zero that single precision has rounded."""

_POINTS = 256  # between two modes, where a dip is looked for


@dataclass(frozen=True)
class Split:
    """The samples of a layer in two: those that dominate its first component, and the rest.

    Attributes:
        dominant: Which samples dominate: those whose |projection| reaches the threshold.
        threshold: In the units of the projections; NaN where no sample is dominant.
        rule: ``mixture`` where the sizes have two modes, ``top fraction`` where not, ``none`` where there are no
            sizes to split.
        bic_gain: BIC of one mode less that of two, on log |projection|; NaN where not fitted.
        ashman_d: Distance of the two means by their spread, ``sqrt(2) (m2 - m1) / sqrt(s1^2 + s2^2)``.
        upper_share: Share of the sizes that belong to the upper mode.
        rise_p: Chance that sizes whose density only falls from the higher mode lie as near the lower one; NaN where
            no second mode is fitted.
    """

    dominant: Bool[np.ndarray, " sample"]
    threshold: float
    rule: Rule
    bic_gain: float = math.nan
    ashman_d: float = math.nan
    upper_share: float = math.nan
    rise_p: float = math.nan


def split_projections(values: Float[np.ndarray, " sample"], *, top_fraction: float = 0.05) -> Split:
    """Return which samples dominate a layer, by the sizes of their projections on its first component.

    The histogram of log |projection| has two modes in layers of a block and one elsewhere (arXiv 2202.07184, section
    4 and appendix D). A mixture of a bulk and an upper component is fitted to it (:func:`fit_modes`), and samples are
    dominant from where the upper one is the more probable. That needs two modes: a gain in BIC of more than 10 over
    one mode, an Ashman's D of more than 2, a dip between the modes, and an upper component that holds no more
    than half of the sizes. Otherwise the ``top_fraction`` of largest size is taken.

    A mixture also fits the long tail of skewed sizes, such as exponential ones about their mean, with a dip that the
    sizes do not have. So they themselves must rise again. Up to a deviation beyond the lower mode, a density that only
    falls from the higher one puts its values no farther out than a flat one does: the one-sided Kolmogorov-Smirnov test
    against a flat one (Birnbaum and Tingey 1951, doi 10.1214/aoms/1177729550) must deny it at 5 %. It is asked twice,
    which Bonferroni's factor pays for: from where the higher mode has fallen to the density of the lower, and from the
    last value that belongs to it. Of skewed samples up to 3 % then have two modes, where without they are up to all. A
    single sample is a mode of its own only a thousand times beyond the others, and modes that nearly touch are missed.

    The signs of projections do not matter, and a common factor only scales the threshold. Zeros are never dominant and
    take no part in the fit, as log 0 has no place in it; nor do sizes below 1e-7 of the largest. Samples are judged
    by one layer at a time; a set that is chosen here and evaluated on the same samples overstates what it explains.

    Args:
        values: Projections; NaN for samples without one, which are never dominant.
        top_fraction: Share of the projections that is taken where there are no two modes, rounded down and one at
            least.

    Raises:
        ParameterError: A fraction out of its range, or values that are infinite or not one per sample.
    """
    if not 0 < top_fraction <= 1:
        raise ParameterError(f"top_fraction must be above 0 and at most 1; got {top_fraction:g}.")
    if values.ndim != 1:
        raise ParameterError(f"Projections must be one per sample; got shape {values.shape}.")
    if np.isinf(values).any():
        raise ParameterError("Projections must be finite, or NaN for samples without one; got infinite ones.")
    sizes = np.abs(np.nan_to_num(values.astype(np.float64)))
    largest = float(sizes.max(initial=0.0))
    used = sizes > NEGLIGIBLE * largest
    if not used.any():
        return Split(np.zeros(len(sizes), dtype=bool), math.nan, "none")
    logs = np.log(sizes[used] / largest)
    if used.sum() < LEAST_VALUES or not np.ptp(logs) > 0:
        return _top_fraction(sizes, used, int(np.isfinite(values).sum()), top_fraction)
    modes, rise_p = _likeliest(fit_modes(logs), np.sort(logs))
    measured = _gain(modes, len(logs)), modes.separation, modes.share, rise_p
    if rise_p <= RISE_LEVEL and measured[0] > LEAST_GAIN:
        limit = _crossing(modes)
        dominant = used.copy()
        dominant[used] = logs >= limit
        if dominant.any():
            return Split(dominant, math.exp(limit) * largest, "mixture", *measured)
    return _top_fraction(sizes, used, int(np.isfinite(values).sum()), top_fraction, measured)


def _likeliest(found: list[Modes], ascending: NDArray[np.float64]) -> tuple[Modes, float]:
    """Return the likeliest fit with two modes, or where there is none the likeliest of all; and its chance to mislead.

    A likelier fit may be one that spends its second component on the shape of the bulk.

    Args:
        found: Fits.
        ascending: The logarithms that they are fits of.
    """
    chances = [_rise_p(modes, ascending) if _apart(modes) else math.nan for modes in found]
    best = max(
        range(len(found)),
        key=lambda place: (chances[place] <= RISE_LEVEL, chances[place] <= 1, found[place].log_likelihood),
    )
    return found[best], chances[best]


def _gain(modes: Modes, count: int) -> float:
    """Return the gain in BIC: two modes have 5 parameters, one has 2."""
    return 2 * (modes.log_likelihood - modes.log_likelihood_alone) - 3 * math.log(count)


def _apart(modes: Modes) -> bool:
    """Return whether there are two modes, the upper one of a few."""
    if modes.share > LARGEST_SHARE or modes.separation <= LEAST_SEPARATION or modes.mean <= modes.centre:
        return False
    lower, upper = modes.log_densities(np.linspace(modes.centre, modes.mean, _POINTS))
    density = np.logaddexp(lower, upper)
    return bool(upper[0] < lower[0] and upper[-1] > lower[-1] and density.min() < min(density[0], density[-1]))


def _rise_p(modes: Modes, ascending: NDArray[np.float64]) -> float:
    """Return the chance that values whose density only falls from the higher mode lie as near the lower, or nearer."""
    at = np.linspace(modes.centre, modes.mean, _POINTS)
    density = np.logaddexp(*modes.log_densities(at))
    dip, level = float(at[density.argmin()]), float(min(density[0], density[-1]))
    limit = _crossing(modes)
    if density[0] >= density[-1]:
        start, stop = _where_at(modes, level, modes.centre, dip), modes.mean + modes.deviation
        nearest = ascending[ascending < limit][-1:]
    else:
        # The other way round: what rises again towards the bulk.
        start, stop = _where_at(modes, level, modes.mean, dip), modes.centre - modes.width * BULK_DEVIATION
        nearest = ascending[ascending >= limit][:1]
    chances = [_far_p(ascending, begin, stop) for begin in (start, *nearest.tolist())]
    return min(1.0, len(chances) * min(chances))


def _far_p(ascending: NDArray[np.float64], start: float, stop: float) -> float:
    """Return the chance that values of a flat density from start to stop lie as near to stop, or nearer."""
    from scipy.stats import ksone

    shares = (ascending - start) / (stop - start)
    inside = np.sort(shares[(shares > 0) & (shares < 1)])
    if not len(inside):
        return 1.0
    before = np.arange(len(inside)) / len(inside)
    return float(ksone.sf(max(float((inside - before).max()), 0.0), len(inside)))


def _where_at(modes: Modes, level: float, above: float, below: float) -> float:
    """Return where the log density falls to a level, between a place where it is above and one where it is below."""
    for _ in range(60):
        middle = (above + below) / 2
        density = float(np.logaddexp(*modes.log_densities(np.array([middle])))[0])
        above, below = (middle, below) if density >= level else (above, middle)
    return above


def _crossing(modes: Modes) -> float:
    """Return from where on the upper component is the more probable one."""
    low, high = modes.centre, modes.mean
    for _ in range(60):
        middle = (low + high) / 2
        lower, upper = modes.log_densities(np.array([middle]))
        low, high = (middle, high) if upper[0] < lower[0] else (low, middle)
    return high


def _top_fraction(
    sizes: NDArray[np.float64],
    used: NDArray[np.bool_],
    count: int,
    fraction: float,
    measured: tuple[float, float, float, float] = (math.nan, math.nan, math.nan, math.nan),
) -> Split:
    # A product such as 0.3 * 10 may fall short of the whole number that it stands for.
    taken = min(max(1, math.floor(fraction * count + 1e-9)), int(used.sum()))
    chosen = np.argsort(-sizes, kind="stable")[:taken]
    dominant = np.zeros(len(sizes), dtype=bool)
    dominant[chosen] = True
    return Split(dominant, float(sizes[chosen[-1]]), "top fraction", *measured)
