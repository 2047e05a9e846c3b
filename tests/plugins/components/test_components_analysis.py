"""The ``components`` analysis on planted components, beside full decompositions and beside ``blocks``."""

import numpy as np
import pytest

from outcrop.errors import AnalysisError, ParameterError
from outcrop.numerics import cka
from outcrop.plugins import plugin_registry
from outcrop.testing import noise_layers, planted_block, run_planted
from outcrop_blocks.analysis import BlocksAnalysis
from outcrop_components.analysis import ComponentsAnalysis

SAMPLES = 400


def planted(**options):
    return planted_block(**{"samples": SAMPLES, "layers": 8, "start": 2, "stop": 6, **options})


def run(models, **parameters):
    return run_planted(ComponentsAnalysis, models, parameters={"batch_size": 100, **parameters})


def decompose(values):
    centred = values.astype(np.float64) - values.astype(np.float64).mean(axis=0)
    return np.linalg.svd(centred, full_matrices=False)


def test_it_is_offered_under_its_name():
    assert plugin_registry().analysis("components") is ComponentsAnalysis


def test_shares_and_projections_are_of_all_samples_and_not_of_batches():
    layers = planted()
    result = run({"net": layers})
    per_layer, projections = result["per_layer"], result["projections"]
    for row, values in enumerate(layers.values()):
        u, s, _ = decompose(values)
        shares = s**2 / (s**2).sum()
        np.testing.assert_allclose(per_layer["component_share"].values[row], shares[:8], atol=1e-6)
        assert per_layer["pc_share"].values[row] == per_layer["component_share"].values[row, 0]
        found = projections["projection"].values[row]
        np.testing.assert_allclose(found, np.sign(found @ u[:, 0]) * s[0] * u[:, 0], atol=1e-4)
        np.testing.assert_allclose(per_layer["effective_samples"].values[row], 1 / (u[:, 0] ** 4).sum(), rtol=1e-4)
    within = run_planted(BlocksAnalysis, {"net": layers}, parameters={"batch_size": 20, "bootstrap": 0})
    assert (within["per_layer"]["pc_share"].values > 1.3 * per_layer["pc_share"].values)[[0, 1, 6, 7]].all()


def test_samples_are_named_by_their_position_in_the_data():
    layers = planted()
    result = run({"net": layers})["projections"]
    assert result["sample"].values.tolist() == list(range(SAMPLES))
    lengths = np.linalg.norm(layers["layer3"], axis=1)
    farthest = np.argsort(-np.abs(result["projection"].values[3]))[:20]
    assert set(farthest) == set(np.argsort(-lengths)[:20])


def test_similarity_is_that_of_the_blocks_analysis():
    models = {"first": planted(), "second": noise_layers(samples=SAMPLES)}
    expected = run_planted(BlocksAnalysis, models, parameters={"batch_size": 100, "bootstrap": 0})["pairwise"]
    for map_without in (True, False):
        found = run(models, map_without=map_without)["pairwise"]
        for name in ("similarity", "standard_error"):
            np.testing.assert_allclose(found[name].values, expected[name].values, atol=1e-9)
        assert found["name_a"].values.tolist() == expected["name_a"].values.tolist()


def test_the_map_without_first_components_is_that_of_features_without_them():
    layers = planted()
    result = run({"net": layers}, batch_size=SAMPLES, tolerance=1e-7)["pairwise"]
    removed = []
    for values in layers.values():
        u, s, v = decompose(values)
        removed.append((u[:, 1:] * s[1:]) @ v[1:])
    expected = [[cka(a, b) for b in removed] for a in removed]
    np.testing.assert_allclose(result["similarity_without_pc1"].values, expected, atol=1e-6)


def test_alignment_is_told_across_models_too():
    first, second = planted(), planted(seed=1)
    alignment = run({"first": first, "again": first, "second": second})["pairwise"]["pc_alignment"].values
    assert alignment[2:6, 2:6].min() > 0.95
    np.testing.assert_allclose(alignment[2:6, 10:14], alignment[2:6, 2:6], atol=1e-6)
    assert alignment[2:6, 18:22].max() < 0.2


def test_without_the_second_map_there_is_none():
    result = run({"net": planted()}, map_without=False)
    assert "similarity_without_pc1" not in result["pairwise"]
    assert "pc_alignment" in result["pairwise"]


def test_results_say_how_they_were_made():
    result = run({"net": planted()}, count=3)
    for leaf in result.values():
        assert leaf.attrs["sample_count"] == SAMPLES
        assert leaf.attrs["passes"] == 3
        assert leaf.attrs["tolerance"] == 1e-4
    assert result["per_layer"]["component_share"].sizes == {"layer": 8, "component": 3}
    assert result["per_layer"]["pc_share"].attrs["scope"] == "all"
    assert result["pairwise"]["similarity_without_pc1"].attrs["scope"] == "all"
    assert result["pairwise"]["pc_alignment"].attrs["scope"] == "all"
    assert result["projections"]["projection"].attrs["scope"] == "all"
    assert (result["projections"]["residual"].values <= 1e-4).all()


def test_a_flat_spectrum_says_that_it_has_not_converged():
    layers = {"flat": np.random.default_rng(0).standard_normal((200, 900)).astype(np.float32)}
    result = run({"net": layers}, maximum_passes=2)
    assert result["projections"].attrs["passes"] == 2
    assert result["projections"]["residual"].values[0] > 0.05
    assert result["per_layer"]["unconverged"].values.tolist() == [True]
    constant = {**planted(), "layer9": np.ones((SAMPLES, 5), np.float32)}
    assert not run({"net": constant})["per_layer"]["unconverged"].values.any()


def test_more_components_than_vectors_by_default_can_be_asked_for():
    layers = planted()
    shares = run({"net": layers}, count=20)["per_layer"]["component_share"].values
    _, s, _ = decompose(layers["layer3"])
    np.testing.assert_allclose(shares[3], (s**2 / (s**2).sum())[:20], atol=1e-6)


def test_fewer_than_four_samples_are_refused():
    with pytest.raises(AnalysisError, match=r"'components' needs at least 4 samples.*; the data has 3"):
        run({"net": noise_layers(samples=3)})


def test_parameters_out_of_their_range_are_refused():
    with pytest.raises(ParameterError, match=r"maximum_passes.*greater than or equal to 2"):
        run({"net": noise_layers()}, maximum_passes=1)
