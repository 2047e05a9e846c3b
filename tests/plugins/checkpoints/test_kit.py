"""The ``checkpoints`` analysis under the suite that every plugin can inherit."""

from collections.abc import Mapping
from typing import Any, ClassVar

from outcrop.testing import AnalysisTests, noise_layers, planted_block
from outcrop.testing.planted import Layers
from outcrop_checkpoints.analysis import CheckpointsAnalysis


class TestCheckpoints(AnalysisTests):
    analysis = CheckpointsAnalysis
    parameters: ClassVar[Mapping[str, Any]] = {"batch_size": 32}
    invariances = ("orthogonal", "scaling", "shift")

    def activations(self) -> dict[str, Layers]:
        """Return a network at three steps: a block appears."""
        early = noise_layers(layers=8, samples=128)
        widths = {name: values.shape[1] for name, values in early.items()}
        late = planted_block(layers=8, start=2, stop=6, features=40)
        cut = {name: values[:, : widths[name]] for name, values in late.items()}
        middle = {name: (0.7 * early[name] + 0.3 * cut[name]).astype("float32") for name in early}
        return {"net@0": early, "net@10": middle, "net@200": cut}
