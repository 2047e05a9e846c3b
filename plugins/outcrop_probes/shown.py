"""The stimuli of a run: what each family made, for which model, under names that are unique."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from outcrop.stimuli import Stimulus, StimulusFamily, StimulusMaterial
from outcrop_probes.samples import SampleForm
from outcrop_probes.stimuli.pictures import luma_of, to_picture

FOUND = "found"
"""Family of the stimuli that a search ended at."""


@dataclass(frozen=True)
class Shown:
    """A stimulus that is shown to all models.

    Attributes:
        stimulus: What is shown.
        family: Name of its family; ``found`` for what a search ended at.
        made_for: The model whose dominant and typical samples it was made of; empty where it is for all models.
        keeps_content: Whether it still shows a dominant sample.
        origin: Of what a search found: the family that was searched.
    """

    stimulus: Stimulus
    family: str
    made_for: str = ""
    keeps_content: bool = False
    origin: str = ""

    @property
    def name(self) -> str:
        """Return a name that is unique in the run."""
        whose = f" ({self.made_for})" if self.made_for else ""
        family = f"{self.family} {self.origin}".strip()
        return f"{family}: {self.stimulus.name}{whose}"

    def counts_for(self, model: str) -> bool:
        """Return whether the response of a model to it says something on what the model responds to."""
        return not self.keeps_content and self.made_for in ("", model)


def make_stimuli(
    families: Iterable[StimulusFamily], materials: Mapping[str, StimulusMaterial], form: SampleForm
) -> tuple[Shown, ...]:
    """Return what all families for a kind of samples make; those of each model's own samples once for every model.

    Args:
        families: Which ones.
        materials: By model.
        form: Of the samples.
    """
    shown: list[Shown] = []
    common = next(iter(materials.values()))
    for family in families:
        if family.takes != form.takes:
            continue
        made: Sequence[tuple[str, StimulusMaterial]] = list(materials.items()) if family.per_model else [("", common)]
        for model, material in made:
            found = family.stimuli(material)
            shown += [
                Shown(one, family.name, model, family.keeps_content) for one in (in_grey(found) if form.grey else found)
            ]
    return tuple(shown)


def in_grey(stimuli: Iterable[Stimulus]) -> Iterator[Stimulus]:
    """Yield pictures without their colour; not those that stand for a colour, nor what is then the same as another."""
    seen: set[bytes] = set()
    for one in stimuli:
        if one.colour is not None and np.ptp(one.colour) > 0:
            continue
        # Spread over memory, as of one colour it takes that of a pixel.
        picture = to_picture(luma_of(np.asarray(one.sample, dtype=np.float64)))
        if (mark := picture.tobytes()) not in seen:
            seen.add(mark)
            yield replace(one, sample=picture)
