"""Dominant samples of all layers, from streamed values, beside what whole arrays give."""

import numpy as np
import pytest
from scipy.stats import rankdata, spearmanr

from outcrop.analysis.context import Context
from outcrop.analysis.references import Reference
from outcrop.analysis.run import make_parameters, run_analysis
from outcrop.capture.source import LiveSource
from outcrop.numerics import split_projections
from outcrop.testing import ArrayModel, IndexData, noise_layers, planted_block
from outcrop_components.analysis import ComponentsAnalysis
from outcrop_dominant.datasets import dominance_dataset, overlap_dataset
from outcrop_dominant.sets import DominanceMeasurement, known_projections, select_members

SAMPLES = 160


@pytest.fixture(scope="module")
def values():
    return {
        "net": {name: array + 2 for name, array in planted_block(samples=SAMPLES, layers=7, start=2, stop=6).items()},
        "other": {**noise_layers(samples=SAMPLES, layers=2), "still": np.full((SAMPLES, 5), 3.0, np.float32)},
    }


@pytest.fixture(scope="module")
def context(values):
    models = [ArrayModel(name, arrays) for name, arrays in values.items()]
    sources = [LiveSource(model, model.layers, IndexData(SAMPLES)) for model in models]
    earlier = run_analysis(
        ComponentsAnalysis, Context(sources, sample_count=SAMPLES), make_parameters(ComponentsAnalysis, {})
    )
    return Context(sources, sample_count=SAMPLES, results=lambda _, leaf: earlier[leaf])


@pytest.fixture(scope="module")
def dominance(context):
    return DominanceMeasurement(context, known_projections(context, top_fraction=0.05)).finish(batch_size=64)


def rows(values):
    return [
        (model, name, array.astype(np.float64)) for model, arrays in values.items() for name, array in arrays.items()
    ]


def test_splits_norms_and_cosines_are_those_of_whole_arrays(values, dominance):
    for row, (model, name, array) in enumerate(rows(values)):
        assert (dominance.layers[row][0], dominance.layers[row][1].name) == (model, name)
        np.testing.assert_allclose(dominance.norms[row], np.linalg.norm(array, axis=1), rtol=1e-6)
        if name == "still":
            continue
        centred = array - array.mean(axis=0)
        u, s, _ = np.linalg.svd(centred, full_matrices=False)
        split = split_projections(s[0] * u[:, 0])
        np.testing.assert_array_equal(dominance.splits[row].dominant, split.dominant)
        assert dominance.splits[row].rule == split.rule
        unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
        for members, found in ((split.dominant, dominance.cosine_inside), (~split.dominant, dominance.cosine_outside)):
            cosines = (unit[members] @ unit[members].T)[np.triu_indices(members.sum(), 1)]
            assert found[row] == pytest.approx(cosines.mean(), abs=1e-6)


def test_the_block_has_one_set_of_few_long_samples_that_point_one_way(context, dominance):
    found = dominance_dataset(context, dominance)
    inside = slice(2, 6)
    assert set(found["rule"].values[inside]) == {"mixture"}
    assert found["dominant_count"].values[inside].tolist() == [8] * 4
    assert (found["dominant"].values[2] == found["dominant"].values[inside]).all()
    assert found["dominant_norm_ratio"].values[inside].min() > 4
    assert found["cosine_inside"].values[inside].min() > 0.98
    assert set(found["rule"].values[[0, 1, 6, 7, 8]]) == {"top fraction"}
    assert found["dominant_norm_ratio"].values[[0, 1, 6, 7, 8]].max() < 1.5
    assert found["effective_samples"].values[inside].max() < 12


def test_numbers_of_a_layer_are_those_of_its_norms_and_projections(context, dominance):
    found = dominance_dataset(context, dominance)
    for row in range(9):
        norms, sizes = dominance.norms[row], np.abs(dominance.projections[row])
        assert found["norm_correlation"].values[row] == pytest.approx(spearmanr(norms, sizes).statistic)
        assert found["median_norm"].values[row] == np.median(norms)
        ratio = np.median(norms[found["dominant"].values[row]]) / np.median(norms)
        assert found["dominant_norm_ratio"].values[row] == ratio


def test_a_layer_that_tells_no_samples_apart_has_no_dominant_ones(context, dominance):
    found = dominance_dataset(context, dominance).isel(layer=-1)
    assert bool(found["degenerate"])
    assert (str(found["rule"].values), int(found["dominant_count"])) == ("none", 0)
    for name in ("threshold", "bic_gain", "effective_samples", "norm_correlation", "cosine_inside", "cosine_outside"):
        assert np.isnan(found[name])
    assert float(found["median_norm"]) == pytest.approx(3 * np.sqrt(5))


def test_sets_overlap_inside_the_block_and_by_chance_elsewhere(context, dominance):
    found = overlap_dataset(context, dominance, top_fraction=0.05)
    inside = np.ix_(range(2, 6), range(2, 6))
    for name in ("jaccard", "top_overlap"):
        assert (found[name].values[inside] == 1).all()
    assert (found["shared"].values[inside] == 8).all()
    assert found["p_value"].values[inside].max() < 1e-10
    across = np.ix_([0, 1, 6, 7, 8], range(2, 6))
    assert found["jaccard"].values[across].max() < 0.2
    assert found["p_value"].values[across].min() > 1e-3
    for name in ("jaccard", "p_value", "top_overlap"):
        assert np.isnan(found[name].values[-1]).all()


def test_samples_are_ranked_at_the_reference_layer(dominance):
    reference = Reference("net", ("layer2", "layer3"), "layer3", True, "", ("layer2", "layer3"))
    found = select_members([reference], dominance, pooled=False)
    np.testing.assert_array_equal(found.ranks[0], rankdata(-np.abs(dominance.projections[3])))
    np.testing.assert_array_equal(found.members[0], dominance.splits[3].dominant)


def test_pooled_ranks_are_means_over_the_interval_without_degenerate_layers(dominance):
    layers = ("layer1", "layer2", "layer3")
    reference = Reference("net", layers, "layer2", True, "", layers)
    found = select_members(
        [reference, Reference("other", ("layer0", "still"), "layer0", False, "")], dominance, pooled=True
    )
    expected = rankdata(-np.abs(dominance.projections[1:4]), axis=1).mean(axis=0)
    np.testing.assert_allclose(found.ranks[0], expected)
    assert found.members.sum(axis=1).tolist() == [8, 8]
    assert expected[found.members[0]].max() <= expected[~found.members[0]].min()
    np.testing.assert_array_equal(found.ranks[1], rankdata(-np.abs(dominance.projections[7])))


def test_members_are_placed_by_their_position_in_the_data(dominance):
    found = select_members([Reference("net", ("layer3",), "layer3", True, "")], dominance, pooled=False)
    placed = found.members_by_position(np.arange(SAMPLES) * 2 + 1, 2 * SAMPLES + 1)
    np.testing.assert_array_equal(placed[:, 1::2], found.members)
    assert not placed[:, ::2].any()
