"""The stimuli of a run: what each family made, for which model, under names that are unique."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from outcrop.stimuli import Stimulus, StimulusFamily, StimulusMaterial

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
    families: Iterable[StimulusFamily], materials: Mapping[str, StimulusMaterial], takes: str
) -> tuple[Shown, ...]:
    """Return what all families for a kind of samples make; those of each model's own samples once for every model.

    Args:
        families: Which ones.
        materials: By model.
        takes: What the samples are.
    """
    shown: list[Shown] = []
    common = next(iter(materials.values()))
    for family in families:
        if family.takes != takes:
            continue
        made: Sequence[tuple[str, StimulusMaterial]] = list(materials.items()) if family.per_model else [("", common)]
        for model, material in made:
            shown += [Shown(one, family.name, model, family.keeps_content) for one in family.stimuli(material)]
    return tuple(shown)
