import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import outcrop
from outcrop.testing import ArrayModel, IndexData


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A study with two captures and a result."""
    made = outcrop.open(tmp_path / "s.zarr", mode="a")
    for seed, name in enumerate(("net", "other")):
        rng = np.random.default_rng(seed)
        arrays = {f"block.{i}": rng.normal(size=(20, 4)).astype(np.float32) for i in range(5)}
        made.capture(ArrayModel(name, arrays), IndexData(20), layers="all")
    made.run("blocks", models=["net"], parameters={"bootstrap": 0})
    return tmp_path / "s.zarr"


def test_size_is_shown_by_group_and_by_layer(study: Path, outcrop_command: Callable[..., Any]) -> None:
    shown = outcrop_command("study", "size", study)
    assert shown.code == 0
    lines = shown.out.splitlines()
    assert lines[0].split() == ["what", "name", "values", "stored", "files"]
    assert [line.split()[0] for line in lines[1:6]].count("capture") == 2
    size = outcrop.open(study).size()
    assert lines[-1] == f"{size.stored / 1000:.1f} kB in {size.files} files, {size.logical / 1000:.1f} kB of values"
    every = outcrop_command("study", "size", study, "--layers").out
    assert every.count("block.") == 10
    told = json.loads(outcrop_command("study", "size", study, "--json").out)
    assert told["stored"] == size.stored
    assert len(told["parts"]) == len(size.parts)
    assert {"part", "group", "name", "logical", "stored", "files"} == set(told["parts"][0])


def test_prune_shows_what_would_go_and_removes_it_when_told_to(
    study: Path, outcrop_command: Callable[..., Any]
) -> None:
    assert outcrop_command("study", "prune", study).out == f"Nothing to remove from {study}\n"
    shown = outcrop_command("study", "prune", study, "--capture", "net", "--layers", "block.[01]")
    assert shown.out.count("named") == 2
    assert shown.out.endswith("would go; add --yes to remove it\n")
    assert len(outcrop.open(study).activations["net"]) == 5
    told = json.loads(
        outcrop_command("study", "prune", study, "--capture", "net", "--layers", "block.[01]", "--yes", "--json").out
    )
    assert told["removed"] is True
    assert [removal["reason"] for removal in told["removals"]] == ["named", "named"]
    assert list(outcrop.open(study).activations["net"]) == ["block.2", "block.3", "block.4"]
    assert "Removed " in outcrop_command("study", "prune", study, "--results", "blocks", "--yes").out
    wrong = outcrop_command("study", "prune", study, "--capture", "nit")
    assert (wrong.code, wrong.err.count("\n")) == (1, 1)
    assert "Did you mean 'net'?" in wrong.err


def test_copy_and_merge_tell_what_they_brought(
    study: Path, tmp_path: Path, outcrop_command: Callable[..., Any]
) -> None:
    copied = outcrop_command("study", "copy", study, tmp_path / "part.zarr", "--capture", "net", "--samples", 4)
    assert copied.code == 0
    assert "copied" in copied.out
    assert outcrop.open(tmp_path / "part.zarr").activations["net"]["block.0"].shape == (4, 4)
    merged = outcrop_command("study", "merge", study, tmp_path / "part.zarr", "--into", tmp_path / "all.zarr")
    assert merged.code == 0
    assert len(outcrop.open(tmp_path / "all.zarr").activations) == 3
    again = json.loads(outcrop_command("study", "merge", study, "--into", tmp_path / "all.zarr", "--json").out)
    assert again["copied"] == []
    assert len(again["present"]) == 1 + 1 + 10
    missing = outcrop_command("study", "merge", tmp_path / "no.zarr", "--into", tmp_path / "new.zarr")
    assert missing.code == 1
    assert "No study at" in missing.err
    assert not (tmp_path / "new.zarr").exists()


def test_the_group_lists_its_commands(outcrop_command: Callable[..., Any]) -> None:
    shown = outcrop_command("study", "--help").out
    assert all(name in shown for name in ("size", "prune", "merge", "copy"))


@pytest.mark.parametrize("asked", [("study", "prune"), ("study", "merge"), ("study", "copy"), ("run",)])
def test_examples_in_the_help_stand_on_lines_of_their_own(
    outcrop_command: Callable[..., Any], asked: tuple[str, ...]
) -> None:
    shown = outcrop_command(*asked, "--help")
    assert any(line.startswith(f"  outcrop {' '.join(asked)} ") for line in shown.out.splitlines())
    assert "\\b" not in shown.out
