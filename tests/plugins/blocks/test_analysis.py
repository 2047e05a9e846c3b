import json

import numpy as np
import pytest

from outcrop.errors import AnalysisError, ParameterError
from outcrop.numerics import DEFAULT_THRESHOLDS, cka
from outcrop.testing import AnalysisTests, noise_layers, run_planted
from outcrop.testing.networks import shared_subspace, smooth_drift
from outcrop_blocks.analysis import BlocksAnalysis

SAMPLES, LAYERS, FEATURES = 512, 14, 48


class TestSuite(AnalysisTests):
    analysis = BlocksAnalysis
    # 128 samples in batches of 16: another order makes other batches, so the order of samples is not declared.
    parameters = {"batch_size": 16, "bootstrap": 50}  # noqa: RUF012 - the suite reads it only
    invariances = ("orthogonal", "scaling", "shift")


def run(activations, **parameters):
    return run_planted(BlocksAnalysis, {"model": activations}, parameters={"batch_size": 128, **parameters})


def verdict(result):
    return str(result["blocks"]["verdict"].values[0])


def planted(seed, *, start=4, stop=10, strength=40.0):
    """Return layers s d v' + noise of which some share the indicator d of 5 % of the samples, and d."""
    rng = np.random.default_rng(seed)
    carriers = np.zeros(SAMPLES, dtype=bool)
    carriers[rng.choice(SAMPLES, round(0.05 * SAMPLES), replace=False)] = True
    layers = {}
    for index in range(LAYERS):
        values = rng.standard_normal((SAMPLES, FEATURES))
        if start <= index < stop:
            direction = rng.standard_normal(FEATURES)
            values += strength * np.outer(carriers, direction / np.linalg.norm(direction))
        layers[f"layer{index}"] = values.astype(np.float32)
    return layers, carriers


@pytest.mark.parametrize("seed", range(5))
def test_a_planted_block_is_found_with_its_exact_interval(seed):
    start, stop = 2 + seed, 9 + seed
    layers, _ = planted(seed, start=start, stop=stop)
    blocks = run(layers)["blocks"]
    assert blocks["verdict"].values.tolist() == ["block"]
    assert blocks["first_layer"].values.tolist() == [f"layer{start}"]
    assert blocks["last_layer"].values.tolist() == [f"layer{stop - 1}"]
    assert blocks["layer_count"].values.tolist() == [7]
    assert blocks["score"].values[0] == 0.5
    assert blocks["is_block"].values.all()


@pytest.mark.parametrize("seed", range(3))
def test_dropping_the_samples_that_carry_a_block_removes_it_and_dropping_others_does_not(seed):
    layers, carriers = planted(seed)
    norms = np.linalg.norm(layers["layer5"], axis=1)
    largest = norms >= np.sort(norms)[-carriers.sum()]
    others = np.zeros(SAMPLES, dtype=bool)
    others[np.random.default_rng(100 + seed).choice(SAMPLES, carriers.sum(), replace=False)] = True
    assert verdict(run({name: values[~largest] for name, values in layers.items()})) == "no block"
    kept = run({name: values[~others] for name, values in layers.items()})["blocks"]
    assert kept["verdict"].values.tolist() == ["block"]
    assert (kept["first_depth"].values.tolist(), kept["last_depth"].values.tolist()) == ([4], [9])


def test_blocks_that_other_samples_carry_are_dissimilar_across_models():
    first, _ = planted(0)
    second, _ = planted(1)
    result = run_planted(BlocksAnalysis, {"first": first, "second": second}, parameters={"batch_size": 128})
    pairs = result["pairwise"]["similarity"].values
    assert result["blocks"]["verdict"].values.tolist() == ["block", "block"]
    assert pairs[4:10, 4:10].min() > 0.9
    assert abs(pairs[4:10, LAYERS + 4 : LAYERS + 10]).max() < 0.3


def test_smooth_similarity_is_told_from_a_block():
    assert verdict(run(smooth_drift(0))) == "similar layers, not a block"


def test_similarity_of_single_precision_layers_is_that_of_arrays():
    layers, _ = planted(0)
    result = run(layers, batch_size=SAMPLES)
    expected = cka(layers["layer4"], layers["layer12"])
    assert result["pairwise"]["similarity"].values[4, 12] == pytest.approx(expected, abs=1e-6)


def test_fewer_samples_than_a_batch_make_one_batch():
    result = run(noise_layers(samples=20))
    assert result["blocks"].attrs["batch_size"] == 20
    assert np.isnan(result["pairwise"]["standard_error"].values).all()


def test_samples_that_no_batch_takes_are_counted():
    result = run(noise_layers(samples=131))
    assert (result["pairwise"].attrs["sample_count"], result["pairwise"].attrs["skipped_samples"]) == (128, 3)


def test_fewer_than_four_samples_are_refused():
    with pytest.raises(AnalysisError, match=r"needs at least 4 samples.*; the data has 3"):
        run(noise_layers(samples=3))


def test_a_batch_of_fewer_than_four_samples_is_refused():
    with pytest.raises(ParameterError, match=r"batch_size.*greater than or equal to 4"):
        run(noise_layers(), batch_size=3)


def test_a_network_of_three_layers_is_too_small_to_judge():
    assert verdict(run(noise_layers(layers=3))) == "too few layers"


def test_results_say_how_they_were_made():
    layers, _ = planted(0)
    result = run(layers, passes=2)
    blocks = result["blocks"]
    assert {name: blocks.attrs[name] for name in ("sample_count", "batch_size", "passes")} == {
        "sample_count": SAMPLES,
        "batch_size": 128,
        "passes": 2,
    }
    assert json.loads(blocks.attrs["thresholds"])["similarity"] == DEFAULT_THRESHOLDS.similarity
    assert result["pairwise"]["similarity"].attrs["measure"] == "minibatch unbiased linear CKA"


def test_what_was_measured_within_batches_says_so():
    result = run(planted(0)[0])
    assert result["per_layer"]["pc_share"].attrs["scope"] == "batch"
    assert result["pairwise"]["similarity_without_pc1"].attrs["scope"] == "batch"
    assert {result[leaf].attrs["batch_size"] for leaf in result} == {128}
    assert result["blocks"].attrs["confidence"] == 0.95


def spike_on_a_shared_residual(spike, rank=6):
    """Layers of one shared residual of low rank, which eight of ten carry beside a common, far larger spike."""
    rng = np.random.default_rng(0)
    carriers = np.arange(SAMPLES) % 20 == 0
    residual = np.pad(rng.standard_normal((SAMPLES, rank)), ((0, 0), (0, FEATURES - rank)))
    layers = {}
    for index in range(10):
        turn = np.linalg.qr(rng.standard_normal((FEATURES, FEATURES))).Q
        values = 5 * residual @ turn + (spike * np.outer(carriers, turn[-1]) if index >= 2 else 0)
        layers[f"layer{index}"] = values.astype(np.float32)
    return layers


@pytest.mark.parametrize("spike", [300, 3e4, 2e5])
def test_a_residual_that_stays_similar_is_seen_beside_any_spike_and_does_not_hide_the_block(spike):
    result = run(spike_on_a_shared_residual(spike))
    found = {name: result["blocks"][name].values.item() for name in ("contrast", "contrast_without_pc1")}
    assert verdict(result) == "block"
    assert result["blocks"]["first_depth"].values.tolist() == [2]
    assert result["blocks"]["removal_effect"].values.item() == 0
    assert found["contrast"] > 0.9
    # The two layers outside lose the first of the residual's own six components, and none of the spike.
    assert 0 < found["contrast_without_pc1"] < 0.2
    assert result["blocks"]["similarity_without_pc1"].values.item() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(result["pairwise"]["similarity_without_pc1"].values[2:, 2:], 1, atol=1e-5)


def test_where_no_residual_is_left_dissolution_is_unknown_and_no_block_is_claimed():
    rng = np.random.default_rng(0)
    layers = spike_on_a_shared_residual(3e4)
    common = rng.standard_normal(SAMPLES)
    for index in range(2, 10):
        layers[f"layer{index}"] = np.outer(common, rng.standard_normal(FEATURES)).astype(np.float32)
    result = run(layers)
    assert verdict(result) == "similar layers, not a block"
    assert result["blocks"]["supported"].values.all()
    assert np.isnan(result["blocks"]["removal_effect"].values).all()


def test_intervals_hold_the_value_and_need_eight_groups():
    layers, _ = planted(0)
    few = run(layers)["blocks"]
    assert np.isnan(few["score_low"].values).all()
    assert np.isnan(few["removal_effect_low"].values).all()
    many = run(layers, batch_size=32, bootstrap=100)["blocks"]
    for name in ("score", "similarity", "contrast", "contrast_without_pc1", "pc_support", "removal_effect"):
        low, value, high = (many[name + end].values[0] for end in ("_low", "", "_high"))
        assert low <= value <= high
        assert high - low < 0.3
    assert np.isnan(run(layers, batch_size=32, bootstrap=0)["blocks"]["score_low"].values).all()


def test_the_interval_of_what_removal_leaves_tells_a_block_from_a_square_that_stays():
    block = run(planted(0)[0], batch_size=32, bootstrap=200)["blocks"]
    stays = run(shared_subspace(0), batch_size=32, bootstrap=200)["blocks"]
    assert block["contrast_without_pc1_high"].values[0] < 0.3 * block["contrast_low"].values[0]
    assert stays["contrast_without_pc1_low"].values[0] > 0.9 * stays["contrast_high"].values[0]
    assert stays["verdict"].values.tolist() == ["similar layers, not a block"]


def test_the_interval_of_what_is_not_known_is_not_known():
    rng = np.random.default_rng(0)
    layers = {f"layer{index}": rng.standard_normal((SAMPLES, 4)).astype(np.float32) for index in range(4)}
    common = rng.standard_normal(SAMPLES)
    for index in range(4, 10):
        layers[f"layer{index}"] = np.outer(common, rng.standard_normal(FEATURES)).astype(np.float32)
    blocks = run(layers, batch_size=32, bootstrap=50)["blocks"]
    assert blocks["first_depth"].values.tolist() == [4]
    assert np.isfinite(blocks["contrast_low"].values).all()
    for name in ("contrast_without_pc1", "removal_effect"):
        assert np.isnan([blocks[name + end].values[0] for end in ("", "_low", "_high")]).all()


@pytest.mark.parametrize("kernel", ["rbf", "cosine"])
def test_the_kernel_is_the_one_asked_for_and_named(kernel):
    layers, _ = planted(0)
    layers = {name: values + 1 for name, values in layers.items()}
    result = run(layers, batch_size=SAMPLES, kernel=kernel, bandwidth=0.8)
    expected = cka(layers["layer4"], layers["layer12"], kernel=kernel, bandwidth=0.8)
    assert result["pairwise"]["similarity"].values[4, 12] == pytest.approx(expected, abs=1e-6)
    assert result["pairwise"]["similarity"].attrs["measure"] == f"minibatch unbiased {kernel} CKA"
    assert result["blocks"].attrs["measure"] == f"minibatch unbiased {kernel} CKA"


def test_a_kernel_that_is_none_is_refused():
    with pytest.raises(ParameterError, match=r"'kernel' of 'blocks'.*'linear', 'rbf' or 'cosine', got 'rfb'"):
        run(noise_layers(), kernel="rfb")
    with pytest.raises(ParameterError, match=r"'bandwidth' of 'blocks'.*greater than 0, got 0"):
        run(noise_layers(), bandwidth=0)


def test_taking_the_input_out_needs_the_input():
    with pytest.raises(AnalysisError, match="input"):
        run(noise_layers(samples=64), remove_input=True)


def test_a_wider_confidence_gives_a_wider_interval():
    layers, _ = planted(0)
    widths = []
    for confidence in (0.5, 0.99):
        blocks = run(layers, batch_size=32, bootstrap=200, confidence=confidence)["blocks"]
        widths.append(float(blocks["similarity_high"].values[0] - blocks["similarity_low"].values[0]))
    assert widths[0] < widths[1]
