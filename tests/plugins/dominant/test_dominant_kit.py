"""The ``dominant`` analysis under the suite that every plugin can inherit."""

from collections.abc import Mapping
from typing import Any, ClassVar

from outcrop.testing import AnalysisTests, noise_layers, planted_block
from outcrop_dominant.analysis import DominantAnalysis


class TestDominant(AnalysisTests):
    analysis = DominantAnalysis
    # A named layer, as the one that is chosen by itself would be another once a layer is spoilt.
    parameters: ClassVar[Mapping[str, Any]] = {
        "reference": "layer3",
        "batch_size": 32,
        "fractions": (0, 0.1),
        "random_replicates": 2,
    }
    # Norms grow with the features and their mean, and lie along the samples.
    invariances = ("orthogonal",)
    # The logarithm of the smallest projections multiplies what iteration leaves of them.
    tolerance = 1e-3

    def activations(self):
        """Return a model with a block and one without."""
        return {"planted": planted_block(layers=9, start=3, stop=8, samples=96), "noise": noise_layers(samples=96)}
