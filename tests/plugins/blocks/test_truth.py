"""What is planted is found, where it is planted, and nothing else is: 20 of 20 seeds each."""

import numpy as np
import pytest

from outcrop.testing import run_planted
from outcrop.testing.networks import WITHOUT_BLOCK, carriers_of, network_with_block
from outcrop_blocks.analysis import BlocksAnalysis

SEEDS = 20
BATCH = 64


def detect(layers, batch_size=BATCH):
    parameters = {"batch_size": batch_size, "bootstrap": 0}
    return run_planted(BlocksAnalysis, {"net": layers}, parameters=parameters)["blocks"]


def found_blocks(layers, **options):
    """Return first and last depth of what is called a block."""
    blocks = detect(layers, **options)
    called = blocks["is_block"].values
    return list(zip(blocks["first_depth"].values[called], blocks["last_depth"].values[called], strict=True))


def without(layers, samples):
    return {name: values[~samples] for name, values in layers.items()}


@pytest.mark.parametrize(("ground", "strength"), [("drift", 12), ("residual", 6), ("shared", 6)])
def test_a_block_planted_on_layers_that_are_similar_anyway_is_found_with_its_exact_interval(ground, strength):
    for seed in range(SEEDS):
        start = 4 + seed % 2
        layers = network_with_block(seed, ground=ground, strength=strength, start=start, stop=start + 6)
        # Of 64 samples, some batches have no carrier and lose a component of the drift instead.
        assert found_blocks(layers, batch_size=128) == [(start, start + 5)], seed


def test_a_planted_block_is_found_and_goes_with_the_samples_that_carry_it_and_with_no_others():
    for seed in range(SEEDS):
        start = 1 + seed % 6
        layers = network_with_block(seed, strength=6, start=start, stop=start + 6)
        carriers = carriers_of(seed)
        others = np.zeros_like(carriers)
        others[np.random.default_rng([seed, 2]).choice(len(carriers), carriers.sum(), replace=False)] = True
        assert found_blocks(layers) == [(start, start + 5)], seed
        assert found_blocks(without(layers, carriers)) == [], seed
        assert found_blocks(without(layers, others)) == [(start, start + 5)], seed


def test_a_block_in_a_residual_stream_goes_with_the_samples_that_carry_it():
    for seed in range(SEEDS // 4):
        layers = network_with_block(seed, ground="residual", strength=6)
        assert found_blocks(without(layers, carriers_of(seed))) == [], seed


@pytest.mark.parametrize("name", WITHOUT_BLOCK)
def test_no_network_without_a_block_is_said_to_have_one(name):
    for seed in range(SEEDS):
        assert found_blocks(WITHOUT_BLOCK[name](seed)) == [], seed


@pytest.mark.parametrize("ground", ["drift", "residual"])
def test_without_what_was_planted_the_same_layers_have_no_block(ground):
    for seed in range(SEEDS // 4):
        assert found_blocks(network_with_block(seed, ground=ground, strength=0)) == [], seed


def test_where_all_layers_share_a_dominant_component_nothing_tells_a_block_from():
    blocks = detect(network_with_block(0, ground="drift", strength=12, start=0, stop=14))
    assert blocks["verdict"].values.tolist() == ["similar layers, not a block"]
    assert blocks["supported"].values.tolist() == [True]
    assert np.isnan(blocks["contrast"].values).all()
    assert np.isnan(blocks["contrast_without_pc1"].values).all()
    assert not blocks["dissolved"].values.any()


def test_layers_of_a_drift_stay_similar_without_the_component_and_the_square_does_not_stay():
    blocks = detect(network_with_block(0, ground="drift", strength=12))
    row = blocks.isel(block=int(np.flatnonzero(blocks["is_block"].values)[0]))
    assert row["removal_effect"].item() < 0.5 * row["score"].item()
    assert row["similarity_without_pc1"].item() > 0.85
    assert row["contrast_without_pc1"].item() < 0.5 * row["contrast"].item()


def test_in_a_collapsing_network_similarity_falls_without_the_component_and_the_square_stays():
    blocks = detect(WITHOUT_BLOCK["collapsing ReLU"](0))
    row = blocks.isel(block=-1)
    assert row["supported"].item()
    assert row["similarity_without_pc1"].item() < row["similarity"].item() - 0.02
    assert row["contrast_without_pc1"].item() > 0.5 * row["contrast"].item()
