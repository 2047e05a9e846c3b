import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from zarr.errors import ZarrUserWarning
from zarr.storage import MemoryStore

import outcrop
from outcrop.errors import AnalysisNotFoundError, LayerNotFoundError, ModelNotFoundError, StudyError
from outcrop.store.maintenance import study_size
from outcrop.store.study import Study
from outcrop.testing import ArrayModel, IndexData


def paths(removals: Any) -> dict[str, str]:
    return {removal.path: removal.reason for removal in removals}


def keys(study: Study) -> set[str]:
    from outcrop.store.maintenance.objects import Objects

    return set(Objects(study.root).sizes())


def test_a_study_in_order_has_nothing_to_prune(fill: Callable[..., Study], place: Any) -> None:
    study = fill(place)
    before = keys(study)
    assert study.prune() == ()
    assert study.prune(dry_run=False, unfinished=True, superseded=True) == ()
    assert keys(study) == before


def test_pruning_only_tells_what_would_go_unless_it_is_asked_to_remove(fill: Callable[..., Study], place: Any) -> None:
    study = fill(place)
    before = keys(study)
    planned = study.prune(captures="net")
    assert keys(study) == before
    assert [removal.reason for removal in planned] == ["named"]
    assert planned[0].stored == sum(part.stored for part in study.size().parts if part.group.startswith("net-"))
    assert study.prune(captures="net", dry_run=False) == planned
    assert keys(study) < before
    assert list(study.activations) == ["other"]


def test_some_layers_of_a_capture_go_and_can_be_captured_again(
    fill: Callable[..., Study], place: Any, make_model: Callable[..., ArrayModel], data: IndexData
) -> None:
    study = fill(place)
    expected = {layer: values.values for layer, values in study.activations["net"].items()}
    removals = study.prune(captures="net", layers="block.[01]", dry_run=False)
    assert {removal.layer for removal in removals} == {"block.0", "block.1"}
    assert list(study.activations["net"]) == ["stem/Conv", "block.2", "block.3", "block.4"]
    assert len(study.activations["other"]) == 6
    again = study.capture(make_model("net"), data, layers="all", batch_size=8)
    assert list(again) == list(expected)
    for layer, values in expected.items():
        np.testing.assert_array_equal(again[layer].values, values)


def test_a_capture_goes_with_the_last_of_its_layers(fill: Callable[..., Study], place: Any) -> None:
    study = fill(place)
    removals = study.prune(layers="*", dry_run=False)
    assert all(removal.path.count("/") == 1 for removal in removals if removal.path.startswith("activations"))
    assert list(study.activations) == []
    assert [part for part in study.size().parts if part.part == "activations"] == []


def test_results_go_by_analysis_and_by_run(fill: Callable[..., Study], place: Any) -> None:
    study = fill(place)
    study.run("blocks", models=["other"], parameters={"bootstrap": 0})
    first, second = study.results["blocks"].children
    study.prune(results=f"blocks/{first}", dry_run=False)
    assert list(study.results["blocks"].children) == [second]
    study.prune(results="bl*", dry_run=False)
    assert list(study.results.children) == []


def test_data_goes_once_nothing_refers_to_it(fill: Callable[..., Study], place: Any) -> None:
    study = fill(place)
    study.prune(captures="*", dry_run=False)
    assert len(study.data.children) == 1  # the result is of it
    removals = study.prune(results="*", dry_run=False)
    assert "data that nothing refers to" in paths(removals).values()
    assert len(study.data.children) == 0


def test_plain_readers_see_no_trace_of_what_went(fill: Callable[..., Study], tmp_path: Path) -> None:
    study = fill(tmp_path / "s.zarr")
    study.prune(captures="other", dry_run=False)
    study.prune(layers="block.1", dry_run=False)
    tree = xr.open_datatree(tmp_path / "s.zarr", engine="zarr")
    [capture] = tree["activations"].children.values()
    assert len(capture.children) == 5
    assert not np.isnan(capture["block.2/values"].values).any()


def test_what_killed_writers_left_is_found(fill: Callable[..., Study], tmp_path: Path) -> None:
    study = fill(tmp_path / "s.zarr")
    node, root = study.activations["net"].node, tmp_path / "s.zarr"
    (root / "zarr.abc.partial").write_bytes(b"x")
    (root / "activations" / node / "block.0" / "values" / "c.9.0.part").write_bytes(b"xy")
    (root / "activations" / node / "block.9" / "values").mkdir(parents=True)
    (root / "activations" / node / "block.9" / "values" / "c.0.0").write_bytes(b"xyz")
    study.root.require_group("activations/begun")
    study.root.require_group("results/blocks/begun/pairwise")
    study.root.require_group("data/begun")
    removals = study.prune(dry_run=False)
    assert paths(removals) == {
        f"activations/{node}/block.0/values/c.9.0.part": "part of a shard of a finished layer",
        f"activations/{node}/block.9": "a layer that the ledger does not know",
        "activations/begun": "a capture of which nothing was stored",
        "results/blocks/begun": "a result that was never finished",
        "data/begun": "data that was never finished",
        "zarr.abc.partial": "temporary file of a killed writer",
    }
    assert study.prune() == ()
    assert len(study.activations["net"]) == 6
    assert len(study.result("blocks").children) == 3


class Interrupted(ArrayModel):
    """Stops before its third batch."""

    calls = 0

    def visit(self, *arguments: Any) -> None:
        self.calls += 1
        if self.calls > 2:
            raise KeyboardInterrupt
        super().visit(*arguments)


def test_unfinished_layers_stay_unless_they_are_named(tmp_path: Path, data: IndexData) -> None:
    study = outcrop.open(tmp_path / "s.zarr", mode="a")
    model = Interrupted("net", {"a": np.ones((20, 4), np.float32), "b": np.ones((20, 4), np.float32)})
    with pytest.raises(KeyboardInterrupt):
        study.capture(model, data, layers="all", batch_size=8)
    assert study.prune() == ()
    removals = study.prune(unfinished=True, dry_run=False)
    assert [removal.reason for removal in removals if removal.path.startswith("activations")] == [
        "unfinished: 16 of 20 samples"
    ]
    assert list(study.activations) == []
    model.calls = -100
    assert study.capture(model, data, layers="all", batch_size=8)["a"].shape == (20, 4)


def test_results_of_an_earlier_version_are_superseded(fill: Callable[..., Study], tmp_path: Path) -> None:
    study = fill(tmp_path / "s.zarr")
    [run] = study.results["blocks"].children
    source, older = study.root[f"results/blocks/{run}"], "0" * 12
    stamp = json.loads(source.attrs["provenance"])
    version = stamp["version"]
    stamp |= {"version": "0.9", "run_id": older, "finished": "2020-01-01T00:00:00.000+00:00"}
    study.root.require_group(f"results/blocks/{older}").attrs["provenance"] = json.dumps(stamp)
    assert study.prune() == ()
    removals = study.prune(superseded=True, dry_run=False)
    assert paths(removals) == {f"results/blocks/{older}": f"superseded by run {run} of version {version}"}
    assert list(study.results["blocks"].children) == [run]


def test_a_result_that_another_one_was_built_on_is_not_superseded(fill: Callable[..., Study], tmp_path: Path) -> None:
    study = fill(tmp_path / "s.zarr")
    [run] = study.results["blocks"].children
    stamp = json.loads(study.root[f"results/blocks/{run}"].attrs["provenance"])
    older = stamp | {"version": "0.9", "run_id": "0" * 12, "finished": "2020-01-01T00:00:00.000+00:00"}
    study.root.require_group(f"results/blocks/{'0' * 12}").attrs["provenance"] = json.dumps(older)
    built = stamp | {"analysis": "other", "run_id": "1" * 12, "requires": {"blocks": "0" * 12}}
    study.root.require_group(f"results/other/{'1' * 12}").attrs["provenance"] = json.dumps(built)
    assert study.prune(superseded=True) == ()


def test_a_name_that_matches_nothing_is_told(fill: Callable[..., Study], tmp_path: Path) -> None:
    study = fill(tmp_path / "s.zarr")
    with pytest.raises(
        ModelNotFoundError, match=r"holds no capture 'nett'\. Did you mean 'net'\? It holds net, other\."
    ):
        study.prune(captures="nett")
    with pytest.raises(
        LayerNotFoundError, match=r"holds no layer 'block.7' in these captures\. Did you mean 'block.4'"
    ):
        study.prune(captures="net", layers="block.7")
    with pytest.raises(LayerNotFoundError, match=r"The study holds no layer 'zzz'\.$"):
        study.prune(layers="zzz")
    with pytest.raises(
        AnalysisNotFoundError, match=r"holds no result 'block'\. Did you mean 'blocks'\? It holds blocks\."
    ):
        study.prune(results="block")


def test_a_study_that_is_read_is_not_pruned(fill: Callable[..., Study], tmp_path: Path) -> None:
    fill(tmp_path / "s.zarr")
    study = outcrop.open(tmp_path / "s.zarr")
    assert len(study.prune(captures="net")) == 1
    with pytest.raises(StudyError, match="was opened to read; open it with mode='a'"):
        study.prune(captures="net", dry_run=False)


def test_killed_at_any_moment_pruning_leaves_a_valid_study_and_the_next_one_ends_it(
    fill: Callable[..., Study], failing: Any
) -> None:
    kills = 0
    while True:
        failing.left = 1 << 60
        memory = MemoryStore()
        study = fill(failing(memory))
        values = {layer: array.values for layer, array in study.activations["net"].items()}
        failing.left = kills
        try:
            study.prune(captures="net", layers="block.[0-2]", results="blocks", dry_run=False)
            break
        except failing.killed:
            pass
        failing.left = 1 << 60
        # What a reader still sees, it can read: of a layer that is listed, every value is there.
        seen = outcrop.open(memory)
        for layer, array in seen.activations["net"].items():
            np.testing.assert_array_equal(array.values, values[layer])
        for group in ({}, {"consolidated": False}):
            with warnings.catch_warnings():
                # Files without metadata, which wait for the next pruning, are worth a warning to zarr.
                warnings.simplefilter("ignore", ZarrUserWarning)
                tree = xr.open_datatree(memory, engine="zarr", **group)
            for name, node in next(iter(tree["activations"].children.values())).children.items():
                assert not any(np.isnan(variable.values).any() for variable in node.data_vars.values()), name
        after = outcrop.open(failing(memory), mode="a")
        left = set(after.activations["net"]) & {"block.0", "block.1", "block.2"}
        after.prune(layers="block.[0-2]" if left else None, captures="net" if left else None, dry_run=False)
        if "blocks" in after.results.children:
            after.prune(results="blocks", dry_run=False)
        assert list(after.activations["net"]) == ["stem/Conv", "block.3", "block.4"]
        assert after.prune() == ()
        assert not [key for key in keys(after) if "block.0" in key and "net-" in key]
        kills += 3
    assert kills > 20
    assert study_size(study.root).files > 0


@pytest.mark.parametrize("name", ["a.part", "a.partial"])
def test_a_layer_that_is_named_like_a_temporary_file_goes_like_any_other(tmp_path: Path, name: str) -> None:
    study = outcrop.open(tmp_path / "s.zarr", mode="a")
    values = np.zeros((6, 3), dtype=np.float32)
    study.add_activations({name: values, "b": values}, model="m", data=[f"s{index}" for index in range(6)])
    [removal] = study.prune(layers=name, dry_run=False)
    assert removal.files > 1
    assert list(study.activations["m"]) == ["b"]
    assert not (tmp_path / "s.zarr" / removal.path).exists()
    assert study.prune() == ()
