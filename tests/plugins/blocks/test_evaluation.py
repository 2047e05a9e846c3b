import numpy as np
import pytest
import torch

from outcrop.models.model import Layer
from outcrop.numerics import GramAccumulator
from outcrop_blocks.evaluation import evaluate, searched_rows


def layers(*kinds):
    return {
        row: Layer(f"l{row}", kind, row, (3,), "float32", operation, ("feature",))
        for row, (kind, operation) in enumerate(kinds)
    }


def test_block_outputs_are_searched_where_there_are_four():
    found = layers(*[("conv", "Conv2d"), ("block", "add")] * 4, *[("act", "ReLU")] * 9)
    assert searched_rows(found, "auto") == ("block", [1, 3, 5, 7])


def test_values_after_activations_are_searched_where_block_outputs_are_few():
    found = layers(
        ("act", "ReLU"), ("conv", "Conv2d"), ("act", "GELU"), ("block", "relu"), ("block", "add"), ("act", "Relu")
    )
    assert searched_rows(found, "auto") == ("act", [0, 2, 3, 5])


def test_all_layers_are_searched_where_both_are_few():
    found = layers(("conv", "Conv2d"), ("act", "ReLU"), ("linear", "Linear"))
    assert searched_rows(found, "auto") == ("all", [0, 1, 2])


@pytest.mark.parametrize(("kind", "rows"), [("block", [2]), ("act", [1]), ("all", [0, 1, 2])])
def test_a_named_kind_is_searched_however_few_there_are(kind, rows):
    assert searched_rows(layers(("conv", "Conv2d"), ("act", "ReLU"), ("block", "add")), kind) == (kind, rows)


def test_statistics_without_principal_components_are_refused():
    accumulator = GramAccumulator(group_size=8, principal_component=False)
    accumulator.update("m", layers(("act", "ReLU"))[0], np.arange(8), torch.randn(8, 3))
    accumulator.end_batch()
    with pytest.raises(ValueError, match="principal_component=True"):
        evaluate(accumulator.finish(), detect_on="auto", replicates=0, confidence=0.95, rng=np.random.default_rng(0))
