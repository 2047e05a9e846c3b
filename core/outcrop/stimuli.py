"""Synthetic samples that networks are probed with: what a stimulus is, and what families of them are made of.

A plugin offers families by the hook ``outcrop_stimuli``:

    def checkerboard(material):
        y, x = np.indices(material.shape[:2])
        board = 255 * ((y // 4 + x // 4) % 2)
        return [Stimulus("checkerboard of 4 pixels", np.repeat(board[:, :, None], 3, axis=2).astype(np.uint8))]

    @hookimpl
    def outcrop_stimuli():
        return [StimulusFamily("checkerboard", "squares of black and white", takes="image", make=checkerboard)]
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from outcrop.errors import ParameterError

SampleKind = Literal["image", "tokens", "array"]
"""What a sample is: a picture, a sequence of token ids, or an array of real numbers of any shape."""

LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Levels at which a family of one parameter is shown where it does not say at which."""


@dataclass(frozen=True)
class Stimulus:
    """One synthetic sample.

    Attributes:
        name: For people, unique within its family: ``solid 0.00 0.50 1.00``.
        sample: uint8 (y, x, channel) with three channels for images of any size, integers (token), or real numbers in
            the shape of the data's samples.
        colour: Red, green and blue from 0 to 1, where the stimulus stands for a colour.
        level: Where it stands in its family, from 0 to 1, where the family has one parameter.
    """

    name: str
    sample: NDArray[Any]
    colour: tuple[float, float, float] | None = None
    level: float | None = None


@dataclass(frozen=True)
class StimulusMaterial:
    """What stimuli may be made of: what the data looks like, and which of its samples dominate a model.

    Images are uint8 (y, x, channel) with three channels, each of its own size, large ones made smaller.

    Attributes:
        takes: What the samples are.
        shape: Of a stimulus: (y, x, 3), (token,), or that of the data's samples.
        dominant: Samples of the largest projection on the first principal component of a model's reference layer, the
            most dominant first.
        typical: Samples whose projections lie in the middle.
        mean: Mean of real samples, in the shape of a stimulus; images from 0 to 255.
        deviation: Standard deviation of every value among real samples; of the shape of the mean.
        vocabulary: Tokens that occur in the data, most frequent first; empty where samples are no tokens.
        steps: How many values a family should take of what it varies.
        seed: Of the run.
    """

    takes: SampleKind
    shape: tuple[int, ...]
    dominant: tuple[NDArray[Any], ...]
    typical: tuple[NDArray[Any], ...]
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    vocabulary: tuple[int, ...] = ()
    steps: int = 6
    seed: int = 0

    def rng(self, name: str) -> np.random.Generator:
        """Return a generator for one family: the same for the same name and seed, whatever other families draw."""
        return np.random.default_rng([self.seed, zlib.crc32(name.encode())])


Make = Callable[[StimulusMaterial], Sequence[Stimulus]]
MakeAt = Callable[[StimulusMaterial, float], Sequence[Stimulus]]


@dataclass(frozen=True)
class StimulusFamily:
    """A kind of stimuli, and how they are made.

    Attributes:
        name: Unique over all plugins: ``solid``.
        summary: One line.
        takes: What the samples of the data must be.
        make: Returns the stimuli; may be left out where ``at`` is given.
        at: For a family of one parameter: returns the stimuli of one level, from 0 to 1. A search looks for the level
            that excites a network most, by the median over these stimuli.
        per_model: Whether stimuli depend on dominant or typical samples, which every model has of its own; they are
            then made for every model.
        keeps_content: Whether stimuli still show a dominant sample, so that their response proves nothing of what the
            network responds to in it; such stimuli are measured and take no part in the verdict.
        version: Raised whenever the stimuli change; part of a result's identity.

    Raises:
        ParameterError: It takes what no sample is, or has neither ``make`` nor ``at``.
    """

    name: str
    summary: str
    takes: SampleKind
    make: Make | None = None
    at: MakeAt | None = None
    per_model: bool = False
    keeps_content: bool = False
    version: str = "1.0"

    def __post_init__(self) -> None:
        if self.takes not in get_args(SampleKind):
            raise ParameterError(
                f"Stimulus family {self.name!r} takes {self.takes!r}; expected one of "
                f"{', '.join(map(repr, get_args(SampleKind)))}."
            )
        if self.make is None and self.at is None:
            raise ParameterError(f"Stimulus family {self.name!r} makes nothing; give it 'make' or 'at'.")

    @property
    def identity(self) -> str:
        """Return name and version, ``solid@1.0``."""
        return f"{self.name}@{self.version}"

    def stimuli(self, material: StimulusMaterial) -> tuple[Stimulus, ...]:
        """Return the stimuli of the family; those of a family that has only ``at``, at five levels.

        Raises:
            ParameterError: What was made is not a list of stimuli with different names and values that samples have.
        """
        if self.make is not None:
            return self._checked(self.make(material), material)
        # Levels that make the same, as of a size in whole pixels, are shown once.
        made = {one.name: one for level in LEVELS for one in self.stimuli_at(material, level)}
        return tuple(made.values())

    def stimuli_at(self, material: StimulusMaterial, level: float) -> tuple[Stimulus, ...]:
        """Return the stimuli of one level of a family that has ``at``.

        Raises:
            ParameterError: The family has no levels, or what was made is not a list of stimuli.
        """
        return self._checked(self._at(material, level), material)

    def _at(self, material: StimulusMaterial, level: float) -> Sequence[Stimulus]:
        if self.at is None:
            raise ParameterError(f"Stimulus family {self.name!r} has no levels; give it 'at'.")
        return self.at(material, level)

    def _checked(self, made: object, material: StimulusMaterial) -> tuple[Stimulus, ...]:
        if not isinstance(made, Sequence) or not all(isinstance(one, Stimulus) for one in made):
            raise ParameterError(
                f"Stimulus family {self.name!r} made {type(made).__name__}; expected a list of outcrop.Stimulus."
            )
        found: Mapping[str, Stimulus] = {one.name: one for one in made}
        if len(found) < len(made):
            raise ParameterError(f"Stimulus family {self.name!r} made {len(made)} stimuli of {len(found)} names.")
        for one in made:
            fault = _fault(one.sample, material)
            if fault:
                raise ParameterError(f"Stimulus {one.name!r} of family {self.name!r} {fault}.")
        return tuple(made)


def _fault(sample: NDArray[Any], material: StimulusMaterial) -> str:
    """Return what is wrong with the sample of a stimulus, or an empty string."""
    found = f"is {sample.dtype} of shape {sample.shape}"
    if material.takes == "image":
        fits = sample.dtype == np.uint8 and sample.ndim == 3 and sample.shape[2] == 3 and sample.size > 0
        return "" if fits else f"{found}; expected uint8 (y, x, 3)"
    if material.takes == "tokens":
        fits = sample.dtype.kind in "iu" and sample.shape == material.shape
        return "" if fits else f"{found}; expected whole numbers of shape {material.shape}"
    fits = sample.dtype.kind == "f" and sample.shape == material.shape
    return "" if fits else f"{found}; expected floats of shape {material.shape}"
