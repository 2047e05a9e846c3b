"""What is planted is found, where it is planted, and nothing else is: 20 of 20 seeds, fewer of what is easier.

Networks of one number of samples are streamed together, as so many models, which costs less than one by one; each
is searched on its own.
"""

import numpy as np
import pytest

from outcrop.testing import run_planted
from outcrop.testing.networks import WITHOUT_BLOCK, carriers_of, network_with_block
from outcrop_blocks.analysis import BlocksAnalysis

SEEDS = 20
BATCH = 64
PLAIN = ("independent layers", "all layers alike", "shared subspace")
"""Networks without a block that are far from one whatever the seed: a few seeds tell."""


def detect(networks, *, batch_size=BATCH):
    models = {f"net{index}": layers for index, layers in enumerate(networks)}
    return run_planted(BlocksAnalysis, models, parameters={"batch_size": batch_size, "bootstrap": 0})["blocks"]


def found_blocks(networks, **options):
    """Return first and last depth of what is called a block, of each network."""
    blocks = detect(networks, **options)
    names = ("block_model", "first_depth", "last_depth", "is_block")
    rows = list(zip(*(blocks[name].values.tolist() for name in names), strict=True))
    return [
        [(first, last) for owner, first, last, called in rows if called and owner == model]
        for model in blocks["model"].values.tolist()
    ]


def without(layers, samples):
    return {name: values[~samples] for name, values in layers.items()}


@pytest.mark.parametrize(("ground", "strength"), [("drift", 12), ("residual", 6), ("shared", 6)])
def test_a_block_planted_on_layers_that_are_similar_anyway_is_found_with_its_exact_interval(ground, strength):
    starts = [4 + seed % 2 for seed in range(SEEDS // 2)]
    networks = [
        network_with_block(seed, ground=ground, strength=strength, start=start, stop=start + 6)
        for seed, start in enumerate(starts)
    ]
    # Of 64 samples, some batches have no carrier and lose a component of the drift instead.
    assert found_blocks(networks, batch_size=128) == [[(start, start + 5)] for start in starts]


def test_a_planted_block_is_found_and_goes_with_the_samples_that_carry_it_and_with_no_others():
    starts = [1 + seed % 6 for seed in range(SEEDS)]
    expected = [[(start, start + 5)] for start in starts]
    networks, parts = [], []
    for seed, start in enumerate(starts):
        networks.append(network_with_block(seed, strength=6, start=start, stop=start + 6))
        carriers = carriers_of(seed)
        others = np.zeros_like(carriers)
        others[np.random.default_rng([seed, 2]).choice(len(carriers), carriers.sum(), replace=False)] = True
        parts += [without(networks[-1], carriers), without(networks[-1], others)]
    assert found_blocks(networks) == expected
    found = found_blocks(parts)
    assert found[::2] == [[]] * SEEDS
    assert found[1::2] == expected


def test_a_block_in_a_residual_stream_goes_with_the_samples_that_carry_it():
    networks = [
        without(network_with_block(seed, ground="residual", strength=6), carriers_of(seed))
        for seed in range(SEEDS // 4)
    ]
    assert found_blocks(networks) == [[]] * len(networks)


@pytest.mark.parametrize("name", WITHOUT_BLOCK)
def test_no_network_without_a_block_is_said_to_have_one(name):
    networks = [WITHOUT_BLOCK[name](seed) for seed in range(SEEDS // 4 if name in PLAIN else SEEDS)]
    assert found_blocks(networks) == [[]] * len(networks)


@pytest.mark.parametrize("ground", ["drift", "residual"])
def test_without_what_was_planted_the_same_layers_have_no_block(ground):
    networks = [network_with_block(seed, ground=ground, strength=0) for seed in range(SEEDS // 4)]
    assert found_blocks(networks) == [[]] * len(networks)


def test_where_all_layers_share_a_dominant_component_nothing_tells_a_block_from():
    blocks = detect([network_with_block(0, ground="drift", strength=12, start=0, stop=14)])
    assert blocks["verdict"].values.tolist() == ["similar layers, not a block"]
    assert blocks["supported"].values.tolist() == [True]
    assert np.isnan(blocks["contrast"].values).all()
    assert np.isnan(blocks["contrast_without_pc1"].values).all()
    assert not blocks["dissolved"].values.any()


def test_layers_of_a_drift_stay_similar_without_the_component_and_the_square_does_not_stay():
    blocks = detect([network_with_block(0, ground="drift", strength=12)])
    row = blocks.isel(block=int(np.flatnonzero(blocks["is_block"].values)[0]))
    assert row["removal_effect"].item() < 0.5 * row["score"].item()
    assert row["similarity_without_pc1"].item() > 0.85
    assert row["contrast_without_pc1"].item() < 0.5 * row["contrast"].item()


def test_in_a_collapsing_network_similarity_falls_without_the_component_and_the_square_stays():
    blocks = detect([WITHOUT_BLOCK["collapsing ReLU"](0)])
    row = blocks.isel(block=-1)
    assert row["supported"].item()
    assert row["similarity_without_pc1"].item() < row["similarity"].item() - 0.02
    assert row["contrast_without_pc1"].item() > 0.5 * row["contrast"].item()
