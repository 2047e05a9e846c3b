"""A fair comparison of stimuli with a statistic, stimuli without it, and real samples: over equally many of each."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Comparison:
    """How far stimuli reach on the first component, in units of the most dominant real sample.

    The more stimuli are tried, the farther the farthest reaches, whatever they show. So groups are compared by the
    farthest that is expected of equally many.

    Attributes:
        carrying_count: Stimuli that have what dominant samples share.
        control_count: Stimuli that have it not.
        count: As many of each as the smaller group has.
        carrying_reach: The farthest expected of as many stimuli that have it as there are real samples, of which the
            most dominant is the farthest; of all where there are fewer.
        carrying: The farthest expected of so many with it.
        control: Of so many without it.
        real: Of so many real samples.
        carrying_median: Of all that have it.
        reaching: Of all that have it, how many reach as far as the most dominant sample.
        control_reaching: Of all that have it not.
    """

    carrying_count: int = 0
    control_count: int = 0
    count: int = 0
    carrying_reach: float = float("nan")
    carrying: float = float("nan")
    control: float = float("nan")
    real: float = float("nan")
    carrying_median: float = float("nan")
    reaching: int = 0
    control_reaching: int = 0

    @property
    def possible(self) -> bool:
        """Return whether there are stimuli of both sorts."""
        return self.count > 0

    @property
    def reaches(self) -> bool:
        """Return whether those that have it reach as far as the most dominant real sample."""
        return self.carrying_reach >= 1

    @property
    def specific(self) -> bool:
        """Return whether equally many that have it not stay behind that sample."""
        return self.control < 1


def compare(
    carrying: Float[np.ndarray, " stimulus"],
    control: Float[np.ndarray, " stimulus"],
    real: Float[np.ndarray, " sample"],
) -> Comparison:
    """Return the comparison of excitations: of stimuli that have a statistic, of those that have it not, of samples."""
    real = real[np.isfinite(real)]
    count = min(len(carrying), len(control))
    nothing = float("nan")
    return Comparison(
        carrying_count=len(carrying),
        control_count=len(control),
        count=count,
        carrying_reach=expected_maximum(carrying, len(real)),
        carrying=expected_maximum(carrying, count),
        control=expected_maximum(control, count),
        real=expected_maximum(real, count),
        carrying_median=float(np.median(carrying)) if len(carrying) else nothing,
        reaching=int((carrying >= 1).sum()),
        control_reaching=int((control >= 1).sum()),
    )


def expected_maximum(values: Float[np.ndarray, " value"], count: int) -> float:
    """Return the largest value expected among so many drawn without replacement; of all where there are fewer.

    ``sum_i x_(i) C(i - 1, k - 1) / C(n, k)`` over the values in ascending order: the largest of k is the i-th where it
    is drawn and the others come from the i - 1 below it. NaN for no values or no draws.
    """
    from scipy.special import gammaln

    count = min(count, len(values))
    if count < 1:
        return float("nan")
    if count == len(values):
        return float(values.max())
    ranks = np.arange(count, len(values) + 1)
    # Logarithms of factorials, as the numbers of choices have hundreds of digits; without what all weights share.
    logarithm = gammaln(ranks) - gammaln(ranks - count + 1)
    weights = np.exp(logarithm - logarithm.max())
    return float(np.sort(values)[count - 1 :] @ weights / weights.sum())
