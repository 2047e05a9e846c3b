import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from outcrop.errors import StudyError
from outcrop.models.model import Layer
from outcrop.store.planning.forecast import forecast
from outcrop.store.planning.space import (
    AUTOMATIC_BYTES,
    capture_bytes,
    check_space,
    fits_automatically,
    free_bytes,
    stored_bytes,
)
from outcrop.store.study import Study
from outcrop.testing import ArrayModel, IndexData


def layer(*shape: int, dtype: str = "float32") -> Layer:
    return Layer(name="a", index=0, kind="conv", operation="Conv", shape=shape, dtype=dtype, dims=())


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A disk with so many free bytes."""
    disk = SimpleNamespace(free=0)
    monkeypatch.setattr("outcrop.store.planning.space.shutil.disk_usage", lambda _: disk)
    return disk


def test_a_capture_takes_the_bytes_of_its_layers_for_every_sample() -> None:
    assert capture_bytes([layer(4, 16, 16), layer(10, dtype="float64")], 3) == 3 * (4 * 16 * 16 * 4 + 10 * 8)


def test_free_space_is_that_of_the_nearest_folder_that_is_there(tmp_path: Path) -> None:
    found = free_bytes(str(tmp_path / "not" / "there" / "s.zarr"))
    assert found == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.05)
    assert free_bytes("s3://bucket/s.zarr") is None


def test_a_capture_that_does_not_fit_is_refused_before_it_begins(tmp_path: Path, free: SimpleNamespace) -> None:
    layers, location = [layer(1000), layer(500)], str(tmp_path / "s.zarr")
    free.free = 1_000_000 * 6000
    assert check_space(location, layers, 1_000_000) == 6_000_000_000
    free.free -= 1
    with pytest.raises(
        StudyError,
        match=r"2 layers of 1000000 samples take 6\.0 GB; 6\.0 GB are free at .*s\.zarr\. "
        r"Choose fewer layers \(--layers\) or samples \(--limit\), or another disk\.",
    ):
        check_space(location, layers, 1_000_000)
    assert check_space("s3://bucket/s.zarr", layers, 1_000_000) == 6_000_000_000


def test_small_activations_are_kept_unless_half_of_the_disk_would_go(tmp_path: Path, free: SimpleNamespace) -> None:
    location = str(tmp_path)
    free.free = 2 * AUTOMATIC_BYTES
    assert fits_automatically(location, [AUTOMATIC_BYTES - 5, 5])
    assert not fits_automatically(location, [AUTOMATIC_BYTES, 1])
    free.free -= 2
    assert not fits_automatically(location, [AUTOMATIC_BYTES])
    assert fits_automatically("s3://bucket/s.zarr", [AUTOMATIC_BYTES])


def test_what_a_study_holds_needs_no_more_room(
    open_study: Callable[..., Study], model: ArrayModel, data: IndexData, free: SimpleNamespace
) -> None:
    study = open_study()
    location = study.location
    assert stored_bytes(location, model, model.layers, data, batch_size=64) == 0
    study.capture(model, data, layers="block")
    stored = stored_bytes(location, model, model.layers, data, batch_size=8)
    assert stored == 20 * (4 + 3) * 4
    free.free = 20 * 2 * 3 * 3 * 4
    assert check_space(location, model.layers, 20, stored=stored) == free.free + stored
    with pytest.raises(StudyError, match="are free at"):
        check_space(location, model.layers, 20)


def test_a_study_that_is_not_there_holds_nothing(tmp_path: Path, model: ArrayModel, data: IndexData) -> None:
    assert stored_bytes(str(tmp_path / "none.zarr"), model, model.layers, data, batch_size=64) == 0


@pytest.mark.parametrize("reduction", ["none", "spatial_mean"])
def test_a_capture_whose_values_depend_on_the_batch_is_there_for_its_batch_size_only(
    open_study: Callable[..., Study], model: ArrayModel, data: IndexData, reduction: str
) -> None:
    model.mode = "batch"
    study = open_study()
    study.capture(model, data, layers=["block.0"], batch_size=8, reduction=reduction)
    sizes = {
        size: stored_bytes(study.location, model, model.layers[1:2], data, batch_size=size, reduction=reduction)
        for size in (8, 5, 20, 64)
    }
    assert sizes[8] > 0 == sizes[5] == sizes[20] == sizes[64]
    study.capture(model, data, layers=["block.0"], batch_size=64, reduction=reduction)  # which is one of all samples
    for size in (20, 64):
        assert stored_bytes(study.location, model, model.layers[1:2], data, batch_size=size, reduction=reduction) > 0
    planned = forecast([(model, model.layers[1:2])], data, location=study.location, batch_size=8)
    assert (planned.present_bytes > 0) is (reduction == "none")
