"""What a study tells an analysis of its models and samples."""

from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest
import xarray as xr

import outcrop
from outcrop.analysis.analysis import Analysis, Parameters
from outcrop.analysis.context import Context
from outcrop.data import ImageArray, subset
from outcrop.store import dataset as dataset_module
from outcrop.store.dataset import data_id, read_data, write_data
from outcrop.store.layout import write_dataset
from outcrop.store.study import Study
from outcrop.testing import ArrayModel, IndexData, RespondingModel

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)


class Curious(Analysis):
    """Remembers what it was given."""

    name = "curious"
    summary = "Remembers its context."
    version = "1"
    produces: ClassVar[Mapping[str, str]] = {"per_layer": "per_layer"}
    requires = ("components",)
    seen: ClassVar[dict[str, Any]] = {}

    def run(self, context: Context, parameters: Parameters) -> xr.Dataset:
        described = context.described()
        self.seen.clear()
        self.seen.update(
            data=context.data,
            described=described,
            again=context.described(),
            live={name: context.is_live(name) for name in context.models},
        )
        return context.result("components", "per_layer").load()


@pytest.fixture(autouse=True)
def _plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    from outcrop.plugins import PluginRegistry

    module = ModuleType("curious_plugin")
    module.outcrop_analyses = outcrop.hookimpl(specname="outcrop_analyses")(lambda: [Curious])  # type: ignore[attr-defined] # made here
    monkeypatch.setitem(__import__("sys").modules, "curious_plugin", module)
    entries = [
        EntryPoint("curious", "curious_plugin", "outcrop"),
        EntryPoint("components", "outcrop_components.plugin", "outcrop"),
    ]
    registry = PluginRegistry.load(entries)
    monkeypatch.setattr("outcrop.plugins.plugin_registry", lambda: registry)


@pytest.fixture
def images() -> ImageArray:
    return ImageArray(IMAGES, labels=[0, 1, 2, 0, 1, 2])


@pytest.fixture
def network(images: ImageArray) -> RespondingModel:
    rng = np.random.default_rng(1)
    return RespondingModel("net", {layer: rng.normal(size=(6, 4)) for layer in ("a", "b")}, images)


def count_descriptions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    from outcrop.data import description, statistics

    made: list[str] = []
    original = statistics.describe

    def counted(data: Any, **options: Any) -> Any:
        if len(data) > 1:
            made.append(data.name)
        return original(data, **options)

    monkeypatch.setattr(description, "describe", counted)
    return made


def test_live_models_and_their_data_are_at_hand_and_samples_are_described_once(
    open_study: Callable[..., Study],
    network: RespondingModel,
    images: ImageArray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study = open_study()
    made = count_descriptions(monkeypatch)
    study.run("curious", models=[network], data=images)
    assert Curious.seen["data"] is images
    assert Curious.seen["live"] == {"net": True}
    assert Curious.seen["again"] is Curious.seen["described"]
    # The analysis that is required has written them; they are not read twice.
    assert made == ["images"]
    xr.testing.assert_equal(Curious.seen["described"], study.data[data_id(images)].to_dataset().load())


def test_what_had_to_be_described_is_stored(
    open_study: Callable[..., Study], network: RespondingModel, images: ImageArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = open_study()
    made = count_descriptions(monkeypatch)
    monkeypatch.setattr(Curious, "requires", ())
    monkeypatch.setattr(Curious, "run", lambda _, context, __: (context.described(), per_layer(context))[1])
    study.run("curious", models=[network], data=images)
    assert made == ["images"]
    assert "blue" in study.data[data_id(images)]


def per_layer(context: Context) -> xr.Dataset:
    count = sum(map(len, context.models.values()))
    return xr.Dataset(
        {"degenerate": ("layer", np.zeros(count, bool)), "non_finite_count": ("layer", np.zeros(count, int))},
        context.layer_coordinates(),
    )


def test_a_capture_alone_tells_of_its_samples_and_is_not_live(
    open_study: Callable[..., Study], network: RespondingModel, images: ImageArray
) -> None:
    study = open_study()
    study.capture(network, images, layers="all")
    study.run("curious", models=["net"])
    assert Curious.seen["data"] is None
    assert Curious.seen["live"] == {"net": False}
    described = Curious.seen["described"]
    np.testing.assert_allclose(described["blue"], IMAGES[..., 2].mean(axis=(1, 2)) / 255, atol=1e-6)
    assert described["label"].values.tolist() == [0, 1, 2, 0, 1, 2]
    assert "complete" not in described.attrs


def test_a_live_model_stays_live_where_its_activations_are_stored(
    open_study: Callable[..., Study], network: RespondingModel, images: ImageArray
) -> None:
    study = open_study()
    study.capture(network, images, layers="all")
    study.run("curious", models=[network], data=images)
    assert Curious.seen["live"] == {"net": True}


def test_a_run_is_the_same_whether_its_model_is_live_or_stored(
    open_study: Callable[..., Study], network: RespondingModel, images: ImageArray
) -> None:
    study = open_study()
    study.capture(network, images, layers="all")
    first = study.run("curious", models=[network], data=images)
    assert study.run("curious", models=["net"]).attrs["provenance"] == first.attrs["provenance"]


def test_a_study_of_fewer_statistics_does_not_hide_those_of_the_data(
    open_study: Callable[..., Study],
    network: RespondingModel,
    images: ImageArray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study = open_study()
    monkeypatch.setattr(dataset_module, "STATISTICS_LIMIT", 2)
    study.capture(network, images, layers="all")
    assert "blue" not in study.data[data_id(images)]
    study.run("curious", models=["net"])
    assert "blue" not in Curious.seen["described"]
    study.run("curious", models=[network], data=images, seed=1)
    assert "blue" in Curious.seen["described"]


def test_nothing_is_told_of_data_that_is_not_stored_whole(open_study: Callable[..., Study], images: ImageArray) -> None:
    study = open_study()
    assert read_data(study.root, data_id(images)) is None
    write_dataset(study.root, f"data/{data_id(images)}", xr.Dataset())
    assert read_data(study.root, data_id(images)) is None
    name = write_data(study.root, images, study.progress)
    stored = read_data(study.root, name)
    assert stored is not None
    assert stored.sizes["sample"] == 6
    # What is there is left as it is.
    write_data(study.root, images, study.progress, xr.Dataset())
    assert read_data(study.root, name) is not None


def test_index_data_has_nothing_but_ids(open_study: Callable[..., Study]) -> None:
    model = ArrayModel("net", {layer: np.random.default_rng(2).normal(size=(6, 4)) for layer in ("a", "b")})
    open_study().run("curious", models=[model], data=subset(IndexData(6), range(6)))
    assert set(Curious.seen["described"].variables) == {"sample"}
