"""Where models are judged: block, else similar layers, else any; and a layer of one's own choice."""

import numpy as np
import pytest

from outcrop import Layer
from outcrop.analysis.references import find_references, searched_layers
from outcrop.errors import AnalysisError
from outcrop.numerics import Interval
from outcrop.testing import noise_layers, planted_block, run_planted
from outcrop_blocks.analysis import BlocksAnalysis

SAMPLES = 200


def layer(name, index, kind="block", operation="Sequential"):
    return Layer(name=name, kind=kind, index=index, shape=(4,), dtype="float32", operation=operation, dims=("feature",))


def judged(layers, shares=None, reference="auto", **parameters):
    """Return the reference of one model, and the layers it has."""
    blocks = run_planted(BlocksAnalysis, {"net": layers}, parameters={"bootstrap": 0, **parameters})["blocks"]
    made = tuple(layer(name, index) for index, name in enumerate(layers))
    known = {("net", one.name): float(share) for one, share in zip(made, shares, strict=True)}
    return find_references({"net": made}, blocks, known, layer=reference)


def block(**options):
    return planted_block(samples=SAMPLES, **options)


def increasing(count):
    return np.linspace(0.1, 0.9, count)


def test_a_block_is_judged_at_its_layer_of_the_largest_share():
    shares = increasing(12)
    shares[6] = 0.8
    (found,) = judged(block(), shares)
    assert found.is_block
    assert found.layers == tuple(f"layer{index}" for index in range(4, 10))
    # Those of layers 10 and 11 are larger, and outside.
    assert found.layer == "layer6"
    assert found.interval == Interval(4, 10)
    assert found.evidence.startswith("block: layer4 to layer9, 6 layers, mean similarity 0.9")
    assert found.evidence.endswith("ranked at layer6, whose first principal component holds 0.800.")


def test_of_two_blocks_the_longer_one_is_taken():
    first, second = block(layers=6, start=1, stop=6), block(layers=8, start=1, stop=7, seed=1)
    layers = {f"layer{index}": values for index, values in enumerate([*first.values(), *second.values()])}
    (found,) = judged(layers, increasing(14)[::-1])
    assert found.layers == tuple(f"layer{index}" for index in range(7, 13))
    assert found.layer == "layer7"


def test_without_a_block_the_longest_similar_interval_is_taken_and_is_none():
    shared = np.random.default_rng(0).standard_normal((SAMPLES, 24)).astype(np.float32)
    noise = noise_layers(samples=SAMPLES, layers=6)
    # Many components that are shared, none of which dominates.
    similar = {f"layer{index}": shared + 0.05 * index for index in range(6, 11)}
    (found,) = judged({**noise, "layer5": noise["layer5"], **similar}, [0.9] * 6 + [0.1, 0.3, 0.2, 0.1, 0.1])
    assert not found.is_block
    assert found.layers == ("layer6", "layer7", "layer8", "layer9", "layer10")
    assert found.layer == "layer7"
    assert found.evidence.startswith("no block; similar layers that are no block: layer6 to layer10, 5 layers")


def test_without_similar_layers_the_layer_of_the_largest_share_stands_alone():
    (found,) = judged(noise_layers(samples=SAMPLES), [0.1, 0.2, 0.4, 0.3, np.nan])
    assert (found.layers, found.layer, found.is_block, found.interval) == (("layer2",), "layer2", False, None)
    assert found.evidence.startswith("no block; no interval of similar layers. Samples are ranked at layer2")


def test_a_model_whose_layers_are_all_degenerate_is_left_out():
    layers = {f"layer{index}": np.ones((SAMPLES, 4), np.float32) for index in range(5)}
    assert judged(layers, [np.nan] * 5) == ()


def test_a_named_layer_brings_the_interval_that_it_lies_in():
    (inside,) = judged(block(), increasing(12), "layer5")
    assert (inside.layer, inside.is_block, inside.interval) == ("layer5", True, Interval(4, 10))
    (outside,) = judged(block(), increasing(12), "layer1")
    assert (outside.layers, outside.layer, outside.is_block) == (("layer1",), "layer1", False)
    assert outside.evidence.startswith("no interval of similar layers")
    (globbed,) = judged(block(), increasing(12), "layer[1-6]")
    assert globbed.layer == "layer6"


def test_a_reference_that_matches_nothing_is_refused():
    with pytest.raises(
        AnalysisError, match=r"No selected layer of 'net' is named or matches 'layr5', the reference.*Did"
    ):
        judged(block(), increasing(12), "layr5")


def test_searched_layers_are_those_that_the_detector_takes():
    from outcrop_blocks.evaluation import searched_rows

    layers = [
        layer("conv", 0, "conv", "Conv2d"),
        layer("act", 1, "act", "ReLU"),
        layer("block", 2, "block", "ReLU"),
        layer("sum", 3, "block", "add"),
        layer("out", 4, "output", "Linear"),
    ]
    for kind in ("block", "act", "all"):
        rows = searched_rows(dict(enumerate(layers)), kind)[1]
        assert searched_layers(layers, kind) == [layers[row] for row in rows]
