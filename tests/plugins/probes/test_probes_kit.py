"""The ``probes`` analysis under the suite that every plugin can inherit.

Without what follows rounding in steps: typical samples, which lie so near each other, the points of a search, and
percentages of real samples in layers whose first component is no larger than the next.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from outcrop.data import ArrayData, Data, ImageArray
from outcrop.testing import AnalysisTests, planted_block
from outcrop_probes.analysis import ProbesAnalysis

# One layer for both models, so that a spoilt one does not move the reference, and the stimuli with it.
COMMON: Mapping[str, Any] = {"steps": 2, "search": False, "reference": "layer2"}


class TestProbes(AnalysisTests):
    analysis = ProbesAnalysis
    parameters: ClassVar[Mapping[str, Any]] = {**COMMON, "families": "solid,own_colour,patch_shuffled"}
    invariances = ("orthogonal",)

    def activations(self):
        return {name: planted_block(seed=seed, samples=80, layers=8, start=0, stop=8) for seed, name in enumerate("ab")}

    def data(self, samples: int) -> Data:
        return ImageArray(np.random.default_rng(5).integers(0, 256, (samples, 9, 8, 3), dtype=np.uint8))


class TestProbesOfArrays(TestProbes):
    parameters: ClassVar[Mapping[str, Any]] = {**COMMON, "families": "constant_array,array_noise,spike"}

    def data(self, samples: int) -> Data:
        return ArrayData(np.random.default_rng(5).standard_normal((samples, 20)).astype(np.float32))
