"""The ``dominant`` analysis from end to end, on planted activations."""

from typing import ClassVar

import numpy as np
import pytest

from outcrop import Context
from outcrop.capture.source import LiveSource
from outcrop.errors import AnalysisError, ParameterError
from outcrop.plugins import plugin_registry
from outcrop.testing import ArrayModel, IndexData, noise_layers, planted_block, run_planted
from outcrop_dominant.analysis import DominantAnalysis
from outcrop_dominant.parameters import DominantParameters

SAMPLES = 200
FAST = {"batch_size": 50, "fractions": (0, 0.1), "random_replicates": 2}


def planted(**options):
    return planted_block(**{"samples": SAMPLES, "layers": 8, "start": 2, "stop": 7, **options})


def run(models, **parameters):
    return run_planted(DominantAnalysis, models, parameters={**FAST, **parameters})


@pytest.fixture(scope="module")
def seeds():
    """Return the result of two seeds of a network with a block, and of one without."""
    return run({"first": planted(), "second": planted(seed=1), "noise": noise_layers(samples=SAMPLES)})


def carriers(layers):
    lengths = np.linalg.norm(layers["layer4"], axis=1)
    return set(np.argsort(-lengths)[: SAMPLES // 20])


def test_it_is_offered_under_its_name():
    assert plugin_registry().analysis("dominant") is DominantAnalysis


def test_the_planted_samples_are_found_at_the_reference(seeds):
    found = seeds["references"]
    assert found["block_model"].values.tolist() == ["first", "second", "noise"]
    assert found["is_block"].values.tolist() == [True, True, False]
    assert found["rule"].values.tolist() == ["mixture", "mixture", "top fraction"]
    for row, seed in enumerate((0, 1)):
        assert set(np.flatnonzero(found["dominant"].values[row])) == carriers(planted(seed=seed))
    assert found["first_layer"].values[0] == "layer2"
    assert found["last_layer"].values[0] == "layer6"
    assert found["layer_count"].values[0] == 5


def test_a_model_without_a_block_says_so_with_its_evidence(seeds):
    found = seeds["references"].isel(model=2, block=2)
    assert str(found["verdict"].values) == "no block"
    assert str(found["evidence"].values).startswith("no block; no interval of similar layers.")
    assert int(found["layer_count"]) == 1


def test_sets_are_compared_between_seeds(seeds):
    found = seeds["overlap"]
    rows = (found["model_a"] == "first") & found["name_a"].isin([f"layer{index}" for index in range(2, 7)])
    first, second = np.flatnonzero(rows), np.flatnonzero(rows) + 8
    jaccard = found["jaccard"].values
    assert jaccard[np.ix_(first, first)].min() == 1
    assert jaccard[np.ix_(first, second)].max() < 0.3
    assert found["p_value"].values[np.ix_(first, first)].max() < 1e-10


def test_a_sample_has_a_history_over_models(seeds):
    found = seeds["dominance"]
    carrier = min(carriers(planted()))
    history = found[["norm", "projection"]].sel(sample=carrier).where(found["name"] == "layer4", drop=True)
    assert history["model"].values.tolist() == ["first", "second", "noise"]
    assert history["projection"].values[0] == found["projection"].values[4, carrier]
    np.testing.assert_allclose(history["norm"].values[0], np.linalg.norm(planted()["layer4"][carrier]), rtol=1e-6)


def test_removal_takes_the_block_with_the_dominant_samples_only(seeds):
    found = seeds["removal"]
    assert found.sizes["block"] == 3
    similarity = found["similarity"].sel(fraction=0.1).isel(block=0)
    assert float(similarity.sel(selection="dominant")) < 0.3
    assert float(similarity.sel(selection="random")) > 0.8


def test_pooled_ranks_name_the_same_samples(seeds):
    found = run({"first": planted()}, pooled=True)["references"]
    assert found.attrs["pooled"]
    np.testing.assert_array_equal(found["dominant"].values[0], seeds["references"]["dominant"].values[0])


def test_results_say_how_they_were_made(seeds):
    for leaf in ("references", "dominance", "overlap"):
        assert seeds[leaf].attrs["sample_count"] == SAMPLES
    assert seeds["dominance"].attrs["top_fraction"] == 0.05
    assert seeds["overlap"]["top_overlap"].attrs["fraction"] == 0.05


class Counted(LiveSource):
    """A source that takes note of how many layers each pass visits."""

    visited: ClassVar[list[int]] = []

    def groups(self, order, group_size):
        """Yield groups of samples."""
        self.visited.append(len(self.layers))
        yield from super().groups(order, group_size)


def test_all_layers_are_visited_twice_and_no_more():
    model = ArrayModel("net", planted())
    results = {
        name: run_planted(plugin_registry().analysis(name), {"net": planted()}) for name in ("blocks", "components")
    }
    context = Context(
        [Counted(model, model.layers, IndexData(SAMPLES))],
        sample_count=SAMPLES,
        results=lambda analysis, leaf: results[analysis][leaf],
    )
    DominantAnalysis().run(context, DominantParameters(**FAST))
    assert Counted.visited.count(8) == 2
    assert set(Counted.visited) == {1, 8}
    assert Counted.visited[-1] == 8


def test_a_model_whose_samples_cannot_be_ranked_by_others_is_named_as_not_tested():
    values = noise_layers(samples=SAMPLES, layers=5)
    context_order = Context([], sample_count=SAMPLES).order()
    for array in values.values():
        array[context_order[: SAMPLES // 2]] = 1.0
    result = run({"half": values, "first": planted()})
    assert result["removal"]["block_model"].values.tolist() == ["first"]
    assert result["removal"].attrs["not_tested"] == (
        "half: a half of the samples tells nothing apart at the reference layer, so that the other cannot be ranked"
    )
    assert "not_tested" not in run({"first": planted()})["removal"].attrs


def test_a_model_of_constant_layers_has_no_reference():
    still = {f"layer{index}": np.ones((SAMPLES, 5), np.float32) for index in range(5)}
    result = run({"still": still, "first": planted()})
    assert result["references"]["evidence"].values[0] == "no layer tells samples apart."
    assert result["references"]["block_model"].values.tolist() == ["first"]
    assert set(result["dominance"]["rule"].values[:5]) == {"none"}


def test_constant_layers_alone_give_an_empty_result():
    still = {f"layer{index}": np.ones((SAMPLES, 5), np.float32) for index in range(5)}
    result = run({"still": still})
    assert result["references"].sizes["block"] == 0
    assert result["removal"].sizes["block"] == 0
    assert result["dominance"]["degenerate"].values.all()


def test_too_few_samples_are_refused_with_how_many_are_needed():
    with pytest.raises(AnalysisError, match=r"'dominant' needs at least 20 samples.*; the data has 19"):
        run({"net": noise_layers(samples=19)})
    with pytest.raises(AnalysisError, match=r"'dominant' needs at least 100 samples.*; the data has 99"):
        run({"net": noise_layers(samples=99)}, top_fraction=0.01)


def test_the_largest_removal_counts_among_what_is_needed():
    assert DominantParameters().needed_samples == 20
    assert DominantParameters(fractions=(0.9,)).needed_samples == 80
    assert DominantParameters(top_fraction=0.001).needed_samples == 1000


def test_the_fewest_samples_are_enough():
    result = run_planted(DominantAnalysis, {"net": noise_layers(samples=DominantParameters().needed_samples)})
    assert result["references"]["dominant_count"].values.tolist() == [1]
    assert result["removal"].sizes["fraction"] == 10


def test_parameters_are_read_as_the_command_line_gives_them():
    given = DominantParameters.model_validate({"fractions": "[0, 0.1,0.5]", "pooled": "true"})
    assert given.fractions == (0, 0.1, 0.5)
    assert given.pooled


def test_parameters_out_of_their_range_are_refused():
    with pytest.raises(ParameterError, match=r"fractions\.1.*less than 1"):
        run({"net": noise_layers()}, fractions=(0, 1))
    with pytest.raises(ParameterError, match=r"top_fraction.*less than or equal to 0\.5"):
        run({"net": noise_layers()}, top_fraction=0.6)
