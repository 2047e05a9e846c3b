import numpy as np
import pytest

from outcrop.errors import AnalysisError
from outcrop.numerics import sample_influence
from outcrop.testing import noise_layers, run_planted
from outcrop.testing.networks import carriers_of, network_with_block
from outcrop_blocks.analysis import BlocksAnalysis


def run(models, **parameters):
    given = {"batch_size": 128, "bootstrap": 0, "influence": True, **parameters}
    return run_planted(BlocksAnalysis, models, parameters=given)


def test_the_samples_that_carry_a_planted_block_have_the_largest_influence():
    result = run({"net": network_with_block(0, strength=6)})
    influence, blocks = result["influence"], result["blocks"]
    carriers = set(np.flatnonzero(carriers_of(0)))
    assert set(np.argsort(-influence["share"].values[0])[: len(carriers)]) == carriers
    assert {influence[name].attrs["scope"] for name in ("share", "change")} == {"batch"}
    assert influence["share"].values[0][carriers_of(0)].sum() > 0.8
    assert influence["effective_samples"].values[0] < 2 * len(carriers)
    assert influence["similarity"].values[0] == pytest.approx(blocks["similarity"].values[0], abs=1e-6)
    for name in ("block_model", "first_layer", "last_layer", "first_depth", "last_depth", "is_block"):
        assert influence[name].values.tolist() == blocks[name].values.tolist()


def test_with_all_samples_in_one_batch_it_is_that_of_arrays():
    layers = network_with_block(1, strength=6)
    found = run({"net": layers}, batch_size=512)["influence"]
    expected = sample_influence(*[layers[f"layer{index}"] for index in range(4, 10)])
    np.testing.assert_allclose(found["share"].values[0], expected.share, atol=1e-6)
    np.testing.assert_allclose(found["change"].values[0], expected.change, atol=1e-7)
    carriers = set(np.flatnonzero(carriers_of(1)))
    assert set(np.argsort(-found["change"].values[0])[: len(carriers)]) == carriers


def test_intervals_of_several_models_are_measured_and_models_without_one_are_not_run_again():
    models = {
        "noise": {name: values[:, :16] for name, values in network_with_block(3, strength=0).items()},
        "first": network_with_block(0, strength=6),
        "second": network_with_block(1, strength=6),
    }
    influence = run(models)["influence"]
    assert influence["block_model"].values.tolist() == ["first", "second"]
    assert influence["measured_layers"].values.tolist() == [6, 6]
    for row in range(2):
        assert influence["share"].values[row][carriers_of(row)].sum() > 0.8


def test_without_an_interval_no_sample_carries_one():
    result = run({"net": noise_layers(samples=131)})
    assert dict(result["influence"].sizes) == {"block": 0, "sample": 131}
    assert result["blocks"].sizes["block"] == 0


def test_it_is_measured_only_where_it_is_asked_for():
    assert "influence" not in run({"net": noise_layers(samples=64)}, influence=False)


@pytest.mark.parametrize("kernel", ["rbf", "cosine"])
def test_it_is_that_of_the_kernel_of_the_map(kernel):
    layers = {name: values + 1 for name, values in network_with_block(2, ground="shared", strength=3).items()}
    result = run({"net": layers}, kernel=kernel, bandwidth=1.0)
    assert result["influence"].attrs["measure"] == f"minibatch unbiased {kernel} CKA"
    np.testing.assert_allclose(
        result["influence"]["similarity"].values, result["blocks"]["similarity"].values, atol=1e-6
    )


def test_with_the_input_taken_out_it_is_refused():
    with pytest.raises(AnalysisError, match="influence of a sample is not known for CKA with remove_input"):
        run({"net": noise_layers(samples=64)}, remove_input=True)
