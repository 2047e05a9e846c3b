"""The removal test: which samples a block goes with, and which it does not."""

import json

import numpy as np
import pytest
import xarray as xr
from PIL import Image

from outcrop import Context
from outcrop.analysis.references import Reference
from outcrop.capture.source import LiveSource
from outcrop.data.arrays import ArrayData
from outcrop.data.dataset import Data
from outcrop.errors import AnalysisError
from outcrop.numerics import RemovalAccumulator
from outcrop.plugins import plugin_registry
from outcrop.testing import ArrayModel, IndexData, noise_layers, planted_block, run_planted
from outcrop_dominant.inputs import sample_norms
from outcrop_dominant.parameters import DominantParameters
from outcrop_dominant.removal import measure_removal, removal_leaves
from outcrop_dominant.removal_evidence import weigh_removal

SAMPLES = 200
FAST = {"batch_size": 50, "fractions": (0, 0.02, 0.1, 0.5), "random_replicates": 3}


def planted(**options):
    return planted_block(**{"samples": SAMPLES, "layers": 8, "start": 2, "stop": 7, **options})


def two_sided(seed=0):
    """Return layers of a block that all samples carry alike: half of them lie on either side."""
    rng = np.random.default_rng(seed)
    sides = np.where(rng.permutation(SAMPLES) < SAMPLES // 2, 40.0, -40.0)
    layers = noise_layers(samples=SAMPLES, layers=8, features=24, seed=seed)
    for name in ("layer2", "layer3", "layer4", "layer5", "layer6"):
        direction = rng.standard_normal(layers[name].shape[1])
        layers[name] += np.outer(sides, direction / np.linalg.norm(direction)).astype(np.float32)
    return layers


def context_of(models, *, kinds=None, data=None):
    made = [ArrayModel(name, layers, kinds=kinds) for name, layers in models.items()]
    sources = [LiveSource(model, model.layers, IndexData(model.sample_count)) for model in made]
    return Context(sources, sample_count=made[0].sample_count, data=data)


def judged(model, layers, *, inside=range(2, 7), is_block=True):
    names = tuple(name for name in layers if name.startswith("layer"))
    chosen = tuple(f"layer{index}" for index in inside)
    return Reference(model, chosen, chosen[len(chosen) // 2], is_block, "", names)


def leaves_of(models, references, *, context=None, **parameters):
    given = DominantParameters(**{**FAST, **parameters})
    return removal_leaves(context_of(models) if context is None else context, references, given)


@pytest.fixture(scope="module")
def found():
    """Return the test of a planted block, of one that nothing dissolves, and of a model without one."""
    models = {"few": planted(), "all": two_sided(), "none": noise_layers(samples=SAMPLES, layers=8)}
    references = [
        judged("few", models["few"]),
        judged("all", models["all"]),
        judged("none", models["none"], inside=(3,), is_block=False),
    ]
    return leaves_of(models, references)


def test_leaving_the_carriers_out_dissolves_the_block_and_leaving_others_out_does_not(found):
    removal = found["removal"].isel(block=0)
    is_block = removal["is_block"]
    assert is_block.sel(selection="dominant").values.tolist() == [True, True, False, False]
    assert is_block.sel(selection="random").values.all()
    assert float(removal["dissolving_fraction"]) == 0.1
    assert bool(removal["controls_keep_block"])
    assert str(removal["verdict"].values).startswith("dissolved without 0.1 of the samples: similarity 0.9")
    assert str(removal["verdict"].values).endswith("without as many others it stays")
    gone = removal.sel(selection="dominant", fraction=0.1)
    assert float(gone["similarity"]) < 0.1
    assert float(gone["pc_support"]) < 0.3
    assert float(gone["score"]) == 0


def test_a_block_that_all_samples_carry_is_dissolved_by_no_removal(found):
    removal = found["removal"].isel(block=1)
    assert removal["is_block"].values.all()
    assert np.isnan(float(removal["dissolving_fraction"]))
    assert bool(removal["controls_keep_block"])
    assert str(removal["verdict"].values).startswith("no removal up to 0.5 of the samples dissolves it: similarity 0.9")


def test_a_model_without_a_block_has_nothing_to_dissolve(found):
    removal = found["removal"].isel(block=2)
    assert str(removal["verdict"].values) == "no block to dissolve"
    assert not removal["is_block"].values.any()
    assert np.isnan(removal["similarity"].values).all()
    assert not bool(removal["controls_keep_block"])
    shares = found["removal_layers"]["pc_share"].values[found["removal_layers"]["model"].values == "none"]
    assert np.isfinite(shares).all()


def test_numbers_have_their_uncertainty_and_draws_their_spread(found):
    removal = found["removal"].isel(block=0)
    for name in ("similarity", "contrast", "pc_support"):
        assert (removal[f"{name}_error"].values > 0).all()
        spread = removal[f"{name}_spread"]
        assert np.isnan(spread.sel(selection="dominant")).all()
        assert (spread.sel(selection="random").values[1:] > 0).all()
        np.testing.assert_allclose(spread.sel(selection="random").values[0], 0, atol=1e-12)
    assert removal["kept_count"].sel(selection="dominant").values.tolist() == [200, 196, 180, 100]
    np.testing.assert_array_equal(removal["block_share"], removal["is_block"].astype(float))


def test_with_all_samples_it_is_what_the_search_for_blocks_found(found):
    blocks = run_planted(plugin_registry().analysis("blocks"), {"few": planted()}, parameters={"batch_size": 50})
    whole = found["removal"].isel(block=0, fraction=0, selection=0)
    one = blocks["blocks"].isel(block=0)
    assert bool(one["is_block"])
    for name in ("similarity", "contrast", "contrast_without_pc1", "pc_support", "score"):
        np.testing.assert_allclose(float(whole[name]), float(one[name]), atol=1e-9)
    maps = found["removal_maps"]
    own = np.flatnonzero(maps["model_a"].values == "few")
    np.testing.assert_allclose(
        maps["similarity"].values[0][np.ix_(own, own)], blocks["pairwise"]["similarity"].values, atol=1e-9
    )
    shares = found["removal_layers"]["pc_share"].values[:8, 0, 0]
    np.testing.assert_allclose(shares, blocks["per_layer"]["pc_share"].values, atol=1e-9)


def test_maps_are_kept_without_none_and_a_tenth_of_the_dominant_samples_and_know_no_other_model(found):
    maps = found["removal_maps"]
    assert maps["fraction"].values.tolist() == [0, 0.1]
    few = np.flatnonzero(maps["model_a"].values == "few")
    others = np.flatnonzero(maps["model_a"].values != "few")
    assert np.isnan(maps["similarity"].values[:, few[:, None], others]).all()
    inside = maps["similarity"].values[:, few[2:7][:, None], few[2:7]][:, *np.triu_indices(5, 1)]
    assert inside[0].min() > 0.9
    assert inside[1].max() < 0.2


def test_results_say_how_they_were_made(found):
    attrs = found["removal"].attrs
    assert attrs["ranking"] == (
        "|projection| at the reference layer, on the first principal components of the other half of the samples"
    )
    assert attrs["random_replicates"] == 3
    assert attrs["sample_count"] == SAMPLES
    assert attrs["batch_size"] == 50
    assert json.loads(attrs["thresholds"])["similarity"] == 0.9
    assert attrs["input_norm"].startswith("not known: no input layer is selected")
    assert found["removal"]["selection"].values.tolist() == ["dominant", "random"]


def test_long_inputs_are_a_control_where_they_are_known():
    layers = {"image": noise_layers(samples=SAMPLES, layers=1, features=30, seed=5)["layer0"], **planted()}
    context = context_of({"few": layers}, kinds={"image": "input"})
    found = leaves_of({}, [judged("few", layers)], context=context)["removal"]
    assert found["selection"].values.tolist() == ["dominant", "random", "input_norm"]
    assert found.attrs["input_norm"] == "input layer of a model"
    assert found["is_block"].sel(selection="input_norm").values.all()
    assert bool(found["controls_keep_block"][0])


def test_a_control_that_takes_the_carriers_along_is_named():
    layers = planted()
    far = np.linalg.norm(layers["layer4"], axis=1)
    named = {"image": (far[:, None] * np.ones(4)).astype(np.float32), **layers}
    context = context_of({"few": named}, kinds={"image": "input"})
    found = leaves_of({}, [judged("few", named)], context=context)["removal"]
    assert not bool(found["controls_keep_block"][0])
    assert str(found["verdict"].values[0]).endswith(
        "without as many those of the longest inputs it does not stay either"
    )


def test_pooled_ranks_leave_the_same_samples_out():
    removal = leaves_of({"few": planted()}, [judged("few", planted())], pooled=True)["removal"]
    assert removal.attrs["ranking"].startswith("mean rank over the layers of the interval")
    assert float(removal["dissolving_fraction"][0]) == 0.1


def test_samples_left_out_are_the_carriers_of_either_half():
    layers = planted()
    parameters = DominantParameters(**{**FAST, "fractions": (0.1,)})
    removal = measure_removal(context_of({"few": layers}), [judged("few", layers)], parameters)
    assert removal.fractions == (0, 0.1)
    mask = removal.models[0].draws["dominant"][0, 1]
    assert removal.models[0].statistics.kept_count[mask] == 180
    without = removal.models[0].statistics.similarity[mask]
    carriers = np.argsort(-np.linalg.norm(layers["layer4"], axis=1))[:10]
    accumulator = RemovalAccumulator(~np.isin(np.arange(SAMPLES), carriers)[None], group_size=50)
    context_of({"few": layers}).stream(accumulator, batch_size=50)
    np.testing.assert_allclose(without, accumulator.finish()["few"].similarity[0], atol=0.15)


def test_without_references_there_is_an_empty_result():
    for leaf in leaves_of({"none": noise_layers(samples=SAMPLES)}, []).values():
        assert 0 in leaf.sizes.values()


def test_a_block_that_these_batches_do_not_show_says_so():
    layers = noise_layers(samples=SAMPLES, layers=8)
    removal = leaves_of({"none": layers}, [judged("none", layers)])["removal"]
    assert str(removal["verdict"].values[0]) == "no block to dissolve: with all samples, these batches show none"


@pytest.mark.parametrize("fractions", [(0,), (0, 0.001)])
def test_fractions_that_leave_no_sample_out_are_no_test(fractions):
    removal = leaves_of({"few": planted()}, [judged("few", planted())], fractions=fractions)["removal"]
    expected = f"not tested: fractions up to {fractions[-1]:g} leave none of these samples out"
    assert str(removal["verdict"].values[0]) == expected


def test_fractions_that_leave_too_little_of_every_batch_are_refused():
    layers = planted()
    with pytest.raises(
        AnalysisError, match=r"Leaving out 0.97 of the samples leaves fewer than 4 of every batch of 20"
    ):
        leaves_of({"few": layers}, [judged("few", layers)], batch_size=20, fractions=(0, 0.5, 0.97))


def test_evidence_of_one_group_of_batches_has_no_error():
    layers = planted()
    accumulator = RemovalAccumulator(np.ones((1, SAMPLES), dtype=bool), group_size=SAMPLES)
    context_of({"few": layers}).stream(accumulator, batch_size=SAMPLES)
    evidence = weigh_removal(accumulator.finish()["few"], judged("few", layers).interval)
    assert evidence.is_block.tolist() == [True]
    assert np.isnan(evidence.errors["similarity"]).all()


def test_lengths_of_arrays_are_those_of_their_values():
    layers = planted()
    values = np.random.default_rng(0).standard_normal((SAMPLES, 3, 5)).astype(np.float32)
    known = sample_norms(context_of({"few": layers}, data=ArrayData(values)))
    np.testing.assert_allclose(known, np.linalg.norm(values.reshape(SAMPLES, -1), axis=1), rtol=1e-6)
    assert sample_norms(context_of({"few": layers})) is None
    assert sample_norms(context_of({"few": layers}, data=IndexData(SAMPLES))) is None


def test_samples_are_a_control_where_no_input_layer_is():
    layers = planted()
    values = np.random.default_rng(0).standard_normal((SAMPLES, 6)).astype(np.float32)
    context = context_of({"few": layers}, data=ArrayData(values))
    found = leaves_of({}, [judged("few", layers)], context=context)["removal"]
    assert found.attrs["input_norm"] == "samples before preprocessing"
    assert found["is_block"].sel(selection="input_norm").values.all()


class Pictures(Data):
    """Pictures of noise, each as bright as its position."""

    name = source = fingerprint = "pictures"
    sample_ids = tuple(map(str, range(SAMPLES)))

    def read(self, index):
        noise = np.random.default_rng(index).integers(0, 56, (32, 32, 3))
        return Image.fromarray((noise + index).astype(np.uint8))

    def thumbnail(self, index, size=48):
        return np.asarray(self.read(index).resize((size, size)))


def test_pictures_have_the_root_mean_square_of_their_pixels():
    data = Pictures()
    known = sample_norms(context_of({"few": planted()}, data=data))
    pixels = np.stack([np.asarray(data.read(index)) for index in range(SAMPLES)]) / 255
    np.testing.assert_allclose(known, np.sqrt(np.square(pixels).mean(axis=(1, 2, 3))), rtol=1e-5)


def test_pictures_that_cannot_be_shown_have_no_length():
    class Hidden(Pictures):
        def thumbnail(self, index, size=48):
            return None

    assert sample_norms(context_of({"few": planted()}, data=Hidden())) is None


def test_samples_of_which_other_things_are_known_have_no_length():
    told = xr.Dataset({"age": ("sample", np.arange(SAMPLES))})
    made = ArrayModel("few", planted())
    source = LiveSource(made, made.layers, IndexData(SAMPLES))
    assert sample_norms(Context([source], sample_count=SAMPLES, described=lambda: told)) is None
