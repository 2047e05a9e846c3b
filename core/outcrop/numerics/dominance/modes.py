"""Fit the bulk of the samples and a few far ones to the sizes of their projections."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

BINS = 256
"""Bins that more values than these are gathered in; each stands at the mean of its values."""

STARTS = (0.002, 0.01, 0.05, 0.2, 0.4)
"""Shares of the values that the upper component begins with; several starts may end in one fit."""

ITERATIONS = 100

TOLERANCE = 1e-9
"""Gain in mean log-likelihood at which a fit is done."""

# Of log |Z| for a standard normal Z, and its logarithm's constant.
_MEAN, _VARIANCE = -(np.euler_gamma + math.log(2)) / 2, math.pi**2 / 8
_SCALE = 0.5 * math.log(2 / math.pi)
BULK_DEVIATION = math.sqrt(_VARIANCE)
"""Standard deviation of a bulk of width 1, on the scale of logarithms."""

_HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)

# Narrower than this share of all values' spread, the bulk would be a few repeated values.
_NARROWEST = 1e-2

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Modes:
    """A bulk and an upper component, on the scale of logarithms.

    Attributes:
        share: Of the values, that is the upper component's.
        centre: Of the bulk: its mode.
        width: Of the bulk: 1 for sizes of normal values of any variance.
        mean: Of the upper component.
        deviation: Of the upper component.
        log_likelihood: Of all values.
        log_likelihood_alone: The same for one distribution alone: a generalised half-normal one of sizes or a normal
            one of their logarithms, whichever is likelier.
    """

    share: float
    centre: float
    width: float
    mean: float
    deviation: float
    log_likelihood: float
    log_likelihood_alone: float

    @property
    def separation(self) -> float:
        """Ashman's D: distance of the means by their spread, ``sqrt(2) (m2 - m1) / sqrt(s1^2 + s2^2)``."""
        spread = _VARIANCE * self.width**2 + self.deviation**2
        return math.sqrt(2) * (self.mean - self.centre - _MEAN * self.width) / math.sqrt(spread)

    def log_densities(self, at: Float[np.ndarray, " point"]) -> tuple[Array, Array]:
        """Return the logarithms of what bulk and upper component put at each point."""
        lower = math.log1p(-self.share) + _bulk(at, np.array([self.centre]), np.array([self.width]))[0]
        upper = math.log(self.share) + _normal(at, np.array([self.mean]), np.array([self.deviation**2]))[0]
        return lower, upper


def fit_modes(logs: Float[np.ndarray, " sample"]) -> list[Modes]:
    """Return mixtures of a bulk and an upper component fitted to logarithms of sizes, one for each start.

    The bulk is a generalised half-normal distribution (Cooray and Ananda 2008, doi 10.1080/03610920701826088):
    ``log |x| = centre + width log |Z|`` for a standard normal Z. A normal bulk would not do: log |Z| has a long lower
    tail, which a normal mixture spends its second component on. The upper component is normal. Both are fitted by
    expectation maximisation; the upper variance is the posterior mode under the prior of Fraley and Raftery 2007
    (doi 10.1007/s00357-007-0004-5, one dimension, no shrinkage of means), so that it cannot collapse on repeated
    values.

    Fits depend on the order of magnitude of the values in no way: a factor on all sizes shifts means and centres.
    Cost: ``ITERATIONS`` times ``STARTS`` times ``BINS`` exponentials at most, whatever the number of samples.

    Args:
        logs: Finite, and not all the same.
    """
    values, weights = _gathered(logs)
    count, variance = float(len(logs)), float(np.var(logs))
    narrowest = _NARROWEST * math.sqrt(variance)
    log_weights = np.log(weights)
    centres, widths = _fit_bulk(values, log_weights[None], np.full(1, math.sqrt(variance / _VARIANCE)), narrowest)
    as_bulk = float((weights * _bulk(values, centres, widths)).sum())
    as_normal = float(_normal(logs, np.array([logs.mean()]), np.array([variance])).sum())
    # From the top down, until each start has its share; a start takes the largest value at least.
    above = (count - np.cumsum(weights) + weights)[None] / count
    upper = (above <= np.array(STARTS)[:, None]).astype(np.float64)
    upper[:, -1] = 1.0
    with np.errstate(divide="ignore"):
        log_lower = np.log(1 - upper)
    widths = np.full(len(STARTS), widths[0])
    before = np.full(len(STARTS), -np.inf)
    for _ in range(ITERATIONS):
        held = upper * weights
        size = held.sum(axis=1)
        shares = size / count
        means = (held * values).sum(axis=1) / size
        squares = (held * (values - means[:, None]) ** 2).sum(axis=1)
        variances = (variance / 4 + squares) / (size + 5)
        centres, widths = _fit_bulk(values, log_lower + log_weights, widths, narrowest, steps=1)
        low = np.log1p(-shares)[:, None] + _bulk(values, centres, widths)
        high = np.log(shares)[:, None] + _normal(values, means, variances)
        both = np.logaddexp(low, high)
        likelihoods = (weights * both).sum(axis=1)
        # Neither component may vanish, or nothing could be told of it. Far values may vanish from the bulk: a share of
        # 1e-9 in one of a thousand times the bulk's size would outweigh it.
        upper = np.clip(np.exp(high - both), 1e-12, 1 - 1e-9)
        log_lower = low - both
        vanished = np.exp(log_lower) @ weights < 1e-9 * count
        log_lower[vanished] = math.log(1e-9)
        if np.abs(likelihoods - before).max() <= TOLERANCE * count:
            break
        before = likelihoods
    columns = (
        shares,
        centres,
        widths,
        means,
        np.sqrt(variances),
        likelihoods,
        np.full(len(STARTS), max(as_bulk, as_normal)),
    )
    return [Modes(*row) for row in np.stack(columns, axis=1).tolist()]


def _gathered(logs: Array) -> tuple[Array, Array]:
    """Return points in ascending order, and how many values each stands for."""
    values = np.sort(logs)
    if len(values) <= BINS:
        return values, np.ones(len(values))
    edges = np.linspace(values[0], values[-1], BINS + 1)
    bins = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, BINS - 1)
    counts = np.bincount(bins, minlength=BINS).astype(np.float64)
    sums = np.bincount(bins, weights=values, minlength=BINS)
    kept = counts > 0
    return sums[kept] / counts[kept], counts[kept]


def _fit_bulk(
    values: Array, log_weights: Array, widths: Array, narrowest: float, *, steps: int = 40
) -> tuple[Array, Array]:
    """Return centre and width of largest likelihood for each row of weights, or so many steps on the way there.

    With ``p = 2 / width``, the likelihood is stationary where ``1 / p`` is half of what weights tilted by
    ``exp(p value)`` add to the mean. The left side falls with p and the right one grows: Newton's method on log p.
    """
    weights = np.exp(log_weights)
    size = weights.sum(axis=1)
    means = (weights * values).sum(axis=1) / size
    largest = 2 / narrowest
    power = np.minimum(2 / widths, largest)
    for _ in range(steps):
        tilted, _ = _tilted(values, log_weights, power)
        total = tilted.sum(axis=1)
        centre = (tilted * values).sum(axis=1) / total
        spread = (tilted * (values - centre[:, None]) ** 2).sum(axis=1) / total
        slope = 1 / power + power * spread / 2
        step = np.clip((1 / power - (centre - means) / 2) / slope, -1, 1)
        power = np.minimum(power * np.exp(step), largest)
        if np.abs(step).max() < 1e-10 or (power == largest).all():
            break
    tilted, largest_exponent = _tilted(values, log_weights, power)
    return (largest_exponent + np.log(tilted.sum(axis=1) / size)) / power, 2 / power


def _tilted(values: Array, log_weights: Array, power: Array) -> tuple[Array, Array]:
    """Return weights times ``exp(power value)``, divided by the largest of them, and the logarithm of that."""
    exponents = log_weights + power[:, None] * values
    largest = exponents.max(axis=1)
    return np.exp(exponents - largest[:, None]), largest


def _bulk(values: Array, centres: Array, widths: Array) -> Array:
    """Return the log density of the bulk, (start, value)."""
    scaled = (values - centres[:, None]) / widths[:, None]
    # Beyond, the density is zero in double precision, and its logarithm must stay finite.
    return _SCALE - np.log(widths)[:, None] + scaled - 0.5 * np.exp(np.minimum(2 * scaled, 500.0))


def _normal(values: Array, means: Array, variances: Array) -> Array:
    """Return the log density of normal components, (start, value)."""
    squares = (values - means[:, None]) ** 2 / variances[:, None]
    return -_HALF_LOG_TAU - 0.5 * np.log(variances)[:, None] - 0.5 * squares
