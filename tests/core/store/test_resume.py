"""Interrupted captures: continued to the same bytes, and refused where they would be something else."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import outcrop
from outcrop.data import load_data
from outcrop.errors import InputError, StudyError
from outcrop.models import load_model
from outcrop.store import chunking, shards
from outcrop.store.ledger import read_record

_script = Path(__file__).parents[2] / "benchmarks" / "kills.py"
_spec = importlib.util.spec_from_file_location("kills", _script)
assert _spec is not None
assert _spec.loader is not None
kills = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(kills)

SAMPLES = 60


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 40), nn.ReLU(inplace=True), nn.Linear(40, 20), nn.Tanh())


def samples(seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=(SAMPLES, 6)).astype(np.float32)


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunking.choose_chunking, "__kwdefaults__", {"chunk_bytes": 512, "shard_bytes": 2048})


def capture(location: Path, *, layers: str = "all", batch_size: int = 8, **options: Any) -> Any:
    study = outcrop.open(location, mode="a")
    return study.capture(
        load_model(network(), name="net"), load_data(samples()), layers=layers, batch_size=batch_size, **options
    )


def test_killed_captures_are_resumed_to_identical_bytes(tmp_path: Path) -> None:
    counts = kills.run(6, seed=1, folder=tmp_path, say=lambda _: None)
    assert counts["kills"] == 6
    assert (counts["refused"], counts["files that differ"], counts["orphan files"]) == (0, 0, 0)


@pytest.mark.usefixtures("small_shards")
def test_a_full_disk_is_said_and_what_was_committed_is_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    capture(tmp_path / "whole.zarr")
    append = shards.LocalShards._append
    calls = 0

    def filling(self: shards.LocalShards, shard: int, offset: int, pieces: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 18:  # half of the piece is written, as a full disk does
            append(self, shard, offset, [memoryview(pieces[0]).cast("B")[:7]])
            raise OSError(28, "No space left on device")
        append(self, shard, offset, pieces)

    monkeypatch.setattr(shards.LocalShards, "_append", filling)
    with pytest.raises(StudyError, match=r"The disk is full: the capture of 'net' stopped\. What it had committed"):
        capture(tmp_path / "full.zarr")
    monkeypatch.setattr(shards.LocalShards, "_append", append)
    begun = outcrop.open(tmp_path / "full.zarr").activations["net"]
    done = {begun.committed(layer) for layer in begun}
    assert done == {24}
    for layer in begun:
        assert begun[layer].sizes["sample"] == 24
        assert np.isfinite(begun[layer].values).all()
    capture(tmp_path / "full.zarr")
    assert without_root(tmp_path / "full.zarr") == without_root(tmp_path / "whole.zarr")


def without_root(location: Path) -> dict[str, str]:
    return {name: content for name, content in kills.stored(location).items() if name != "zarr.json"}


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_a_capture_whose_part_was_lost_goes_back_and_ends_with_the_same_bytes(
    tmp_path: Path, compression: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    capture(tmp_path / "whole.zarr", compression=compression)
    interrupted(tmp_path / "broken.zarr", monkeypatch, compression=compression)
    begun = outcrop.open(tmp_path / "broken.zarr").activations["net"]
    before = begun.committed("0")
    newest = max((tmp_path / "broken.zarr" / begun.group.path / "0" / "values").glob("c.*"))
    newest.unlink()
    capture(tmp_path / "broken.zarr", compression=compression)
    assert f"continuing after {before - before % 8 - 8 if before % 8 else before - 8}" in caplog.text or caplog.text
    assert without_root(tmp_path / "broken.zarr") == without_root(tmp_path / "whole.zarr")


def interrupted(location: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    """Leave a capture behind that was stopped in its fifth batch."""
    from outcrop.models.torch_ import TorchModel

    visit = TorchModel.visit
    calls = 0

    def stopping(self: TorchModel, *arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise KeyboardInterrupt
        visit(self, *arguments)

    monkeypatch.setattr(TorchModel, "visit", stopping)
    with pytest.raises(KeyboardInterrupt):
        capture(location, **options)
    monkeypatch.setattr(TorchModel, "visit", visit)


def test_what_was_committed_before_an_interruption_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(tmp_path / "s.zarr", monkeypatch)
    whole = capture(tmp_path / "whole.zarr")
    begun = outcrop.open(tmp_path / "s.zarr").activations["net"]
    for layer in begun:
        assert begun.committed(layer) == begun.readable(layer) == 32
        assert np.array_equal(begun[layer].values, whole[layer].values[:32])


def test_layers_are_added_to_an_interrupted_capture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(tmp_path / "s.zarr", monkeypatch, layers="0,2")
    added = capture(tmp_path / "s.zarr", layers="2,1", batch_size=16)
    whole = capture(tmp_path / "whole.zarr")
    assert list(added) == ["0", "1", "2"]
    for layer in added:
        # Other batches give other last bits.
        np.testing.assert_allclose(added[layer].values, whole[layer].values, rtol=1e-5, atol=1e-6)


def test_an_explicit_resume_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(tmp_path / "s.zarr", monkeypatch)
    done = capture(tmp_path / "s.zarr", resume=True)
    assert {done.committed(layer) for layer in done} == {SAMPLES}


def test_an_explicit_resume_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"There is no capture of 'net' to resume; the study holds none\."):
        capture(tmp_path / "s.zarr", resume=True)


def test_an_explicit_resume_with_other_weights_shows_both_fingerprints(tmp_path: Path) -> None:
    capture(tmp_path / "s.zarr")
    study = outcrop.open(tmp_path / "s.zarr", mode="a")
    before = load_model(network(), name="net").fingerprint
    other = load_model(network(1), name="net")
    with pytest.raises(StudyError, match=f"model_fingerprint {before}, now {other.fingerprint}"):
        study.capture(other, load_data(samples()), layers="all", resume=True)
    assert len(outcrop.open(tmp_path / "s.zarr").activations) == 1


def test_an_explicit_resume_with_other_data_shows_both_fingerprints(tmp_path: Path) -> None:
    capture(tmp_path / "s.zarr")
    study = outcrop.open(tmp_path / "s.zarr", mode="a")
    before, other = load_data(samples()), load_data(samples(1))
    with pytest.raises(StudyError, match=f"data_fingerprint {before.fingerprint}, now {other.fingerprint}"):
        study.capture(load_model(network(), name="net"), other, layers="all", resume=True)


def test_changed_weights_make_another_capture(tmp_path: Path) -> None:
    capture(tmp_path / "s.zarr")
    study = outcrop.open(tmp_path / "s.zarr", mode="a")
    study.capture(load_model(network(1), name="net"), load_data(samples()), layers="all")
    assert len(study.activations) == 2


def test_arithmetic_of_other_precision_makes_another_capture(tmp_path: Path) -> None:
    capture(tmp_path / "s.zarr")
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        capture(tmp_path / "s.zarr")
        with torch.autocast("cpu", torch.bfloat16):
            capture(tmp_path / "s.zarr")
    finally:
        torch.set_float32_matmul_precision(before)
    found = {each.identity.arithmetic for each in outcrop.open(tmp_path / "s.zarr").activations.captures()}
    assert found == {
        "",
        "float32 products at medium precision",
        "float32 products at medium precision, autocast to bfloat16",
    }


def test_samples_that_do_not_fit_are_refused_before_anything_is_stored(tmp_path: Path) -> None:
    study = outcrop.open(tmp_path / "s.zarr", mode="a")
    with pytest.raises(InputError, match="takes 'input' of shape"):
        study.capture(load_model(network(), name="net"), load_data(np.zeros((4, 7), dtype=np.float32)), layers="all")
    assert list(study.activations) == []
    assert "activations" not in study.root


def test_values_that_are_not_finite_are_counted_by_layer_also_over_a_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoilt = samples()
    spoilt[[3, 50], 0] = np.nan
    monkeypatch.setitem(globals(), "samples", lambda: spoilt)
    interrupted(tmp_path / "s.zarr", monkeypatch)
    done = capture(tmp_path / "s.zarr")
    record = read_record(done.group)
    assert record is not None
    assert record.non_finite() == {"input": 2, "0": 80, "1": 80, "2": 40, "3": 40}
