"""The ``blocks`` analysis under the suite that every plugin can inherit, on a block of known place."""

from collections.abc import Mapping
from typing import Any, ClassVar

from outcrop.testing import AnalysisTests, noise_layers, planted_block, run_planted
from outcrop_blocks.analysis import BlocksAnalysis


class TestBlocks(AnalysisTests):
    analysis = BlocksAnalysis
    parameters: ClassVar[Mapping[str, Any]] = {"batch_size": 32}
    invariances = ("orthogonal", "scaling", "shift")


def test_a_planted_block_is_found_where_it_was_planted_and_none_in_noise() -> None:
    models = {"planted": planted_block(start=4, stop=10), "noise": noise_layers(layers=12, samples=128)}
    found = run_planted(BlocksAnalysis, models, parameters={"batch_size": 32})["blocks"]
    assert found["verdict"].values.tolist() == ["block", "no block"]
    assert found["block_model"].values.tolist() == ["planted"]
    assert (found["first_layer"].values.tolist(), found["last_layer"].values.tolist()) == (["layer4"], ["layer9"])
