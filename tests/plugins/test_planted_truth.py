"""Networks that were trained on images of which few share a statistic: all that is said of them is known beforehand."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
import xarray as xr

from outcrop.analysis.context import Context
from outcrop.analysis.run import make_parameters, run_analysis
from outcrop.capture.source import LiveSource
from outcrop.data import ImageArray
from outcrop.data.description import described_data
from outcrop.errors import ParameterError
from outcrop.models.preprocessing import ImageRecipe
from outcrop.models.selection import select_layers
from outcrop.models.torch_ import TorchModel
from outcrop.plugins import plugin_registry
from outcrop.testing import COLOUR, SHARED, PlantedImages, PlantedNetwork, make_planted_images, train_planted_network

TRAINING = {
    "colour": (4000, 600),
    "spots": (4000, 350),
    "brightness": (4000, 350),
    "smooth": (6000, 600),
    "border": (4000, 400),
}
"""Images and steps: as many as each takes to be learned."""

LOOKED_AT = 1000

_CHANNELS = ("red", "green", "blue")

LEADING = {
    # No statistic of the bank is the distance from a colour. A background of one colour moves the means of the
    # channels, over the picture, its border or its corners, and their differences, and nothing else: any of these names
    # it. Of the other kinds, each has one statistic that says what was planted.
    "colour": {
        *_CHANNELS,
        *("red_minus_green", "blue_minus_red", "blue_minus_yellow"),
        *(f"{place}_{channel}" for place in ("border", "corner", "top_left") for channel in _CHANNELS),
    },
    "spots": {"dark_spot_share"},
    "brightness": {"brightness"},
    "smooth": {"low_frequency_share"},
    "border": {"border_homogeneity"},
}
"""What may be named first, by what was planted."""

PARAMETERS = {
    "blocks": {"batch_size": 250, "bootstrap": 0},
    "components": {"map_without": False},
    "dominant": {
        "batch_size": 250,
        "fractions": (0.0, 0.05, 0.1),
        "random_replicates": 2,
        "permutations": 199,
        "logistic_permutations": 0,
    },
    "probes": {"families": "solid,own_colour", "steps": 5},
}
"""Of the analyses, in their order: less of what takes time and decides nothing here."""

ALL = tuple(PARAMETERS)


@dataclass(frozen=True)
class Found:
    """What is said of one network, beside the truth.

    Attributes:
        images: Those that it is looked at with; it was trained on others.
        results: Leaves by analysis.
    """

    images: PlantedImages
    results: dict[str, dict[str, xr.Dataset]]

    @property
    def members(self):
        """Return which samples are called dominant at the layer that the block is judged at."""
        return self.results["dominant"]["references"]["dominant"].values[0]


def looked_at(network: PlantedNetwork, images: PlantedImages, analyses: Sequence[str]) -> Found:
    """Return what the analyses say, each given the results of those before it."""
    height, width = images.pixels.shape[1:3]
    recipe = ImageRecipe(size=(height, width)).preprocessing()
    model = TorchModel(network, name="planted", input_shape=(3, height, width), preprocessing=recipe)
    data = ImageArray(images.pixels)
    described = described_data(data)
    results: dict[str, dict[str, xr.Dataset]] = {}
    context = Context(
        [LiveSource(model, select_layers(model, "block"), data)],
        sample_count=len(data),
        seed=0,
        results=lambda name, leaf: results[name][leaf],
        data=data,
        described=lambda: described,
        live={model.name: model},
    )
    for name in analyses:
        analysis = plugin_registry().analysis(name)
        results[name] = run_analysis(analysis, context, make_parameters(analysis, PARAMETERS[name]))
    return Found(images, results)


@pytest.fixture(scope="module", params=SHARED)
def found(request):
    """What is found of a network that was trained on other images of the kind."""
    shared = request.param
    samples, steps = TRAINING[shared]
    network = train_planted_network(make_planted_images(shared, samples=samples), steps=steps)
    # Only a shared colour is something that a search for colours can find.
    analyses = ALL if shared == "colour" else ALL[:-1]
    return looked_at(network, make_planted_images(shared, samples=LOOKED_AT, seed=1), analyses)


def agreement(first, second):
    """Return the F1 of one set for another."""
    return 2 * (first & second).sum() / (first.sum() + second.sum())


def test_the_network_has_a_block_and_its_dominant_set_is_the_planted_one(found):
    references = found.results["dominant"]["references"]
    assert references["is_block"].values.tolist() == [True], str(references["evidence"].values[0])
    assert references["rule"].values.tolist() == ["mixture"]
    assert agreement(found.members, found.images.planted) >= 0.95


def test_the_shared_statistic_is_named_first(found):
    association = found.results["dominant"]["association"].isel(block=0)
    leading = str(association["leading_statistic"].values)
    assert leading in LEADING[found.images.shared]
    at = association.sel(statistic=leading)
    assert int(at["rank"]) == int(association["rank"].min())
    assert float(at["familywise_p"]) < 0.05


def test_the_block_ends_without_the_dominant_samples_and_stays_without_as_many_others(found):
    removal = found.results["dominant"]["removal"].isel(block=0)
    assert bool(removal["was_block"])
    assert float(removal["dissolving_fraction"]) <= 0.1, str(removal["verdict"].values)
    assert removal["selection"].values.tolist() == ["dominant", "random", "input_norm"]
    assert bool(removal["controls_keep_block"]), str(removal["verdict"].values)


@pytest.mark.parametrize("found", ["colour"], indirect=True)
def test_the_search_finds_the_planted_colour_and_it_excites_the_block_as_its_images_do(found):
    verdict = found.results["probes"]["verdict"].isel(block=0)
    assert bool(verdict["is_block"])
    colour = np.array([float(verdict[f"colour_{channel}"]) for channel in ("red", "green", "blue")])
    assert np.abs(colour - COLOUR).max() <= 0.1
    assert float(verdict["colour_excitation"]) > 0.8


def test_without_the_planted_answer_the_same_training_makes_no_block():
    images = make_planted_images("spots", samples=TRAINING["spots"][0])
    shuffled = replace(images, planted=np.random.default_rng(0).permutation(images.planted))
    network = train_planted_network(shuffled, steps=200)
    control = looked_at(network, make_planted_images("spots", samples=LOOKED_AT, seed=1), ALL[:-1])
    references = control.results["dominant"]["references"]
    assert references["is_block"].values.tolist() == [False]
    assert str(references["evidence"].values[0]).startswith("no block; ")
    assert control.results["dominant"]["removal"]["verdict"].values.tolist() == ["no block to dissolve"]
    assert control.results["components"]["per_layer"]["pc_share"].values.max() < 0.5
    assert agreement(control.members, control.images.planted) < 0.5


@pytest.mark.parametrize("shared", SHARED)
def test_images_are_the_same_for_a_seed_and_as_many_are_planted_as_asked(shared):
    images = make_planted_images(shared, samples=60, share=0.1, seed=3)
    assert images.pixels.shape == (60, 32, 32, 3)
    assert images.planted.sum() == 6
    again = make_planted_images(shared, samples=60, share=0.1, seed=3)
    np.testing.assert_array_equal(images.pixels, again.pixels)
    np.testing.assert_array_equal(images.planted, again.planted)
    assert (make_planted_images(shared, samples=60, seed=4).pixels != images.pixels).any()


def test_training_depends_on_nothing_but_its_seed():
    images = make_planted_images("spots", samples=100)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, second = (train_planted_network(images, seed=1, steps=2).state_dict() for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(values, second[name]) for name, values in first.items())


def test_a_kind_that_there_is_not_is_refused_with_those_there_are():
    with pytest.raises(
        ParameterError, match="No images share 'color'. Did you mean 'colour'.*Choose one of colour, sp"
    ):
        make_planted_images("color")
