"""Arrays of real numbers: constant ones, single features, and dominant samples made weaker or stronger."""

import numpy as np
from numpy.typing import NDArray

from outcrop.stimuli import Stimulus, StimulusFamily, StimulusMaterial

SPIKES = 16
DEVIATIONS = (-3.0, -1.0, 1.0, 3.0)


def constant(material: StimulusMaterial) -> list[Stimulus]:
    """Return zeros, the mean of the data, and the mean with all features so many deviations to one side."""
    made = [
        Stimulus("zeros", np.zeros(material.shape, dtype=np.float32)),
        Stimulus("mean sample", _floats(material.mean)),
    ]
    return made + [
        Stimulus(f"mean sample {count:+g} deviations", _floats(material.mean + count * material.deviation))
        for count in DEVIATIONS
    ]


def spikes(material: StimulusMaterial) -> list[Stimulus]:
    """Return the mean of the data with a single feature as the most dominant sample has it.

    These are the features in which that sample is farthest from the mean, in standard deviations.
    """
    if not material.dominant:
        return []
    dominant = np.asarray(material.dominant[0], dtype=np.float64).ravel()
    mean, deviation = material.mean.ravel(), material.deviation.ravel()
    distance = np.abs(dominant - mean) / np.where(deviation > 0, deviation, np.inf)
    made = []
    for feature in np.argsort(-np.nan_to_num(distance), kind="stable")[:SPIKES]:
        values = mean.copy()
        values[feature] = dominant[feature]
        made.append(Stimulus(f"feature {feature} of dominant sample 1", _floats(values.reshape(material.shape))))
    return made


def noise(material: StimulusMaterial) -> list[Stimulus]:
    """Return normal noise with the mean and the deviation of every feature."""
    rng = material.rng("array_noise")
    return [
        Stimulus(f"noise {number}", _floats(material.mean + material.deviation * rng.standard_normal(material.shape)))
        for number in range(1, 5)
    ]


def scaled_at(material: StimulusMaterial, level: float) -> list[Stimulus]:
    """Return dominant samples whose distance from the mean is multiplied by twice the level."""
    return [
        Stimulus(
            f"dominant sample {rank} at {2 * level:g} times its distance",
            _floats(material.mean + 2 * level * (np.asarray(sample, dtype=np.float64) - material.mean)),
            level=level,
        )
        for rank, sample in enumerate(material.dominant[:1], start=1)
    ]


def _floats(values: NDArray[np.float64]) -> NDArray[np.float32]:
    return values.astype(np.float32)


ARRAYS = (
    StimulusFamily("constant_array", "zeros, the mean, and shifts of it", takes="array", make=constant),
    StimulusFamily("array_noise", "noise of the data's mean and deviation", takes="array", make=noise),
    StimulusFamily(
        "spike", "one feature of a dominant sample in the mean", takes="array", make=spikes, per_model=True
    ),
    StimulusFamily(
        "scaled", "dominant samples made weaker or stronger", takes="array", at=scaled_at, per_model=True,
        keeps_content=True,
    ),
)  # fmt: skip
