"""A model with planted values for the samples of data, and an answer to any other: for analyses that show it some."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import xarray as xr
from numpy.typing import NDArray

from outcrop import Analysis, Context, Parameters
from outcrop.data import ArrayData, Data, ImageArray
from outcrop.errors import AnalysisError, InputError
from outcrop.numerics import DirectionsAccumulator, ProjectionAccumulator
from outcrop.testing import AnalysisTests, RespondingModel, run_planted

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 4, 3, 3), dtype=np.uint8)


def arrays(samples: int = 20) -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(1)
    return {
        "a": rng.standard_normal((samples, 5)).astype(np.float32),
        "b": rng.standard_normal((samples, 2, 3)).astype(np.float32),
    }


def visited(model: RespondingModel, inputs: Any, *, layers: tuple[str, ...] = ("a", "b")) -> dict[str, NDArray[Any]]:
    found: dict[str, NDArray[Any]] = {}
    named = {model.inputs[0].name: torch.as_tensor(inputs)}
    model.visit(named, layers, lambda layer, values: found.update({layer.name: values.numpy()}))
    return found


def test_known_images_give_what_was_planted() -> None:
    model = RespondingModel("net", arrays(), ImageArray(IMAGES))
    assert model.preprocessing is not None
    assert model.inputs[0].shape == (3, 4, 3)
    pixels = torch.stack([model.preprocessing.transform(ImageArray(IMAGES).read(index)) for index in (3, 7)])
    np.testing.assert_array_equal(pixels.numpy(), IMAGES[[3, 7]].transpose(0, 3, 1, 2).astype(np.float32) / 255)
    found = visited(model, pixels)
    for layer, values in arrays().items():
        np.testing.assert_array_equal(found[layer], values[[3, 7]])


def test_a_sum_of_known_samples_gives_the_sum_of_their_values() -> None:
    inputs = np.random.default_rng(2).standard_normal((20, 30)).astype(np.float32)
    model = RespondingModel("net", arrays(), ArrayData(inputs))
    found = visited(model, np.stack([2 * inputs[4] - inputs[9], inputs[4]]), layers=("b",))
    expected = arrays()["b"]
    np.testing.assert_allclose(found["b"][0], 2 * expected[4] - expected[9], atol=1e-4)
    np.testing.assert_array_equal(found["b"][1], expected[4])
    assert found.keys() == {"b"}


def test_images_of_another_size_are_brought_to_that_of_the_data() -> None:
    model = RespondingModel("net", arrays(), ImageArray(IMAGES))
    assert model.preprocessing is not None
    larger = ImageArray(np.full((1, 9, 9, 3), 51, dtype=np.uint8)).read(0)
    np.testing.assert_allclose(model.preprocessing.transform(larger).numpy(), np.full((3, 4, 3), 0.2), atol=1e-6)


def test_values_that_are_not_finite_stay_with_their_sample() -> None:
    planted = arrays()
    planted["a"][3, 2] = np.nan
    inputs = np.random.default_rng(2).standard_normal((20, 30)).astype(np.float32)
    model = RespondingModel("net", planted, ArrayData(inputs))
    found = visited(model, np.stack([inputs[3], inputs[0] + inputs[1]]))
    np.testing.assert_array_equal(found["a"][0], planted["a"][3])
    np.testing.assert_allclose(found["a"][1], planted["a"][0] + planted["a"][1], atol=1e-4)


def test_it_is_told_apart_by_its_values_and_its_data() -> None:
    first = RespondingModel("net", arrays(), ImageArray(IMAGES))
    assert first.fingerprint == RespondingModel("other", arrays(), ImageArray(IMAGES.copy())).fingerprint
    assert first.fingerprint != RespondingModel("net", arrays(), ImageArray(255 - IMAGES)).fingerprint


def test_data_that_it_cannot_answer_for_is_refused() -> None:
    with pytest.raises(InputError, match="values of 20 samples and data 'images' has 19; give one row for each"):
        RespondingModel("net", arrays(), ImageArray(IMAGES[1:]))
    tokens = ArrayData({"ids": np.zeros((20, 4), dtype=np.int64), "mask": np.zeros((20, 4), dtype=np.int64)})
    with pytest.raises(
        InputError, match="Samples of data 'array' are several arrays, ids, mask; a model that responds"
    ):
        RespondingModel("net", arrays(), tokens)


class Probing(Analysis):
    """Largest score of a grey picture on a direction of each layer, and how red the samples are."""

    name = "probing"
    summary = "Shows every model a grey picture."
    version = "1"
    produces: ClassVar[Mapping[str, str]] = {"per_layer": "per_layer"}
    message: ClassVar[str] = ""

    def run(self, context: Context, parameters: Parameters) -> xr.Dataset:
        layers = [(model, layer) for model, chosen in context.models.items() for layer in chosen]
        index = np.arange(context.sample_count, dtype=np.float64) - (context.sample_count - 1) / 2
        finding = DirectionsAccumulator(dict.fromkeys([(model, layer.name) for model, layer in layers], index))
        context.stream(finding, batch_size=50)
        probe = ProjectionAccumulator(finding.finish())
        if self.message and not all(map(context.is_live, context.models)):
            raise AnalysisError(self.message)
        context.stream(probe, batch_size=1, data=ImageArray(np.full((1, 4, 3, 3), 128, dtype=np.uint8)))
        degenerate = finding.finish().degenerate
        described = context.described()
        red = 0.0 if described is None else float(described["red"].mean())
        share = 1 / (2 + red + np.tanh(probe.finish().scores[:, 0]))
        return xr.Dataset(
            {
                "pc_share": ("layer", np.where(degenerate, np.nan, share)),
                "degenerate": ("layer", degenerate),
            },
            context.layer_coordinates(),
        )


class TestProbing(AnalysisTests):
    analysis = Probing
    invariances = ("orthogonal",)

    def data(self, samples: int) -> Data:
        return ImageArray(np.random.default_rng(0).integers(0, 256, (samples, 4, 3, 3), dtype=np.uint8))


def test_stored_activations_alone_must_be_refused_in_one_line(tmp_path: Any) -> None:
    class Verbose(Probing):
        message: ClassVar[str] = "Give the model,\nplease."

    suite = TestProbing()
    suite.analysis = Verbose  # type: ignore[misc] # a class variable of subclasses; here one instance stands for one
    with pytest.raises(AssertionError, match="an error of several lines"):
        suite.test_stored_activations_give_the_result_of_live_ones(tmp_path)


def test_an_analysis_is_given_the_data_and_what_is_known_of_it() -> None:
    seen: list[Any] = []

    class Looking(Probing):
        def run(self, context: Context, parameters: Parameters) -> xr.Dataset:
            seen.append((context.data, context.described()))
            return super().run(context, parameters)

    data = ImageArray(IMAGES)
    run_planted(Looking, {"net": arrays()}, data=data)
    assert seen[0][0] is data
    assert "red" in seen[0][1]
    known = xr.Dataset({"red": ("sample", np.zeros(20))})
    run_planted(Looking, {"net": arrays()}, data=data, described=known)
    assert seen[1][1] is known
    with pytest.raises(InputError, match="is an image, and model 'net' has no preprocessing of images"):
        run_planted(Looking, {"net": arrays()})
    assert seen[2] == (None, None)
