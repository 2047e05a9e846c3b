import numpy as np
import pytest
import torch

from outcrop.models.model import Layer
from outcrop.numerics import GramAccumulator
from outcrop.testing.networks import network_with_block
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


def test_the_interval_of_the_support_is_that_of_a_mean_over_batches():
    planted, size = network_with_block(0, strength=6), 32
    accumulator = GramAccumulator(group_size=size)
    shares = []
    for start in range(0, 512, size):
        batch = np.arange(start, start + size)
        for index, values in enumerate(planted.values()):
            layer = Layer(f"l{index}", "block", index, (64,), "float32", "add", ("feature",))
            accumulator.update("m", layer, batch, torch.from_numpy(values[batch]))
        accumulator.end_batch()
        inside = [values[batch].astype(np.float64) for values in list(planted.values())[4:10]]
        squares = [np.linalg.svd(one - one.mean(0), compute_uv=False) ** 2 for one in inside]
        shares.append(np.mean([square[0] / square.sum() for square in squares]))
    rng = np.random.default_rng(0)
    (found,) = evaluate(accumulator.finish(), detect_on="all", replicates=2000, confidence=0.95, rng=rng)
    assert [(one.interval.start, one.interval.stop) for one in found.evidence] == [(4, 10)]
    value, (low, high) = found.evidence[0].pc_support, found.bounds[0]["pc_support"]
    assert value == pytest.approx(np.mean(shares), abs=1e-6)
    half = 1.96 * np.std(shares) / np.sqrt(len(shares))
    assert (value - low, high - value) == pytest.approx((half, half), rel=0.15)
