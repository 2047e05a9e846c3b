"""The families of stimuli that come with outcrop; other plugins add theirs by the hook ``outcrop_stimuli``."""

from outcrop_probes.stimuli.arrays import ARRAYS
from outcrop_probes.stimuli.changes import CHANGES
from outcrop_probes.stimuli.colours import COLOURS
from outcrop_probes.stimuli.images import IMAGES
from outcrop_probes.stimuli.patterns import PATTERNS
from outcrop_probes.stimuli.tokens import TOKENS

FAMILIES = (*COLOURS, *PATTERNS, *CHANGES, *IMAGES, *TOKENS, *ARRAYS)
"""All of them."""

__all__ = ["FAMILIES"]
