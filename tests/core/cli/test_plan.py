import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import outcrop


def test_a_plan_lists_layers_disk_memory_and_time_and_writes_nothing(
    outcrop_command: Callable[..., Any], onnx_file: Path, photos: Path, tmp_path: Path
) -> None:
    asked = ("plan", "--model", onnx_file, "--data", photos, "--study", tmp_path / "s.zarr", "--device", "cpu")
    shown = outcrop_command(*asked)
    assert shown.code == 0
    lines = shown.out.splitlines()
    assert lines[0].split() == ["layer", "kind", "shape", "sample", "total", "files", "chunk"]
    assert max(map(len, (line.rstrip() for line in lines[:6]))) <= 80
    assert sum("4 x 16 x 16" in line for line in lines) == 5
    said = {line.split()[0]: line for line in lines[-6:]}
    assert said["total"].startswith("total    5 layers of 12 samples: ")
    assert said["disk"].endswith(f"free at {tmp_path / 's.zarr'}: fits")
    assert "beside the network" in said["memory"]
    assert "float32 in 5 files" in said["total"]
    assert said["time"].endswith("without the disk, from one batch of each model:")
    assert "samples/s on cpu with" in lines[-1]
    assert lines[-1].endswith("(batch of 12)")
    assert not (tmp_path / "s.zarr").exists()
    told = json.loads(outcrop_command(*asked, "--json").out)
    assert told["samples"] == 12
    assert told["fits"] is True
    assert [layer["shape"] for layer in told["layers"]] == [[4, 16, 16]] * 5
    assert told["stored_bytes"] == sum(layer["stored_bytes"] for layer in told["layers"])
    assert told["seconds"] > 0


def test_what_is_stored_is_told_and_two_models_are_one_table(
    outcrop_command: Callable[..., Any], onnx_file: Path, photos: Path, tmp_path: Path
) -> None:
    place = tmp_path / "s.zarr"
    options = ("--data", photos, "--study", place, "--device", "cpu")
    outcrop_command("capture", "--model", onnx_file, *options, "--layers", "*relu*")
    shown = outcrop_command("plan", "--model", onnx_file, "--model", f"two={onnx_file}", *options, "--layers", "block")
    assert shown.code == 0
    assert shown.out.split()[:2] == ["model", "layer"]
    assert "stored" in shown.out.splitlines()[0]
    assert "are to be written" in shown.out
    assert len(outcrop.open(place).activations) == 1


def test_without_a_study_no_disk_is_looked_at(
    outcrop_command: Callable[..., Any], onnx_file: Path, photos: Path
) -> None:
    shown = outcrop_command("plan", "--model", onnx_file, "--data", photos, "--reduction", "spatial_mean")
    assert shown.code == 0
    assert "not looked at; name the study with --study" in shown.out
    assert "4 x 16 x 16" not in shown.out


def test_what_does_not_fit_is_shown_and_refused_as_a_capture_would_be(
    outcrop_command: Callable[..., Any], onnx_file: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outcrop.store.planning.space.shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    options = ("--model", onnx_file, "--data", photos, "--study", tmp_path / "s.zarr", "--device", "cpu")
    planned, captured = outcrop_command("plan", *options), outcrop_command("capture", *options)
    assert planned.code == captured.code == 1
    assert "does not fit" in planned.out
    assert planned.err == captured.err
    assert "are free at" in planned.err


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "1 s"), (80, "80 s"), (600, "10 min"), (9000, "2.5 h")])
def test_times_are_said_as_people_say_them(seconds: float, text: str) -> None:
    from outcrop.cli.plan import time_text

    assert time_text(seconds) == text
