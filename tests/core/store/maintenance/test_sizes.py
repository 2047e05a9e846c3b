import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from outcrop.store.maintenance import measure_study
from outcrop.store.study import Study


def test_the_parts_of_a_study_sum_to_what_its_folder_takes(fill: Callable[..., Study], tmp_path: Path) -> None:
    study = fill(tmp_path / "s.zarr")
    files = [path for path in (tmp_path / "s.zarr").rglob("*") if path.is_file()]
    size = study.size()
    assert size.stored == sum(os.path.getsize(path) for path in files)
    assert size.files == len(files)


def test_layers_are_told_by_name_in_their_order_with_the_bytes_of_their_values(
    fill: Callable[..., Study], place: Any
) -> None:
    parts = [part for part in measure_study(fill(place)).parts if part.part == "activations"]
    net = [part for part in parts if part.group.startswith("net-")]
    assert [part.name for part in net] == ["", "stem/Conv", *(f"block.{i}" for i in range(5))]
    assert [part.logical for part in net] == [0, 20 * 18 * 4, *[20 * 4 * 4] * 5]
    # Checksums, the index of the shard and metadata come on top of the values.
    assert all(part.stored > part.logical for part in net)
    assert all(part.files == 3 for part in net[1:])


def test_runs_and_data_are_measured_too(fill: Callable[..., Study], place: Any) -> None:
    study = fill(place)
    run = next(iter(study.results["blocks"].children))
    size = study.size()
    result = next(part for part in size.parts if part.name == run)
    leaves = study.result("blocks").children.values()
    numbers = sum(v.nbytes for leaf in leaves for v in leaf.variables.values() if v.dtype.kind in "fib")
    assert (result.part, result.group) == ("results", "blocks")
    assert numbers <= result.logical <= result.stored
    [data] = [part for part in size.parts if part.part == "data"]
    assert data.group == study.activations["net"].data
    assert 0 < data.logical < data.stored


def test_groups_sum_their_parts_and_come_by_size(fill: Callable[..., Study], place: Any) -> None:
    size = fill(place).size()
    groups = size.groups()
    assert sum(group.stored for group in groups) == size.stored
    assert sum(group.logical for group in groups) == size.logical
    assert [group.stored for group in groups] == sorted((group.stored for group in groups), reverse=True)
    assert len([group for group in groups if group.part == "activations"]) == 2
