import json

import numpy as np
import pytest

from outcrop.errors import AnalysisError, ParameterError
from outcrop.numerics import DEFAULT_THRESHOLDS, cka
from outcrop.testing import AnalysisTests, noise_layers, run_planted
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


def smooth_drift(seed):
    """Neighbouring layers have a CKA near 0.97; distant ones are unrelated."""
    rng = np.random.default_rng(seed)
    spectrum = np.arange(1, 65) ** -0.5
    values = rng.standard_normal((SAMPLES, 64)) * spectrum
    layers = {}
    for index in range(LAYERS):
        layers[f"layer{index}"] = values.astype(np.float32)
        values = np.sqrt(0.975) * values + np.sqrt(0.025) * rng.standard_normal((SAMPLES, 64)) * spectrum
    return layers


def residual_checkerboard(seed):
    """Branches and sums of an untrained residual network in turn: sums resemble sums, branches nothing."""
    rng = np.random.default_rng(seed)
    stream = rng.standard_normal((SAMPLES, 64))
    layers = {}
    for index in range(LAYERS // 2):
        hidden = np.maximum(stream @ rng.standard_normal((64, 64)) / 8, 0)
        branch = 0.3 * hidden @ rng.standard_normal((64, 64)) / 8
        stream = stream + branch
        layers[f"branch{index}"], layers[f"sum{index}"] = branch.astype(np.float32), stream.astype(np.float32)
    return layers


def large_mean_relu(seed):
    """Normalised, shifted far into the range that a ReLU passes, rotated on: means of five deviations each."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((SAMPLES, 64))
    layers = {}
    for index in range(LAYERS):
        values = values @ np.linalg.qr(rng.standard_normal((64, 64))).Q
        values = np.maximum((values - values.mean(0)) / values.std(0) + 5, 0)
        layers[f"relu{index}"] = values.astype(np.float32)
    return layers


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


@pytest.mark.parametrize("network", [smooth_drift, residual_checkerboard, large_mean_relu])
@pytest.mark.parametrize("seed", range(3))
def test_networks_without_a_block_report_none(network, seed):
    blocks = run(network(seed))["blocks"]
    assert not blocks["is_block"].values.any()
    assert blocks["verdict"].values[0] != "block"


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
def test_a_residual_that_stays_similar_is_seen_beside_any_spike(spike):
    result = run(spike_on_a_shared_residual(spike))
    (dissolved,), (effect,) = (result["blocks"][name].values for name in ("dissolved", "removal_effect"))
    assert verdict(result) == "similar layers, not a block"
    assert result["blocks"]["supported"].values.all()
    assert not dissolved
    assert effect == 0
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
    many = run(layers, batch_size=32, bootstrap=100)["blocks"]
    for name in ("score", "similarity", "contrast"):
        low, value, high = (many[name + end].values[0] for end in ("_low", "", "_high"))
        assert low <= value <= high
        assert high - low < 0.3
    assert np.isnan(run(layers, batch_size=32, bootstrap=0)["blocks"]["score_low"].values).all()


def test_a_wider_confidence_gives_a_wider_interval():
    layers, _ = planted(0)
    widths = []
    for confidence in (0.5, 0.99):
        blocks = run(layers, batch_size=32, bootstrap=200, confidence=confidence)["blocks"]
        widths.append(float(blocks["similarity_high"].values[0] - blocks["similarity_low"].values[0]))
    assert widths[0] < widths[1]
