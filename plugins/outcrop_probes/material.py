"""What the stimuli of a model are made of: its dominant and typical samples, and what the data is like on average."""

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from outcrop.stimuli import StimulusMaterial
from outcrop_probes.samples import SampleForm, looked_at
from outcrop_probes.stimuli.pictures import fitted

if TYPE_CHECKING:
    from outcrop.data import Data

TYPICAL = 8
"""Typical samples that stimuli may be made of."""


def typical_samples(
    projections: NDArray[np.float64], dominant: NDArray[np.bool_], count: int = TYPICAL
) -> NDArray[np.int64]:
    """Return the positions of the samples whose projections (sample) are nearest to the median, nearest first.

    Dominant ones are none of them, however few samples there are, nor those without a projection.
    """
    distance = np.abs(projections - np.nanmedian(projections))
    known = np.isfinite(distance) & ~dominant
    return np.argsort(np.where(known, distance, np.inf), kind="stable")[: min(count, int(known.sum()))]


def dominant_samples(projections: NDArray[np.float64], fraction: float) -> NDArray[np.int64]:
    """Return the positions of the samples of the largest projections (sample) by size, the largest first.

    Of so many as the fraction says, those on the side of the largest: samples on the other side point the other way,
    and share something else.
    """
    ranked = np.argsort(np.where(np.isnan(projections), 0, -np.abs(projections)), kind="stable")
    chosen = ranked[: max(1, round(fraction * len(projections)))]
    same_side: NDArray[np.int64] = chosen[np.sign(projections[chosen]) == np.sign(projections[chosen[0]])]
    return same_side


class Materials:
    """Makes the material of one model after the other; what the data is like is found out once.

    Args:
        data: Real samples.
        form: How they become what families work with.
        steps: How many values families take of what they vary.
        seed: Of the run.
    """

    def __init__(self, data: "Data", form: SampleForm, *, steps: int, seed: int) -> None:
        self._data = data
        self._form = form
        self._steps, self._seed = steps, seed
        self._mean, self._deviation, self._vocabulary = self._describe()

    def of(self, dominant: NDArray[np.int64], typical: NDArray[np.int64]) -> StimulusMaterial:
        """Return the material of a model, given the positions of its dominant and typical samples."""
        return StimulusMaterial(
            takes=self._form.takes,
            shape=self._form.shape,
            dominant=self._read(dominant),
            typical=self._read(typical),
            mean=self._mean,
            deviation=self._deviation,
            vocabulary=self._vocabulary,
            steps=self._steps,
            seed=self._seed,
        )

    def _read(self, positions: NDArray[np.int64]) -> tuple[NDArray[Any], ...]:
        return tuple(self._form.decode(self._data.read(position)) for position in positions.tolist())

    def _describe(self) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[int, ...]]:
        """Return mean and deviation of values, and the tokens by frequency."""
        total, squares = np.zeros(self._form.shape), np.zeros(self._form.shape)
        counts = np.zeros(self._form.shape, dtype=np.int64)
        tokens: Counter[int] = Counter()
        for position in looked_at(self._data).tolist():
            sample = self._data.read(position)
            values = self._form.decode(sample)
            if self._form.takes == "tokens":
                shown = values if self._form.weight is None else values[self._form.weight(sample)]
                tokens.update(shown.tolist())
                continue
            if self._form.takes == "image":
                values = fitted(values, self._form.shape)
            known = np.isfinite(values)
            wide = np.where(known, values, 0).astype(np.float64)
            total += wide
            squares += wide**2
            counts += known
        mean = total / np.maximum(counts, 1)
        deviation = np.sqrt(np.maximum(squares / np.maximum(counts, 1) - mean**2, 0))
        # By number where two are as frequent, so that the order does not depend on that of the samples.
        ranked = sorted(tokens.items(), key=lambda item: (-item[1], item[0]))
        return mean, deviation, tuple(token for token, _ in ranked)
