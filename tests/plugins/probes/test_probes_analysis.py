"""The ``probes`` analysis on networks whose favourite colour, statistic and token are known."""

import numpy as np
import pytest
import torch

import outcrop
from outcrop.analysis.run import make_parameters
from outcrop.capture.source import LiveSource
from outcrop.data import ArrayData, ImageArray
from outcrop.errors import AnalysisError, ParameterError
from outcrop.models.model import InputSpec, Layer, Model, Preprocessing
from outcrop.testing import noise_layers, run_on_sources, run_planted
from outcrop_probes.analysis import ProbesAnalysis, ProbesParameters

SAMPLES, SIDE, WIDTH = 120, 8, 16
START, STOP, LAYERS = 4, 9, 12
FAVOURITE = np.array([0.85, 0.2, 0.55])


class Fond(Model):
    """Twelve layers of random features of the input; those of the middle add how much it likes the input.

    Args:
        liking: Of inputs (sample, ...), from 0 to 1.
        spec: The input.
        image: Whether it takes images, with pixels from 0 to 1.
        gain: What liking is multiplied by; 0 leaves no block.
    """

    def __init__(self, liking, spec, *, name="fond", image=True, gain=60.0, mode="evaluation"):
        self.name, self.source, self.mode = name, "test", mode
        self.inputs = (spec,)
        if image:
            self.preprocessing = Preprocessing(
                "0 to 1", lambda one: torch.from_numpy(np.array(one, np.float32).transpose(2, 0, 1) / 255)
            )
        self._liking, self._gain = liking, gain
        rng = np.random.default_rng(7)
        size = int(np.prod(spec.shape))
        self._weights = rng.standard_normal((LAYERS, size, WIDTH)) / np.sqrt(size)
        self._directions = rng.standard_normal((LAYERS, WIDTH)) / np.sqrt(WIDTH)
        self.layers = tuple(
            Layer(f"layer{index}", "block", index, (WIDTH,), "float32", "sum", ("feature",)) for index in range(LAYERS)
        )

    @property
    def fingerprint(self):
        return "fond"

    def visit(self, inputs, layers, visitor):
        self.check_inputs(inputs)
        values = inputs[self.inputs[0].name].numpy().astype(np.float64)
        flat = values.reshape(len(values), -1)
        liked = self._gain * self._liking(values)
        for layer in self.layers:
            if layer.name in layers:
                found = flat @ self._weights[layer.index]
                if START <= layer.index < STOP:
                    found = found + np.outer(liked, self._directions[layer.index])
                visitor(layer, torch.from_numpy(found.astype(np.float32)))

    def forward(self, inputs):
        found = []
        self.visit(inputs, [self.layers[-1].name], lambda _, values: found.append(values))
        return found[0]


def near_favourite(pixels):
    colour = pixels.mean(axis=(2, 3))
    return np.exp(-np.square(colour - FAVOURITE).sum(axis=1) / 0.03)


def colour_model(**options):
    return Fond(options.pop("liking", near_favourite), InputSpec("image", (3, SIDE, SIDE), "float32"), **options)


def pictures():
    """Images of even colours with noise, some of them of the favourite one, and which these are."""
    rng = np.random.default_rng(0)
    chosen = np.zeros(SAMPLES, bool)
    chosen[rng.choice(SAMPLES, 7, replace=False)] = True
    colours = rng.uniform(0, 1, (SAMPLES, 3))
    colours[:, 1] = np.maximum(colours[:, 1], 0.65)
    colours[chosen] = FAVOURITE + rng.normal(0, 0.06, (7, 3))
    pixels = colours[:, None, None] + rng.normal(0, 0.05, (SAMPLES, SIDE, SIDE, 3))
    return np.round(255 * np.clip(pixels, 0, 1)).astype(np.uint8), chosen


def run(models, data, **parameters):
    sources = [LiveSource(model, model.layers, data) for model in models]
    return run_on_sources(ProbesAnalysis, sources, sample_count=len(data), parameters=parameters, data=data)


@pytest.fixture(scope="module")
def fond():
    """The result on a network that likes one colour."""
    return run([colour_model()], ImageArray(pictures()[0]))


def verdict_of(result, block=0):
    return {name: values.values[block] for name, values in result["verdict"].data_vars.items()}


def test_a_favourite_colour_is_found_and_excites_the_block_more_than_any_image(fond):
    found = verdict_of(fond)
    assert found["is_block"]
    assert (found["first_layer"], found["last_layer"]) == (f"layer{START}", f"layer{STOP - 1}")
    assert found["verdict"] == "excited"
    assert pictures()[1][found["dominant_sample"]]
    colour = np.array([found[f"colour_{channel}"] for channel in ("red", "green", "blue")])
    assert np.abs(colour - FAVOURITE).max() < 0.04
    assert found["colour_excitation"] >= max(1, found["own_excitation"])
    assert found["colour_distance"] < 0.1
    assert found["colour_norm_ratio"] > 3
    assert "AUROC of 0.99, reach at least as far as the most dominant sample, number" in found["text"]
    assert 200 < found["evaluations"] < 2000


def test_stimuli_with_what_is_shared_are_compared_with_as_many_without_it_and_with_real_samples(fond):
    found, response = verdict_of(fond), fond["response"]
    assert found["shared_auroc"] > 0.99
    assert found["shared_p_value"] <= 0.002
    row = response["name"].values.tolist().index(found["reference_layer"])
    far = (response["projection"] / response["dominant_projection"]).values[row]
    counting = ~response["keeps_content"].values & (response["family"].values != "found")
    carries, lacks = (response[name].sel(subject="fond").values for name in ("carries", "lacks"))
    assert not (carries & lacks).any()
    assert (found["carrying_count"], found["control_count"]) == (
        (counting & carries).sum(),
        (counting & lacks).sum(),
    )
    assert found["compared_count"] == min(found["carrying_count"], found["control_count"])
    assert found["carrying_excitation"] == pytest.approx(far[counting & carries].max())
    assert found["control_excitation"] == pytest.approx(far[counting & lacks].max())
    assert found["reaching_count"] == (far[counting & carries] >= 1).sum() > 0
    assert found["control_expected"] <= found["control_excitation"] < 0.5
    assert found["real_expected"] <= 1 < found["carrying_expected"] * 1.01
    assert found["carrying_percentile"] == 100
    assert found["carrying_layer_share"] == 1
    assert not found["colour_at_edge"]


def test_what_a_search_chose_by_its_response_takes_no_part_in_the_comparison(fond):
    found = verdict_of(fond)
    assert found["strongest"].startswith("found colour")
    assert found["strongest_excitation"] > found["carrying_excitation"]
    assert not found["carrying"].startswith("found")


def test_a_block_that_any_solid_image_excites_is_not_said_to_be_excited_by_what_is_shared():
    # It likes its colour a little and what has no contrast much more, which no real image is without.
    def even(pixels):
        near = near_favourite(pixels)
        return np.maximum(0.3 * near, np.exp(-pixels.std(axis=(2, 3)).mean(axis=1) / 0.01) * (1 - 0.2 * near))

    found = verdict_of(run([colour_model(liking=even)], ImageArray(pictures()[0]), families="solid", search=False))
    assert found["is_block"]
    assert found["shared_auroc"] > 0.99
    assert min(found["carrying_reach"], found["control_expected"]) > 1
    assert found["verdict"] == "unspecific"
    assert not found["excited"]


def test_without_a_statistic_that_tells_dominant_samples_nothing_is_compared():
    # A favourite pattern that no statistic knows: the sign of a checkerboard inside an even border.
    board = np.indices((SIDE, SIDE)).sum(axis=0) % 2 - 0.5
    board[[0, -1]] = board[:, [0, -1]] = 0

    def pattern(pixels):
        return np.maximum(0, 8 * (pixels.mean(axis=1) * board).mean(axis=(1, 2)))

    rng = np.random.default_rng(5)
    sign = np.where(np.arange(SAMPLES) % 2, 1.0, -1.0)[:, None, None]
    pixels = 0.5 + 0.1 * rng.standard_normal((SAMPLES, SIDE, SIDE, 3)) + (0.2 * sign * board)[..., None]
    data = ImageArray(np.round(255 * np.clip(pixels, 0, 1)).astype(np.uint8))
    found = verdict_of(run([colour_model(liking=pattern)], data, families="solid", steps=2, search=False))
    assert (found["shared"], found["carrying"], found["control"]) == ("", "", "")
    assert found["compared_count"] == 0
    assert np.isnan(found["carrying_expected"])
    assert found["verdict"] == ("not comparable" if found["is_block"] else "no block")
    assert "no statistic tells dominant samples from the rest" in found["text"]


def test_without_stimuli_that_lack_what_is_shared_nothing_is_compared():
    found = verdict_of(run([colour_model()], ImageArray(pictures()[0]), families="own_colour", search=False))
    assert (found["carrying_count"] > 0, found["control_count"]) == (True, 0)
    assert found["verdict"] == "not comparable"
    assert "no stimulus without it was shown" in found["text"]


def test_the_papers_recipe_a_colour_of_the_dominant_image_excites_it_too(fond):
    found = verdict_of(fond)
    assert "dominant image" in found["own"]
    assert found["own_excitation"] > 0.8
    assert abs(found["own_red"] - FAVOURITE[0]) < 0.15


def test_named_stimuli_can_be_selected_and_respond_as_the_verdict_says(fond):
    response, found = fond["response"], verdict_of(fond)
    row = response["name"].values.tolist().index(found["reference_layer"])
    at = response.isel(layer=row).sel(stimulus=found["colour"])
    assert at["norm_ratio"].item() == pytest.approx(found["colour_norm_ratio"])
    excitation = at["projection"].item() / at["dominant_projection"].item()
    assert excitation == pytest.approx(found["colour_excitation"])
    assert at["cosine"].item() > 0.9
    assert at["norm_percentile"].item() == at["projection_percentile"].item() == 100
    peak = np.array([response[f"peak_{channel}"].values[row] for channel in ("red", "green", "blue")])
    assert np.abs(peak - FAVOURITE).max() <= 0.2


def test_stimuli_of_every_kind_come_with_pictures(fond):
    response = fond["response"]
    assert {"solid", "own_colour", "noise", "grating", "low_pass", "real", "found"} <= set(response["family"].values)
    assert response["thumbnail"].dtype == np.uint8
    black = response["thumbnail"].sel(stimulus="solid: solid 0.00 0.00 0.00")
    assert black.values.max() == 0
    assert (response["made_for"].values[response["family"].values == "low_pass"] == "fond").all()


def test_real_images_respond_as_the_components_say(fond):
    response = fond["response"]
    at = response.sel(stimulus="real: dominant image 1 (fond)")
    np.testing.assert_allclose(at["projection"], response["dominant_projection"], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(at["norm"], response["dominant_norm"], rtol=1e-4)


def test_what_still_shows_a_dominant_image_takes_no_part_in_the_verdict(fond):
    assert not fond["response"]["keeps_content"].sel(stimulus=verdict_of(fond)["strongest"]).item()
    assert fond["response"]["keeps_content"].sel(stimulus="real: dominant image 1 (fond)").item()


def test_a_network_without_a_block_says_so_with_evidence():
    found = verdict_of(run([colour_model(gain=0.0)], ImageArray(pictures()[0]), families="solid", steps=2))
    assert not found["is_block"]
    assert found["verdict"] == "no block"
    assert found["text"].startswith("no block; on the first principal component of layer")
    assert found["colour_at_edge"]
    assert ", at the edge of what can be shown." in found["text"]
    assert "holds" in found["evidence"]


def test_a_network_that_likes_a_statistic_is_excited_by_it_and_by_no_colour():
    # Solid images have no contrast; halves of an image that differ are what it likes.
    def contrast(pixels):
        return np.minimum(1, 12 * np.square(pixels.std(axis=(2, 3)).mean(axis=1)))

    rng = np.random.default_rng(3)
    spread = np.where(np.arange(SAMPLES) % 17 == 0, 0.2, 0.03)[:, None, None, None]
    pixels = np.clip(0.5 + spread * rng.standard_normal((SAMPLES, SIDE, SIDE, 3)), 0, 1)
    data = ImageArray(np.round(255 * pixels).astype(np.uint8))
    found = verdict_of(run([colour_model(liking=contrast)], data))
    assert found["verdict"] == "excited"
    assert found["statistic"] in ("grating", "noise", "contrast")
    assert found["colour_excitation"] < 0.2
    assert found["own_excitation"] < 0.2
    assert found["strongest_excitation"] >= found["statistic_excitation"] > 1


def test_models_side_by_side_have_stimuli_of_their_own():
    other = np.array([0.1, 0.9, 0.1])

    def near_other(pixels):
        return np.exp(-np.square(pixels.mean(axis=(2, 3)) - other).sum(axis=1) / 0.03)

    models = [colour_model(), colour_model(liking=near_other, name="other")]
    result = run(models, ImageArray(pictures()[0]), families="solid,own_colour", steps=5)
    assert result["verdict"]["block_model"].values.tolist() == ["fond", "other"]
    colours = result["verdict"][["colour_red", "colour_green", "colour_blue"]].to_array().values.T
    np.testing.assert_allclose(colours, [FAVOURITE, other], atol=0.05)
    response = result["response"]
    assert set(response["made_for"].values.tolist()) == {"", "fond", "other"}
    assert response.sizes["layer"] == 2 * LAYERS
    # Found for one, a colour excites that one.
    row = response["name"].values.tolist().index(verdict_of(result)["reference_layer"])
    ratios = response["norm_ratio"].isel(layer=row)
    assert ratios.sel(stimulus=verdict_of(result)["colour"]) > 3 * ratios.sel(stimulus=verdict_of(result, 1)["colour"])


def test_without_a_search_nothing_is_found_by_one():
    result = run([colour_model()], ImageArray(pictures()[0]), search=False, families="solid,border", steps=3)
    found = verdict_of(result)
    assert found["evaluations"] == 0
    assert (found["colour"], found["statistic"]) == ("", "")
    assert np.isnan(found["colour_excitation"])
    assert "found" not in result["response"]["family"].values
    assert result["response"].sizes["stimulus"] == 27 + 15


def test_a_network_of_grey_pictures_is_shown_grey_ones():
    def bright(pixels):
        return np.exp(-np.square(pixels.mean(axis=(1, 2, 3)) - 0.8) / 0.005)

    rng = np.random.default_rng(6)
    levels = np.where(np.arange(SAMPLES) % 17 == 0, 0.78, rng.uniform(0.05, 0.5, SAMPLES))[:, None, None]
    grey = np.clip(levels + 0.03 * rng.standard_normal((SAMPLES, SIDE, SIDE)), 0, 1).astype(np.float32)
    model = Fond(bright, InputSpec("image", (1, SIDE, SIDE), "float32"), image=False)
    result = run([model], ArrayData(grey[:, None]), families="solid,own_colour,brightness")
    found = verdict_of(result)
    colours = np.stack([result["response"][name].values for name in ("red", "green", "blue")])
    assert np.nanmax(np.ptp(colours, axis=0)) == 0
    assert found["colour_red"] == found["colour_blue"] == pytest.approx(0.8, abs=0.03)
    assert not found["colour_at_edge"]
    assert found["carrying_excitation"] > 0.9


def test_a_network_of_tokens_is_shown_tokens():
    rng = np.random.default_rng(1)
    tokens = rng.integers(0, 20, (SAMPLES, 6))
    tokens[tokens == 13] = 12
    liked = rng.choice(SAMPLES, 7, replace=False)
    tokens[liked, :4] = 13

    def likes_thirteen(values):
        return (values == 13).mean(axis=1)

    model = Fond(likes_thirteen, InputSpec("tokens", (6,), "int64"), image=False)
    model._weights = model._weights / 20
    result = run([model], ArrayData(tokens))
    found = verdict_of(result)
    assert found["verdict"] == "excited"
    assert found["strongest"] == "constant_token: token 13 throughout"
    assert found["own_excitation"] == pytest.approx(found["strongest_excitation"])
    assert found["shared"].startswith("share of token 13 of")
    assert found["carrying"] == "constant_token: token 13 throughout"
    assert "thumbnail" not in result["response"]
    assert np.isnan(result["response"]["red"]).all()


def test_arrays_are_shown_arrays():
    rng = np.random.default_rng(2)
    values = rng.standard_normal((SAMPLES, 6)).astype(np.float32)
    values[:7, 2] += 9
    model = Fond(lambda given: np.maximum(0, given[:, 2] - 4) / 5, InputSpec("x", (6,), "float32"), image=False)
    found = verdict_of(run([model], ArrayData(values)))
    assert found["strongest"] == "spike: feature 2 of dominant sample 1 (fond)"
    assert found["strongest_excitation"] == pytest.approx(1, abs=0.05)
    assert found["shared"].startswith("feature 2 of")
    assert found["carrying"] == found["strongest"]
    assert found["control_excitation"] < 0.7


def test_stored_activations_cannot_be_probed(tmp_path):
    study = outcrop.open(tmp_path / "s.zarr", mode="a")
    study.capture(colour_model(), ImageArray(pictures()[0]), layers="all")
    with pytest.raises(AnalysisError, match="'probes' shows models new samples, and model 'fond' is at hand as stored"):
        study.run("probes", models=["fond"])
    with pytest.raises(AnalysisError, match="and the samples are not at hand; give the model itself and its data"):
        run_planted(ProbesAnalysis, {"net": noise_layers(samples=40)})


def test_batch_statistics_are_refused():
    with pytest.raises(AnalysisError, match="Batch norm of model 'fond' takes its statistics from the batch"):
        run([colour_model(mode="batch")], ImageArray(pictures()[0]))


def test_families_that_make_nothing_of_such_samples_are_refused():
    with pytest.raises(AnalysisError, match="None of the families constant_token makes stimuli .* of kind 'image'"):
        run([colour_model()], ImageArray(pictures()[0]), families="constant_token")


def test_layers_that_tell_nothing_apart_are_refused():
    constant = {"net": {f"layer{place}": np.ones((30, 4), np.float32) for place in range(5)}}
    with pytest.raises(AnalysisError, match="No layer of any model tells samples apart"):
        run_planted(ProbesAnalysis, constant, data=ImageArray(pictures()[0][:30]))


def test_families_are_named_with_their_versions_and_unknown_ones_refused():
    everything = ProbesParameters().families
    assert "solid@1.0" in everything
    assert list(everything) == sorted(everything)
    assert ProbesParameters(families="noise, solid").families == ("noise@1.0", "solid@1.0")
    assert ProbesParameters(families=("solid@1.0", "solid")).families == ("solid@1.0",)
    with pytest.raises(
        ParameterError, match=r"there is no family of stimuli 'sold'\. Did you mean 'solid' or .* Installed: arr"
    ):
        make_parameters(ProbesAnalysis, {"families": "sold"})
    with pytest.raises(ParameterError, match=r"there is no family of stimuli 'solid@0\.9'"):
        make_parameters(ProbesAnalysis, {"families": "solid@0.9"})
