"""What dominant samples share: the statistic that tells them best, and which stimuli have it too."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from outcrop.stimuli import StimulusMaterial
from outcrop_probes.samples import SampleForm

if TYPE_CHECKING:
    from outcrop import Context
    from outcrop.data import Data
    from outcrop_probes.shown import Shown

SIGNIFICANCE = 0.05
LEAST_AUROC = 0.75
"""Of a statistic that counts as shared: what is significant and tells less leaves most dominant samples unexplained."""

PERMUTATIONS = 999
MOST_VALUES = 256
"""Tokens, or features of arrays, that are looked at."""

_SMALLEST_SIDE = 16


@dataclass(frozen=True)
class Bank:
    """Statistics of samples.

    Attributes:
        names: In words, unique.
        measure: Returns them of a sample as families make it; weights say which tokens count.
    """

    names: tuple[str, ...]
    measure: Callable[[NDArray[np.generic], NDArray[np.bool_] | None], Sequence[float]]


@dataclass(frozen=True)
class Shared:
    """The statistic that tells dominant samples from the rest best.

    Attributes:
        name: In words: ``mean blue``.
        auroc: How well it tells them: 1 without fail, 0.5 not at all.
        p_value: Chance that any statistic tells as many samples drawn at random as well.
        above: Whether dominant samples have more of it than the rest.
        threshold: From which, or up to which, a sample counts as having it.
        typical: Median of the samples that are not dominant: with no more of it than that, a sample is without it.
    """

    name: str
    auroc: float
    p_value: float
    above: bool
    threshold: float
    typical: float

    @property
    def text(self) -> str:
        """Return it in words: ``mean blue of 0.58 or more``."""
        return f"{self.name} of {self.threshold:.3g} or {'more' if self.above else 'less'}"

    def had_by(self, values: Float[np.ndarray, " sample"]) -> Bool[np.ndarray, " sample"]:
        """Return which samples have it; what is not finite has not."""
        return np.asarray(values >= self.threshold if self.above else values <= self.threshold)

    def lacked_by(self, values: Float[np.ndarray, " sample"]) -> Bool[np.ndarray, " sample"]:
        """Return which samples are without it; what lies between the typical value and the threshold is neither."""
        lacking = values <= self.typical if self.above else values >= self.typical
        return np.asarray(lacking & ~self.had_by(values))


@dataclass(frozen=True)
class Described:
    """Statistics of the real samples, and how those of others are measured.

    Attributes:
        bank: The statistics.
        values: (statistic, sample), of the real samples.
    """

    bank: Bank
    values: Float[np.ndarray, "statistic sample"]

    def shared_by(self, members: Bool[np.ndarray, " sample"], *, seed: int) -> Shared | None:
        """Return the statistic that tells members best; None where none does, beyond chance and well."""
        from outcrop.numerics import permutation_test, standardised_effect, strength_ranks

        if not len(self.values) or not members.any() or members.all():
            return None
        test = permutation_test(self.values, members, permutations=PERMUTATIONS, seed=seed)
        ranks = strength_ranks(test.auroc, standardised_effect(self.values, members))
        best = int(ranks.argmin())
        area, p_value = float(test.auroc[best]), float(test.familywise_p[best])
        # A statistic without an area is NaN, of which nothing is true.
        if not (p_value < SIGNIFICANCE and max(area, 1 - area) >= LEAST_AUROC):
            return None
        above = area > 0.5
        threshold = dividing_value(self.values[best], members, above=above)
        typical = float(np.nanmedian(self.values[best, ~members]))
        return Shared(self.bank.names[best], max(area, 1 - area), p_value, above, threshold, typical)

    def of_stimuli(self, shared: Shared, shown: "Sequence[Shown]") -> Float[np.ndarray, " stimulus"]:
        """Return how much stimuli have of what is shared."""
        place = self.bank.names.index(shared.name)
        return np.array([self.bank.measure(one.stimulus.sample, None)[place] for one in shown], dtype=np.float64)


def describe_real(
    context: "Context", data: "Data", form: SampleForm, materials: Sequence[StimulusMaterial]
) -> Described:
    """Return the statistics of all real samples; those of pictures that the study already has are taken from there."""
    bank = find_bank(form, materials)
    values = _stored(context, bank) if form.takes == "image" else None
    if values is None:
        found = []
        for position in range(len(data)):
            sample = data.read(position)
            found.append(bank.measure(form.decode(sample), None if form.weight is None else form.weight(sample)))
        values = np.array(found, dtype=np.float64).reshape(len(data), len(bank.names)).T
    return Described(bank, values)


def find_bank(form: SampleForm, materials: Sequence[StimulusMaterial]) -> Bank:
    """Return the statistics of a kind of samples.

    Of pictures those of every study; of sequences the share of each frequent token, and of those of dominant samples;
    of arrays the value of each feature; of many features evenly spaced ones, and mean and deviation of all.
    """
    if form.takes == "image":
        return _of_pictures(form.shape)
    return _of_tokens(materials) if form.takes == "tokens" else _of_arrays(int(np.prod(form.shape)))


def dividing_value(values: Float[np.ndarray, " sample"], members: Bool[np.ndarray, " sample"], *, above: bool) -> float:
    """Return the value between two samples that divides members from the rest best.

    The one of the largest share of members less share of others beyond it (Youden 1950,
    doi:10.1002/1097-0142(1950)3:1<32::aid-cncr2820030106>3.0.co;2-3); of equally good ones that in the widest gap.

    Args:
        values: Of at least two sizes among the finite ones.
        members: Which samples.
        above: Whether members have larger values.
    """
    known = np.isfinite(values)
    signed, chosen = (values if above else -values)[known], members[known]
    levels, places = np.unique(signed, return_inverse=True)
    counts = np.array([np.bincount(places[side], minlength=len(levels)) for side in (chosen, ~chosen)], dtype=float)
    beyond = counts[:, ::-1].cumsum(axis=1)[:, ::-1] / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    gain, gaps = np.round(beyond[0] - beyond[1], 12)[1:], np.diff(levels)
    best = int(np.lexsort((gaps, gain))[-1])
    middle = float(levels[best] + gaps[best] / 2)
    return middle if above else -middle


def _stored(context: "Context", bank: Bank) -> NDArray[np.float64] | None:
    """Return statistics (statistic, sample) of pictures as the study has them; None where it lacks any."""
    from outcrop.data.statistics import PICTURE_STATISTICS

    described = context.described()
    if described is None or any(one.name not in described for one in PICTURE_STATISTICS):
        return None
    found = np.array([described[one.name].values for one in PICTURE_STATISTICS], dtype=np.float64)
    return found if found.shape == (len(bank.names), context.sample_count) else None


def _of_pictures(shape: tuple[int, ...]) -> Bank:
    from PIL import Image

    from outcrop.data.images import thumbnail_of
    from outcrop.data.statistics import PICTURE_SIDE, PICTURE_STATISTICS, picture_statistics

    # As studies look at pictures: the centre square of so many pixels.
    side = min(PICTURE_SIDE, max(_SMALLEST_SIDE, min(shape[:2])))

    def measure(sample: NDArray[np.generic], _: NDArray[np.bool_] | None) -> Sequence[float]:
        return picture_statistics(thumbnail_of(Image.fromarray(np.ascontiguousarray(sample)), side))

    return Bank(tuple(one.long_name.removesuffix(", 0 to 1") for one in PICTURE_STATISTICS), measure)


def _of_tokens(materials: Sequence[StimulusMaterial]) -> Bank:
    frequent = materials[0].vocabulary[:MOST_VALUES]
    own = Counter(int(token) for one in materials for sample in one.dominant for token in sample.tolist())
    tokens = tuple(dict.fromkeys([*frequent, *(token for token, _ in own.most_common(MOST_VALUES))]))

    def measure(sample: NDArray[np.generic], weight: NDArray[np.bool_] | None) -> Sequence[float]:
        counted = np.asarray(sample if weight is None else sample[weight])
        values, counts = np.unique(counted, return_counts=True)
        shares = dict(zip(values.tolist(), (counts / max(len(counted), 1)).tolist(), strict=True))
        return [shares.get(token, 0.0) for token in tokens] + [len(values) / max(len(counted), 1)]

    return Bank((*(f"share of token {token}" for token in tokens), "share of tokens that are different"), measure)


def _of_arrays(size: int) -> Bank:
    features = np.unique(np.linspace(0, size - 1, min(size, MOST_VALUES)).round().astype(np.int64))
    # Where all features are looked at, what they make together says less than each.
    together = ("mean of the values", "deviation of the values") if size > MOST_VALUES else ()

    def measure(sample: NDArray[np.generic], _: NDArray[np.bool_] | None) -> Sequence[float]:
        flat = np.asarray(sample, dtype=np.float64).ravel()
        return [*flat[features].tolist(), *((float(flat.mean()), float(flat.std())) if together else ())]

    return Bank((*(f"feature {feature}" for feature in features), *together), measure)
