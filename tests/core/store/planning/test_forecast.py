import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import outcrop
from outcrop.capture.reductions import parse_reduction
from outcrop.errors import StudyError
from outcrop.models.model import Layer
from outcrop.store.maintenance.objects import Objects
from outcrop.store.planning.forecast import Forecast, LayerForecast, Timing, forecast, measure
from outcrop.testing import ArrayModel, IndexData


def stored(study: Any, suffix: str = "values/c.") -> dict[str, int]:
    return {key: size for key, size in Objects(study.root).sizes("activations").items() if suffix in key}


@pytest.mark.parametrize(("samples", "batch"), [(20, 64), (20, 8), (23, 7), (1, 4), (130, 64)])
def test_bytes_files_and_chunks_are_those_that_a_capture_then_has(tmp_path: Path, samples: int, batch: int) -> None:
    rng = np.random.default_rng(0)
    arrays = {f"{width}": rng.normal(size=(samples, width, 8, 8)).astype(np.float32) for width in (1, 90, 700)}
    model, data = ArrayModel("net", arrays), IndexData(samples)
    location = str(tmp_path / "s.zarr")
    planned = forecast([(model, model.layers)], data, location=location, batch_size=batch)
    assert not (tmp_path / "s.zarr").exists()
    study = outcrop.open(location, mode="a")
    capture = study.capture(model, data, layers="all", batch_size=batch)
    files = stored(study)
    assert planned.files == len(files)
    assert planned.stored_bytes == sum(files.values())
    for one in planned.layers:
        array: Any = capture.group[f"{one.layer.name}/values"]
        assert (one.chunk_samples, one.shard_samples) == (array.chunks[0], array.shards[0])
        assert one.chunks == math.ceil(samples / array.chunks[0])
        assert one.stored_bytes == sum(size for key, size in files.items() if f"/{one.layer.name}/" in key)
        assert one.bytes_per_sample == math.prod(one.layer.shape) * 4


def test_what_the_study_holds_need_not_be_written_again(
    tmp_path: Path, make_model: Callable[..., ArrayModel], data: IndexData
) -> None:
    model, location = make_model(), str(tmp_path / "s.zarr")
    outcrop.open(location, mode="a").capture(model, data, layers="block")
    planned = forecast([(model, model.layers)], data, location=location)
    assert {one.layer.name: one.present for one in planned.layers} == {"stem/conv": 0, "block.0": 20, "block.1": 20}
    assert planned.present_bytes == 20 * 7 * 4
    assert planned.needed_bytes == planned.stored_bytes - planned.present_bytes
    whole = forecast([(model, model.layers[1:])], data, location=location)
    assert whole.seconds == 0
    other = forecast([(make_model(seed=1), model.layers)], data, location=location)
    assert other.present_bytes == 0


def test_a_reduction_makes_less(tmp_path: Path, make_model: Callable[..., ArrayModel], data: IndexData) -> None:
    model = make_model()
    reduction = parse_reduction("spatial_mean")
    whole = forecast([(model, model.layers)], data)
    reduced = forecast([(model, model.layers)], data, reduction=reduction)
    assert [one.layer.shape for one in reduced.layers] == [(2,), (4,), (3,)]
    assert reduced.layers[0].bytes_per_sample == whole.layers[0].bytes_per_sample // 9


def test_several_models_are_planned_together(make_model: Callable[..., ArrayModel], data: IndexData) -> None:
    one, two = make_model("one"), make_model("two", seed=1)
    planned = forecast([(one, one.layers), (two, two.layers[:1])], data)
    assert [layer.model for layer in planned.layers] == ["one"] * 3 + ["two"]
    assert [timing.model for timing in planned.timings] == ["one", "two"]
    assert planned.free is None
    assert planned.fits


def test_free_disk_is_held_against_what_is_to_be_written(
    tmp_path: Path, make_model: Callable[..., ArrayModel], data: IndexData, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model()
    disk = SimpleNamespace(free=0)
    monkeypatch.setattr("outcrop.store.planning.space.shutil.disk_usage", lambda _: disk)
    needed = forecast([(model, model.layers)], data).needed_bytes
    for free, fits in ((needed, True), (needed - 1, False)):
        disk.free = free
        assert forecast([(model, model.layers)], data, location=str(tmp_path / "s.zarr")).fits is fits


def test_something_else_than_a_study_is_told(tmp_path: Path, make_model: Callable[..., ArrayModel]) -> None:
    (tmp_path / "file").write_text("")
    model = make_model()
    with pytest.raises(StudyError, match="is a file; a study is a folder"):
        forecast([(model, model.layers)], IndexData(20), location=str(tmp_path / "file"))


def test_a_warm_batch_is_timed(make_model: Callable[..., ArrayModel], monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model()
    batches: list[int] = []
    visit = model.visit

    def counted(inputs: Any, *rest: Any) -> None:
        batches.append(len(inputs["sample"]))
        visit(inputs, *rest)

    monkeypatch.setattr(model, "visit", counted)
    timing = measure(model, model.layers, IndexData(20), batch_size=64)
    assert batches == [16, 16]  # the first warms it up
    assert timing.samples == 16
    assert timing.device == "cpu"
    assert 0 < timing.forward < 1
    assert 0 < timing.reading < 1
    assert timing.rate == pytest.approx(1 / max(timing.forward, timing.reading))


def test_time_is_that_of_the_samples_which_are_left() -> None:
    layer = Layer("a", "conv", 0, (4,), "float32", "Conv", ("feature",))
    layers = tuple(
        LayerForecast(model, layer, 16, 1600, 1, 1, 100, 100, present) for model, present in (("x", 0), ("y", 60))
    )
    timings = (Timing("x", 16, 0.5, 0.1, "cpu", 1), Timing("y", 16, 0.1, 0.25, "cpu", 1))
    assert Forecast(100, layers, timings, None, 0).seconds == pytest.approx(100 * 0.5 + 40 * 0.25)
