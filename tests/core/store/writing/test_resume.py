"""Interrupted captures: continued to the same bytes, and refused where they would be something else."""

import importlib.util
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from torch import nn

import outcrop
from outcrop.data import load_data
from outcrop.errors import InputError, ParameterError, StudyError
from outcrop.models import load_model
from outcrop.store.layout import write_attributes
from outcrop.store.ledger import read_record
from outcrop.store.writing import chunking, shards
from outcrop.testing import ArrayModel, IndexData

_script = Path(__file__).parents[3] / "benchmarks" / "kills.py"
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
    told = re.search(r"that the ledger tells of are gone; continuing after (\d+) samples and not (\d+)\.", caplog.text)
    assert told is not None
    assert int(told[1]) < int(told[2]) == before == 32
    assert int(told[1]) % 8 == 0
    assert without_root(tmp_path / "broken.zarr") == without_root(tmp_path / "whole.zarr")


@pytest.mark.usefixtures("small_shards")
def test_a_sealed_shard_whose_name_a_power_failure_lost_is_sealed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    capture(tmp_path / "whole.zarr")
    interrupted(tmp_path / "broken.zarr", monkeypatch)
    begun = outcrop.open(tmp_path / "broken.zarr").activations["net"]
    first = tmp_path / "broken.zarr" / begun.group.path / "0" / "values" / "c.0.0"
    first.rename(first.with_name("c.0.0.part"))
    capture(tmp_path / "broken.zarr")
    assert without_root(tmp_path / "broken.zarr") == without_root(tmp_path / "whole.zarr")


def test_a_study_that_is_taken_away_while_it_is_written_is_said_to_be_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = shards.LocalShards._append

    def bereft(self: shards.LocalShards, *arguments: Any) -> None:
        shutil.rmtree(tmp_path / "s.zarr", ignore_errors=True)
        append(self, *arguments)

    monkeypatch.setattr(shards.LocalShards, "_append", bereft)
    with pytest.raises(StudyError, match=r"The study was taken away while 'net' was captured: .*\.part is gone\. Run"):
        capture(tmp_path / "s.zarr")


def test_a_file_of_the_data_that_is_gone_is_not_taken_for_the_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from outcrop.models.torch_ import TorchModel

    def lacking(*_: Any) -> None:
        (tmp_path / "table.csv").read_text()

    monkeypatch.setattr(TorchModel, "visit", lacking)
    with pytest.raises(FileNotFoundError, match=r"table\.csv"):
        capture(tmp_path / "s.zarr")


def test_a_layer_without_values_and_a_batch_without_samples_are_refused(tmp_path: Path) -> None:
    study = outcrop.open(tmp_path / "s.zarr", mode="a")
    empty = ArrayModel("net", {"a": np.zeros((4, 2)), "b": np.zeros((4, 0, 3))})
    with pytest.raises(InputError, match=r"Layer 'b' of 'net' has no values: its shape per sample is \(0, 3\)\. Leave"):
        study.capture(empty, IndexData(4), layers="all")
    with pytest.raises(ParameterError, match=r"The batch size is 0; expected at least 1\."):
        study.capture(empty, IndexData(4), layers="a", batch_size=0)
    assert "activations" not in study.root


def test_an_unfinished_capture_without_shards_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(tmp_path / "s.zarr", monkeypatch, layers="0")
    group = outcrop.open(tmp_path / "s.zarr", mode="a").activations["net"].group
    group.create_array(
        "0/values",
        shape=(SAMPLES, 40),
        chunks=(8, 40),
        dtype="float32",
        overwrite=True,
        dimension_names=("sample", "x"),
    )
    with pytest.raises(StudyError, match=r"The capture net-.* was begun by an earlier outcrop, which wrote no shards"):
        capture(tmp_path / "s.zarr", layers="0")


def test_the_ledger_is_renewed_as_zarr_renews_attributes(tmp_path: Path) -> None:
    said = {"capture": {"samples": 3, "name": "ä", "layers": [1, None]}}
    groups = [zarr.create_group(tmp_path / name, path="a/b", attributes={"kept": 1}) for name in ("theirs", "ours")]
    groups[0].attrs.update(said)
    write_attributes(groups[1], said)
    theirs, ours = (json.loads((tmp_path / name / "a" / "b" / "zarr.json").read_text()) for name in ("theirs", "ours"))
    assert ours == theirs
    assert dict(groups[1].attrs) == {"kept": 1, **said}


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


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    done = capture(tmp_path / "s.zarr")
    record = dict(done.group.attrs)["capture"]
    record["ledger"][0].pop("samples")
    done.group.attrs["capture"] = record
    with pytest.raises(StudyError, match=f"The record of the capture {done.group.path} is damaged"):
        list(outcrop.open(tmp_path / "s.zarr").activations)
