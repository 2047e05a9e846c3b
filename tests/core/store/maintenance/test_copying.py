import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from zarr.abc.store import Store
from zarr.storage import MemoryStore, WrapperStore

import outcrop
from outcrop.errors import (
    AnalysisNotFoundError,
    LayerNotFoundError,
    ModelNotFoundError,
    ParameterError,
    StudyError,
    StudyNotFoundError,
)
from outcrop.store.maintenance.objects import Objects
from outcrop.store.study import Study
from outcrop.testing import ArrayModel, IndexData


def chunks(study: Study) -> dict[str, str]:
    """Return a hash of every file that holds values of layers, by key."""
    objects = Objects(study.root)
    return {
        key: hashlib.sha256(objects.read(key) or b"").hexdigest()
        for key in objects.sizes("activations")
        if not key.endswith("zarr.json")
    }


def test_a_whole_copy_holds_the_same_files_and_opens_with_plain_xarray(
    fill: Callable[..., Study], place: Any, tmp_path: Path
) -> None:
    study = fill(place)
    done = study.copy(tmp_path / "copy.zarr")
    copy = outcrop.open(tmp_path / "copy.zarr")
    assert chunks(copy) == chunks(study)
    assert len(done.copied) == 1 + 1 + 2 * 6
    assert (done.present, done.left_out) == ((), {})
    assert done.stored > 0
    xr.testing.assert_identical(copy.results, study.results)
    xr.testing.assert_identical(copy.data, study.data)
    tree = xr.open_datatree(tmp_path / "copy.zarr", engine="zarr")
    node = study.activations["net"].node
    np.testing.assert_array_equal(
        tree[f"activations/{node}/block.0/values"].values, study.activations["net"]["block.0"].values
    )
    assert copy.prune() == ()


def test_a_copy_of_a_copy_can_be_run_and_captured_into(
    fill: Callable[..., Study], place: Any, make_model: Callable[..., ArrayModel], data: IndexData
) -> None:
    study = fill(place, layers="block")
    copy = outcrop.open(MemoryStore(), mode="a")
    study.copy(copy, captures="net")
    assert len(copy.results.children) == 0
    more = copy.capture(make_model("net"), data, layers="all", batch_size=8)
    assert list(more) == ["stem/Conv", *(f"block.{i}" for i in range(5))]
    result = copy.run("blocks", models=["net"], layers="block", parameters={"bootstrap": 0})
    expected = study.run("blocks", models=["net"], layers="block", parameters={"bootstrap": 0})
    xr.testing.assert_identical(result["pairwise"].to_dataset(), expected["pairwise"].to_dataset())


def test_a_part_is_copied_with_the_data_that_it_refers_to(fill: Callable[..., Study], place: Any) -> None:
    study = fill(place)
    part = outcrop.open(MemoryStore(), mode="a")
    study.copy(part, captures="n*", layers="block.[12]")
    assert {name: list(capture) for name, capture in part.activations.items()} == {"net": ["block.1", "block.2"]}
    assert list(part.results.children) == []
    assert list(part.data.children) == list(study.data.children)
    results = outcrop.open(MemoryStore(), mode="a")
    study.copy(results, results="blocks/*")
    assert list(results.activations) == []
    assert list(results.data.children) == list(study.data.children)
    xr.testing.assert_identical(results.results, study.results)


def test_what_is_there_is_not_written_again(fill: Callable[..., Study], place: Any) -> None:
    study, store = fill(place), MemoryStore()
    first = study.copy(store, layers="block.0")
    second = study.copy(store)
    assert set(second.present) == {path for path in first.copied if "data" in path or "block" in path}
    third = study.copy(store)
    assert (third.copied, third.stored) == ((), 0)
    assert set(third.present) == {*first.copied, *second.copied}


def test_some_samples_are_a_capture_of_data_of_its_own(
    fill: Callable[..., Study], place: Any, tmp_path: Path, make_model: Callable[..., ArrayModel]
) -> None:
    study = fill(place)
    done = study.copy(tmp_path / "few.zarr", captures="net", samples=6)
    few = outcrop.open(tmp_path / "few.zarr")
    [capture] = few.activations.values()
    ids = capture["block.0"]["sample"].values.tolist()
    assert ids == ["1", "5", "8", "11", "15", "18"]  # centres of six equal parts of twenty
    for layer, values in study.activations["net"].items():
        np.testing.assert_array_equal(capture[layer].values, values.sel(sample=ids).values)
    assert capture.data != study.activations["net"].data
    assert capture.identity.data_fingerprint == few.data[capture.data].attrs["fingerprint"]
    assert few.data[capture.data].sizes["sample"] == 6
    assert done.copied == (f"activations/{capture.node}",)
    assert done.stored == 6 * (18 + 5 * 4) * 4
    # Again, it is there already; and with all samples it is the capture itself.
    study.copy(tmp_path / "few.zarr", captures="net", samples=6)
    assert len(outcrop.open(tmp_path / "few.zarr").activations) == 1
    whole = outcrop.open(MemoryStore(), mode="a")
    study.copy(whole, samples=20)
    assert chunks(whole) == chunks(study)


def test_layers_that_are_not_finished_are_left_out_and_told(tmp_path: Path, data: IndexData) -> None:
    class Interrupted(ArrayModel):
        calls = 0

        def visit(self, *arguments: Any) -> None:
            self.calls += 1
            if self.calls == 3:
                raise KeyboardInterrupt
            super().visit(*arguments)

    study = outcrop.open(tmp_path / "s.zarr", mode="a")
    model = Interrupted("net", {"a": np.ones((20, 4), np.float32), "b": np.ones((20, 4), np.float32)})
    study.capture(model, IndexData(20), layers="a", batch_size=20)
    with pytest.raises(KeyboardInterrupt):
        study.capture(model, data, layers="b", batch_size=8)
    copy = outcrop.open(tmp_path / "copy.zarr", mode="a")
    [(path, why)] = study.copy(copy).left_out.items()
    assert path == f"activations/{study.activations['net'].node}/b"
    assert why.startswith("unfinished: ")
    assert why.endswith(" of 20 samples are stored")
    assert list(copy.activations["net"]) == ["a"]


def test_damaged_values_are_named_and_not_copied(fill: Callable[..., Study], tmp_path: Path) -> None:
    study = fill(tmp_path / "s.zarr")
    [shard] = sorted((tmp_path / "s.zarr" / "activations" / study.activations["net"].node / "block.1").rglob("c.*"))[:1]
    content = bytearray(shard.read_bytes())
    content[3] ^= 1
    shard.write_bytes(content)
    with pytest.raises(
        StudyError,
        match=r"Layer 'block.1' of activations/net-.* cannot be copied: samples 0 to .* are damaged: .*checksum",
    ):
        study.copy(tmp_path / "copy.zarr")
    copy = outcrop.open(tmp_path / "copy.zarr")
    assert "block.1" not in copy.activations["net"]
    assert "block.0" in copy.activations["net"]
    shard.unlink()
    with pytest.raises(StudyError, match=r"cannot be copied: 1 of its files are missing"):
        study.copy(tmp_path / "copy.zarr", captures="net", layers="block.1")
    study.copy(tmp_path / "copy.zarr", layers="block.[0234]")


def test_two_studies_are_merged_layer_by_layer(
    fill: Callable[..., Study], make_model: Callable[..., ArrayModel], data: IndexData, place: Any
) -> None:
    first = fill(place, models=("net",), layers="block.0")
    second = outcrop.open(MemoryStore(), mode="a")
    second.capture(make_model("net"), data, layers="block.[01]", batch_size=8)
    second.capture(make_model("other", seed=1), data, layers="block.2", batch_size=8)
    done = first.merge(second)
    assert {name: list(capture) for name, capture in first.activations.items()} == {
        "net": ["block.0", "block.1"],
        "other": ["block.2"],
    }
    assert len(done.present) == 2  # the data and block.0
    assert first.merge(second).copied == ()
    np.testing.assert_array_equal(
        first.activations["net"]["block.1"].values, second.activations["net"]["block.1"].values
    )


def test_a_conflict_is_named_and_nothing_of_that_study_is_copied(
    fill: Callable[..., Study], tmp_path: Path, make_model: Callable[..., ArrayModel], data: IndexData
) -> None:
    first, second = fill(tmp_path / "a.zarr", models=("net",)), fill(tmp_path / "b.zarr", models=("net", "other"))
    array: Any = second.root[f"activations/{second.activations['net'].node}/block.3/values"]
    changed = array[:]
    changed[11] += 1
    array[:] = changed
    [run] = second.results["blocks"].children
    share: Any = second.root[f"results/blocks/{run}/per_layer/pc_share"]
    share[:] = share[:] / 2
    before = Objects(first.root).sizes()
    with pytest.raises(
        StudyError,
        match=r"Nothing was copied: both studies hold, and differ in, results/blocks/\w+ \(other numbers in per_layer\)"
        r"; activations/net-.*/block.3 \(other values in samples 0 to 19\)\. Leave these out",
    ):
        first.merge(second)
    assert Objects(first.root).sizes() == before
    first.copy(tmp_path / "c.zarr")
    second.copy(tmp_path / "c.zarr", captures="other")
    assert list(outcrop.open(tmp_path / "c.zarr").activations) == ["net", "other"]


def test_other_samples_under_one_name_are_a_conflict(fill: Callable[..., Study], tmp_path: Path) -> None:
    first, second = fill(tmp_path / "a.zarr", models=("net",)), fill(tmp_path / "b.zarr", models=("net",))
    node = second.activations["net"].data
    second.root[f"data/{node}"].attrs["fingerprint"] = "other"
    with pytest.raises(StudyError, match=r"data/index-\w+ \(other samples\)"):
        first.merge(second)
    second.root[f"data/{node}"].attrs["fingerprint"] = first.root[f"data/{node}"].attrs["fingerprint"]
    ids: Any = second.root[f"data/{node}/sample"]
    ids[3:4] = np.array(["x"], dtype=np.dtypes.StringDType())
    with pytest.raises(StudyError, match=r"data/index-\w+ \(other sample ids\)"):
        first.merge(second)


def test_a_layer_of_another_shape_or_unfinished_there_is_a_conflict(
    tmp_path: Path, data: IndexData, fill: Callable[..., Study]
) -> None:
    from outcrop.store.ledger import read_record, write_record

    first, second = fill(tmp_path / "a.zarr", models=("net",)), fill(tmp_path / "b.zarr", models=("net",))
    capture: Any = second.root[f"activations/{second.activations['net'].node}"]
    capture.create_array("block.2/values", shape=(20, 3), chunks=(20, 3), dtype="float32", overwrite=True)
    with pytest.raises(StudyError, match=r"block.2 \(float32 \(20, 3\) here and float32 \(20, 4\) there\)"):
        first.merge(second)
    mine: Any = first.root[capture.path]
    record = read_record(mine)
    assert record is not None
    entry = record.ledger[0].model_copy(update={"readable": 8, "samples": 8})
    write_record(mine, record.model_copy(update={"ledger": (entry,)}))
    first = outcrop.open(tmp_path / "a.zarr", mode="a")
    with pytest.raises(
        StudyError, match=r"block.0 \(there it is unfinished; finish it, or prune --unfinished\).*and 2 more"
    ):
        first.merge(second)


def test_values_that_cannot_be_read_are_a_conflict_too(fill: Callable[..., Study], tmp_path: Path) -> None:
    first, second = fill(tmp_path / "a.zarr", models=("net",)), fill(tmp_path / "b.zarr", models=("net",))
    [shard] = sorted((tmp_path / "b.zarr" / "activations" / second.activations["net"].node / "block.1").rglob("c.*"))[
        :1
    ]
    content = bytearray(shard.read_bytes())
    content[3] ^= 1
    shard.write_bytes(content)
    with pytest.raises(StudyError, match=r"block.1 \(samples 0 to 19 cannot be read here: .*checksum"):
        first.merge(second)


def test_results_with_other_leaves_are_a_conflict(fill: Callable[..., Study], tmp_path: Path) -> None:
    first, second = fill(tmp_path / "a.zarr", models=("net",)), fill(tmp_path / "b.zarr", models=("net",))
    [run] = second.results["blocks"].children
    del second.root[f"results/blocks/{run}/blocks"]
    with pytest.raises(StudyError, match=r"\(pairwise, per_layer here and blocks, pairwise, per_layer there\)"):
        first.merge(second)


def test_a_study_is_not_copied_into_itself(fill: Callable[..., Study], tmp_path: Path) -> None:
    study = fill(tmp_path / "s.zarr")
    (tmp_path / "link.zarr").symlink_to(tmp_path / "s.zarr")
    for place in (tmp_path / "s.zarr", tmp_path / "link.zarr", study):
        with pytest.raises(StudyError, match=r"s.zarr cannot be copied into itself; name another destination\."):
            study.copy(place)
    with pytest.raises(StudyError, match="cannot be copied into itself"):
        study.merge(tmp_path / "s.zarr")


def test_what_is_not_there_is_told_before_a_destination_is_made(fill: Callable[..., Study], tmp_path: Path) -> None:
    study, destination = fill(tmp_path / "s.zarr"), tmp_path / "copy.zarr"
    with pytest.raises(ModelNotFoundError, match=r"no capture 'nex'\. Did you mean 'net'\? It holds net, other\."):
        study.copy(destination, captures="nex")
    with pytest.raises(LayerNotFoundError, match=r"no layer 'block' to copy\. Did you mean 'block\.\d'"):
        study.copy(destination, layers="block")
    with pytest.raises(AnalysisNotFoundError, match=r"no result 'block'\. Did you mean 'blocks'\? It holds blocks\."):
        study.copy(destination, results="block")
    with pytest.raises(ParameterError, match=r"The number of samples is 0; expected at least 1\."):
        study.copy(destination, samples=0)
    with pytest.raises(StudyNotFoundError, match="No study at"):
        study.merge(tmp_path / "none.zarr")
    assert not destination.exists()


def test_killed_at_any_moment_a_copy_is_a_valid_study_and_the_next_one_ends_it(
    fill: Callable[..., Study], failing: Any
) -> None:
    study = fill(MemoryStore())
    expected, kills = chunks(study), 0
    while True:
        memory = MemoryStore()
        failing.left = 1 << 60
        target = outcrop.open(failing(memory), mode="a")
        failing.left = kills
        try:
            study.copy(target)
            break
        except failing.killed:
            pass
        failing.left = 1 << 60
        seen = outcrop.open(memory)
        for capture in seen.activations.values():
            for layer in capture:
                np.testing.assert_array_equal(capture[layer].values, study.activations[capture.model][layer].values)
        assert list(seen.results.children) in ([], ["blocks"])
        study.copy(failing(memory))
        copy = outcrop.open(memory)
        assert chunks(copy) == expected
        xr.testing.assert_identical(copy.results, study.results)
        assert copy.prune() == ()
        kills += 11
    assert kills > 100


class Forgetful(WrapperStore[Store]):
    """Has a file once and then no more, as a store whose content goes meanwhile."""

    asked = 0

    async def get(self, key: str, *arguments: Any, **keywords: Any) -> Any:
        if key.endswith("block.0/values/c.0.0"):
            self.asked += 1
            if self.asked > 1:
                return None
        return await super().get(key, *arguments, **keywords)


def test_what_goes_while_it_is_copied_is_told(fill: Callable[..., Study]) -> None:
    store = MemoryStore()
    fill(store)
    with pytest.raises(StudyError, match=r"block.0/values/c.0.0 has gone from the study while it was copied"):
        outcrop.open(Forgetful(store)).copy(MemoryStore())
