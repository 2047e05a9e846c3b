"""What an analysis can ask of its context: some layers, other samples, and what is known of the samples."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from numpy.typing import NDArray

import outcrop
from outcrop.analysis.context import Context
from outcrop.capture.accumulator import Accumulator
from outcrop.capture.reductions import parse_reduction
from outcrop.capture.source import ActivationSource, LiveSource
from outcrop.data import ArrayData, ImageArray
from outcrop.data.dataset import Data
from outcrop.errors import AnalysisError, DataNotFoundError
from outcrop.models.model import Layer
from outcrop.store.reading.stored_source import StoredSource
from outcrop.testing import ArrayModel, IndexData, RespondingModel


class Gathered(Accumulator):
    """Keeps values by model, layer and sample, and which samples came in which order."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str, int], list[float]] = {}
        self.order: list[int] = []

    def update(self, model: str, layer: Layer, sample_index: NDArray[np.int64], values: torch.Tensor) -> None:
        for index, row in zip(sample_index.tolist(), values.flatten(1).tolist(), strict=True):
            self.values[model, layer.name, index] = row
        self.order += sample_index.tolist()

    def merge(self, other: "Gathered") -> None:
        self.values |= other.values

    def finish(self) -> set[tuple[str, str]]:
        return {(model, layer) for model, layer, _ in self.values}


class Counting(ArrayModel):
    """Remembers which layers it was asked for."""

    asked: "list[set[str]]"

    def visit(self, inputs: Any, layers: Any, visitor: Any) -> None:
        self.asked.append(set(layers))
        super().visit(inputs, layers, visitor)


def make_model(name: str = "net", samples: int = 6) -> Counting:
    rng = np.random.default_rng(0)
    model = Counting(name, {layer: rng.normal(size=(samples, 3)) for layer in ("a", "b", "c")})
    model.asked = []
    return model


def live(*models: ArrayModel, samples: int = 6, **options: Any) -> Context:
    data = IndexData(samples)
    return Context([LiveSource(one, one.layers, data) for one in models], sample_count=samples, **options)


def streamed(context: Context, **options: Any) -> Gathered:
    gathered = Gathered()
    context.stream(gathered, batch_size=4, **options)
    return gathered


def test_only_the_layers_named_are_computed() -> None:
    first, second = make_model("first"), make_model("second")
    found = streamed(live(first, second), layers={"second": ["c", "a"]})
    assert found.finish() == {("second", "a"), ("second", "c")}
    assert first.asked == []
    assert second.asked == [{"a", "c"}] * 2
    found = streamed(live(first, second), layers={"second": ["b"]}, models=["second", "first"])
    assert found.finish() == {("second", "b"), ("first", "a"), ("first", "b"), ("first", "c")}


def test_only_the_layers_named_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study, model = outcrop.open(tmp_path / "s.zarr", mode="a"), make_model()
    study.capture(model, IndexData(6), layers="all")
    source = StoredSource(study.activations["net"], model.layers)
    read: list[str] = []

    class Reading(dict[str, Any]):
        def __getitem__(self, name: str) -> Any:
            read.append(name)
            return super().__getitem__(name)

    monkeypatch.setattr(source, "_values", Reading(source._values))
    found = streamed(Context([source], sample_count=6), layers={"net": {"b"}})
    assert found.finish() == {("net", "b")}
    assert set(read) == {"b"}
    assert [layer.name for layer in source.layers] == ["a", "b", "c"]


def test_layers_that_were_not_selected_are_refused() -> None:
    context = live(make_model())
    with pytest.raises(
        AnalysisError, match="There is no layer 'bb' to stream of model 'net'; .*of the 3 that were sel"
    ):
        streamed(context, layers={"net": ["a", "bb"]})
    with pytest.raises(AnalysisError, match="There is no layer named to stream of model 'net'; name some of the 3"):
        streamed(context, layers={"net": []})
    with pytest.raises(AnalysisError, match="There is no model 'other' to stream; the run is of net"):
        streamed(context, layers={"other": ["a"]})
    with pytest.raises(AnalysisError, match="The models to stream are none; name one or more"):
        streamed(context, layers={})


def test_other_samples_go_through_the_same_layers_in_an_order_of_their_own() -> None:
    model = make_model(samples=9)
    chosen = ArrayData(np.array([7, 8, 2, 5, 0]), name="chosen")
    context = live(model, samples=9, seed=3)
    found = streamed(context, data=chosen, layers={"net": ["b"]})
    expected = dict(enumerate(model._arrays["b"][[7, 8, 2, 5, 0]].tolist()))
    assert {index: row for (_, _, index), row in found.values.items()} == expected
    assert sorted(found.order) == list(range(5))
    assert found.order != list(range(5))
    assert found.order == streamed(context, data=chosen, layers={"net": ["b"]}).order
    assert streamed(context, data=chosen, layers={"net": ["b"]}, shuffle=False).order == list(range(5))


def test_a_reduction_holds_for_other_samples_too() -> None:
    model = ArrayModel("net", {"a": np.random.default_rng(0).normal(size=(5, 2, 3, 3))})
    source = LiveSource(model, model.layers, IndexData(5), reduction=parse_reduction("spatial_mean"))
    found = streamed(Context([source], sample_count=5), data=ArrayData(np.array([4])))
    np.testing.assert_allclose(found.values["net", "a", 0], model._arrays["a"][4].mean(axis=(1, 2)))


def test_images_get_the_preprocessing_of_the_model() -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3), dtype=np.uint8)
    arrays = {"a": np.random.default_rng(1).normal(size=(6, 3))}
    data = ImageArray(images)
    model = RespondingModel("net", arrays, data)
    context = Context([LiveSource(model, model.layers, data)], sample_count=6, data=data)
    found = streamed(context, data=ImageArray(images[[5, 2]]), shuffle=False)
    assert [found.values["net", "a", index] for index in (0, 1)] == arrays["a"][[5, 2]].tolist()


def test_stored_activations_cannot_see_new_samples_without_the_model(tmp_path: Path) -> None:
    study, model = outcrop.open(tmp_path / "s.zarr", mode="a"), make_model()
    study.capture(model, IndexData(6), layers="all")
    source: ActivationSource = StoredSource(study.activations["net"], model.layers)
    context = Context([source], sample_count=6)
    assert not context.is_live("net")
    with pytest.raises(
        AnalysisError, match="'net' is at hand as stored activations, which cannot see new samples: giv"
    ):
        streamed(context, data=IndexData(2))
    context = Context([source], sample_count=6, live={"net": model})
    assert context.is_live("net")
    assert streamed(context, data=ArrayData(np.array([4]))).values["net", "b", 0] == model._arrays["b"][4].tolist()
    assert live(model).is_live("net")
    assert not live(model).is_live("other")


def test_no_other_samples_are_refused() -> None:
    class Empty(IndexData):
        def __init__(self) -> None:
            super().__init__(1)
            self.sample_ids = ()

    with pytest.raises(DataNotFoundError, match="Data 'index' holds no sample"):
        streamed(live(make_model()), data=Empty())


def test_data_of_another_number_of_samples_is_refused() -> None:
    with pytest.raises(AnalysisError, match="Data 'index' has 5 samples and the activations 6; give the data that the"):
        live(make_model(), data=IndexData(5))


def test_what_is_known_of_the_samples_is_found_out_once() -> None:
    class Read(ImageArray):
        reads = 0

        def thumbnail(self, index: int, size: int = 48) -> NDArray[np.uint8]:
            Read.reads += 1
            return super().thumbnail(index, size)

    images = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)
    data: Data = Read(images, labels=[0, 1] * 3, classes=["cat", "dog"])
    context = live(make_model(), data=data)
    found = context.described()
    assert found is not None
    reads = Read.reads
    assert context.described() is found
    assert Read.reads == reads
    np.testing.assert_allclose(found["red"], images[..., 0].mean(axis=(1, 2)) / 255, atol=1e-6)
    assert found["label"].values.tolist() == [0, 1] * 3
    assert found.attrs["classes"] == ["cat", "dog"]


def test_nothing_is_known_where_there_is_no_data_and_what_is_given_is_taken() -> None:
    assert live(make_model()).described() is None
    assert live(make_model()).data is None
    given = xr.Dataset({"red": ("sample", np.arange(6.0))})
    assert live(make_model(), data=IndexData(6), described=lambda: given).described() is given
