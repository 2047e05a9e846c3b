"""Reading a study: lazily, in part, and when files are damaged or gone."""

import itertools
import json
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
import zarr

import outcrop
from outcrop.data import ImageArray
from outcrop.errors import LayerNotFoundError, SampleNotFoundError, StudyError, StudyNotFoundError
from outcrop.models.model import Preprocessing
from outcrop.store.layout import escape, layer_array, layer_id
from outcrop.store.reading.activations import Capture
from outcrop.store.reading.stored_source import StoredSource
from outcrop.store.reading.values import LayerValues
from outcrop.store.study import Study
from outcrop.store.writing.codec import Compression
from outcrop.testing import ArrayModel, IndexData

OpenStudy = Callable[..., Study]


@pytest.fixture
def labelled(open_study: OpenStudy) -> Study:
    """Ten pictures, black to white, of alternating classes; two layers."""
    pictures = np.stack([np.full((32, 32, 3), 25 * index, dtype=np.uint8) for index in range(10)])
    data = ImageArray(pictures, labels=np.arange(10) % 2, classes=["cat", "dog"], name="grey")
    study = open_study()

    class Grey(ArrayModel):
        def visit(self, inputs, layers, visitor):  # type: ignore[no-untyped-def] # the parent's
            # The sample's number can be read off its pixels.
            index = (inputs["sample"].flatten(1).float().mean(1) / 25).round().to(torch.int64)
            super().visit({"sample": index}, layers, visitor)

        def check_inputs(self, inputs):  # type: ignore[no-untyped-def] # pictures and positions alike
            pass

    model = Grey("net", {"layer1.0": np.arange(20.0).reshape(10, 2), "layer2.0": np.arange(30.0).reshape(10, 3)})
    model.preprocessing = Preprocessing("none", lambda image: torch.from_numpy(np.array(image)).float())
    study.capture(model, data, layers="all")
    return study


def values_by_position(view: xr.DataArray) -> list[int]:
    return (view.to_numpy()[:, 0] // view.sizes["feature"]).astype(int).tolist()


def test_samples_are_chosen_by_position_id_slice_and_mask(labelled: Study) -> None:
    capture = labelled.activations["net"]
    for sample, expected in [
        (3, [3]),
        (-1, [9]),
        ("4", [4]),
        ([5, 2, 7], [5, 2, 7]),
        (["7", "1"], [7, 1]),
        (np.array([0, 9]), [0, 9]),
        (slice(2, 5), [2, 3, 4]),
        (slice(None, None, 4), [0, 4, 8]),
        (slice("2", "5"), [2, 3, 4, 5]),
        (slice("5", "3", -1), [5, 4, 3]),
        (slice("2", "0", -1), [2, 1, 0]),
        (np.arange(10) > 7, [8, 9]),
        ([index == 6 for index in range(10)], [6]),
        (xr.DataArray([1, 3], dims="sample"), [1, 3]),
    ]:
        view = capture.sel(sample=sample)["layer2.0"]  # type: ignore[arg-type] # of many types
        assert values_by_position(view) == expected
        assert view["sample"].to_numpy().tolist() == [str(index) for index in expected]
        assert view["label"].to_numpy().tolist() == [index % 2 for index in expected]
        assert view.chunks is not None


def test_samples_are_chosen_by_class_and_by_statistics(labelled: Study) -> None:
    capture = labelled.activations["net"]
    assert values_by_position(capture.sel(label="cat")["layer1.0"]) == [0, 2, 4, 6, 8]
    assert values_by_position(capture.sel(label=1)["layer1.0"]) == [1, 3, 5, 7, 9]
    assert values_by_position(capture.sel(label=["cat", "dog"], sample=[4, 1])["layer1.0"]) == [4, 1]
    bright = capture.sel(layer="layer2.*", label="cat", where=lambda samples: samples.brightness > 0.5)
    assert list(bright) == ["layer2.0"]
    assert values_by_position(bright["layer2.0"]) == [6, 8]
    mask = capture.samples_table.brightness > 0.5
    assert values_by_position(bright.sel(where=mask)["layer2.0"]) == [6, 8]
    assert values_by_position(capture.sel(where=mask.to_numpy()).sel(sample=[-1, 0])["layer1.0"]) == [9, 6]
    assert repr(bright) == "<net: 1 layers, 2 samples>"
    assert len(capture.sel()) == 2
    assert bright.samples_table["brightness"].attrs["long_name"] == "mean luma, 0 to 1"


def test_selections_that_match_nothing_say_what_there_is(
    labelled: Study, open_study: OpenStudy, model: ArrayModel, data: IndexData
) -> None:
    capture = labelled.activations["net"]
    for arguments, message in [
        ({"sample": "11"}, r"There is no sample '11' of 'net'\. Did you mean '1'.*Its 10 ids begin with '0', '1', '2'"),
        (
            {"sample": [1.5]},
            r"There is no sample 1\.5 of 'net': samples are chosen by id, which is text, or by position",
        ),
        ({"sample": 10}, r"There is no sample 10 of 'net'; positions go from 0 to 9"),
        ({"label": "cats"}, r"The samples of 'net' have no class 'cats'\. Did you mean 'cat'\? Classes: cat, dog\."),
        ({"label": 5}, r"None of the 10 samples of 'net' satisfies the selection; widen it\. Known of each sample: "),
        (
            {"where": np.ones(3, bool)},
            r"The mask given as where= is bool of shape \(3,\); expected one truth value for",
        ),
        ({"where": lambda samples: samples.brightness}, r"The mask given as where= is float64 of shape \(10,\)"),
    ]:
        with pytest.raises(SampleNotFoundError, match=message):
            capture.sel(**arguments)  # type: ignore[arg-type] # of many types
    with pytest.raises(LayerNotFoundError, match=r"No layer of model 'net' matches 'layer3\.\*'"):
        capture.sel(layer="layer3.*")
    with pytest.raises(LayerNotFoundError, match=r"holds no layer 'layer2.0' of 'net'\. Did you mean 'layer1.0'"):
        capture.sel(layer="layer1.0")["layer2.0"]
    plain = outcrop.open(labelled.location + "2", mode="a").capture(model, data)
    with pytest.raises(SampleNotFoundError, match="The samples of 'net' have no labels; choose them by sample= or"):
        plain.sel(label="cat")  # type: ignore[attr-defined] # a capture


def test_layers_become_a_dataset_where_they_fit_and_a_tree_always(labelled: Study) -> None:
    capture = labelled.activations["net"]
    with pytest.raises(
        StudyError, match=r"Layers 'layer1.0' and 'layer2.0' differ in 'feature' \(2 and 3\) and cannot"
    ):
        capture.to_dataset()
    dataset = capture.sel(layer="layer1.*").to_dataset()
    assert list(dataset.data_vars) == ["layer1.0"]
    assert dataset["layer1.0"].chunks is not None
    tree = capture.sel(sample=[3]).to_datatree()
    assert set(tree.children) == {"layer1.0", "layer2.0"}
    assert tree["layer2.0/values"].to_numpy().tolist() == [[9.0, 10.0, 11.0]]


def many_shards(study: Study, compression: Compression | None = None) -> tuple[Capture, dict[str, np.ndarray]]:
    """A capture whose layers lie in several shards of several chunks."""
    from outcrop.store.writing import captures, chunking

    arrays = {name: np.random.default_rng(0).normal(size=(48, 5)).astype("f4") for name in ("a", "b")}
    small = chunking.Chunking(4, 16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(captures, "plan_chunking", lambda layers, **_: {layer.name: small for layer in layers})
        study.capture(ArrayModel("net", arrays), IndexData(48), layers="all", batch_size=8, compression=compression)
    return study.activations["net"], arrays


def shard_files(study: Path, layer: str) -> list[Path]:
    return sorted(file for file in study.rglob("c.*") if f"/{layer}/values/" in file.as_posix())


def test_a_lazy_array_has_a_task_for_each_group_of_whole_shards(
    open_study: OpenStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    capture, arrays = many_shards(open_study())
    assert capture["a"].chunks == ((48,), (5,))
    monkeypatch.setattr("outcrop.store.reading.values.TASK_BYTES", 1)
    assert capture["a"].chunks == ((16, 16, 16), (5,))
    for index in [slice(3, 30), slice(40, 4, -3), [1, 17, 2], 5, slice(0, 0)]:
        np.testing.assert_array_equal(capture["a"].isel(sample=index), arrays["a"][index])
        np.testing.assert_array_equal(capture["a"].isel(sample=index, feature=2), arrays["a"][index][..., 2])
    np.testing.assert_array_equal(capture.sel(sample=[45, 0, 17, 44])["b"], arrays["b"][[45, 0, 17, 44]])
    np.testing.assert_array_equal(capture.sel(sample=slice(1, 48, 5))["b"][:, 1:3], arrays["b"][1:48:5, 1:3])


def test_a_damaged_chunk_is_named_and_all_else_can_be_read(open_study: OpenStudy, tmp_path: Path) -> None:
    capture, arrays = many_shards(open_study())
    second = shard_files(tmp_path, "a")[1]
    content = bytearray(second.read_bytes())
    content[4 * 5 * 4 + 4 + 7] ^= 1  # within the second chunk of the shard: samples 20 to 23
    second.write_bytes(content)
    lazy = capture["a"]
    with pytest.raises(
        StudyError,
        match=r"Layer 'a' of 'net' cannot be read for samples 20 to 23 of 48: .*c\.1\.0 is damaged \(its checksum does",
    ):
        lazy.compute()
    assert lazy.chunks == ((48,), (5,))
    for rest in (slice(0, 20), slice(24, 48)):
        np.testing.assert_array_equal(lazy.isel(sample=rest), arrays["a"][rest])
    np.testing.assert_array_equal(capture["b"], arrays["b"])
    source = StoredSource(capture, capture.layers)
    (_, visit), *_ = source.groups(np.random.default_rng(0).permutation(48), 48)
    with pytest.raises(StudyError, match="Layer 'a' of 'net' cannot be read for samples 20 to 23"):
        visit(lambda *_: None)


def test_a_truncated_or_missing_shard_never_passes_for_values(open_study: OpenStudy, tmp_path: Path) -> None:
    capture, arrays = many_shards(open_study())
    first, second, third = shard_files(tmp_path, "b")
    first.write_bytes(first.read_bytes()[:100])
    second.unlink()
    with pytest.raises(StudyError, match=r"samples 0 to 15 of 48: .*/b/values/c\.0\.0 is damaged"):
        capture["b"].compute()
    with pytest.raises(StudyError, match=r"samples 16 to 31 of 48: .*/b/values/c\.1\.0 is missing\. Other samples"):
        capture["b"][16:].compute()
    np.testing.assert_array_equal(capture["b"][32:], arrays["b"][32:])
    third.write_bytes(b"")
    with pytest.raises(StudyError, match=r"samples 40 to 40 of 48: .*c\.2\.0 is damaged"):
        capture["b"][40].compute()


def test_a_study_that_is_deleted_under_a_reader_is_said_to_be_gone(
    open_study: OpenStudy, tmp_path: Path, model: ArrayModel, data: IndexData
) -> None:
    writer = open_study()
    writer.capture(model, data, layers="all")
    reader = open_study("r")
    capture = reader.activations["net"]
    lazy = capture["block.0"]
    layer = shutil.rmtree(next((tmp_path / "s.zarr" / "activations").glob("*/block.1")))
    assert layer is None
    with pytest.raises(StudyError, match=r"Layer 'block.1' of 'net' is gone from .*s\.zarr/activations/net-.*where it"):
        capture["block.1"]
    shutil.rmtree(tmp_path / "s.zarr")
    with pytest.raises(StudyError, match=r"Layer 'block.0' of 'net' cannot be read for samples 0 to 19 .*is missing"):
        lazy.compute()
    for read in (
        lambda: reader.activations["net"],
        lambda: reader.results,
        lambda: reader.result("blocks"),
        lambda: reader.data,
        lambda: capture["stem/conv"],
        lambda: writer.capture(model, data, layers="all"),
    ):
        with pytest.raises(StudyNotFoundError, match=r"The study .*s\.zarr is gone: it was deleted or moved after"):
            read()
    assert not (tmp_path / "s.zarr").exists()


@pytest.mark.parametrize("order", ["sequential", "shuffled", "repeated"])
@pytest.mark.parametrize("budget", [1, 20 * 2 * 5 * 4, 1 << 20])
@pytest.mark.parametrize("group_size", [5, 8, 48])
@pytest.mark.parametrize("compression", [None, "zstd"])
def test_a_stored_source_gives_every_sample_in_any_order(
    open_study: OpenStudy, order: str, budget: int, group_size: int, compression: Compression | None
) -> None:
    capture, arrays = many_shards(open_study(), compression)
    rng = np.random.default_rng(1)
    positions = {"sequential": np.arange(48), "shuffled": rng.permutation(48), "repeated": rng.integers(0, 48, 30)}
    source = StoredSource(capture, capture.layers, memory_budget=budget)
    seen: dict[str, list[np.ndarray]] = {"a": [], "b": []}
    groups = []
    for chosen, visit in source.groups(positions[order], group_size):
        visit(lambda layer, values: seen[layer.name].append(values.numpy()))
        groups.append(chosen)
    assert all(len(chosen) == group_size for chosen in groups[:-1])
    np.testing.assert_array_equal(np.concatenate(groups), positions[order])
    for layer, values in arrays.items():
        np.testing.assert_array_equal(np.concatenate(seen[layer]), values[positions[order]])


def test_a_single_sample_is_read_by_its_position_from_either_end(open_study: OpenStudy) -> None:
    capture, arrays = many_shards(open_study())
    for position in (0, 17, -1, -48):
        np.testing.assert_array_equal(capture.values_of("a")[position], arrays["a"][position])


def test_a_shuffled_pass_reads_every_compressed_chunk_once_where_all_fit(
    open_study: OpenStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    capture, _ = many_shards(open_study(), "zstd")
    rows = []
    read = LayerValues.rows
    monkeypatch.setattr(
        LayerValues, "rows", lambda self, chosen, rest=(): rows.append(len(chosen)) or read(self, chosen, rest)
    )
    source = StoredSource(capture, capture.layers)
    for _, visit in source.groups(np.random.default_rng(0).permutation(48), 4):
        visit(lambda *_: None)
    assert rows == [48, 48]


def test_arrays_without_shards_are_read_as_earlier_versions_wrote_them(open_study: OpenStudy, tmp_path: Path) -> None:
    capture, arrays = many_shards(open_study())
    flags = np.zeros((48, 5), dtype=bool)
    for name, values, fill in (("a", arrays["a"], np.nan), ("b", flags, False)):
        old = capture.group.create_array(
            f"{name}/values", shape=(48, 5), chunks=(8, 5), dtype=values.dtype, fill_value=fill, overwrite=True,
            dimension_names=("sample", "feature"),
        )  # fmt: skip
        old[:] = values
    capture = outcrop.open(tmp_path / "s.zarr").activations["net"]
    np.testing.assert_array_equal(capture["a"], arrays["a"])
    np.testing.assert_array_equal(capture["b"], flags)  # no file at all: zarr leaves out what equals the fill value
    next((tmp_path / "s.zarr" / capture.group.path / "a" / "values" / "c" / "2").glob("*")).unlink()
    with pytest.raises(StudyError, match=r"samples 16 to 23 of 48: .*a/values/c/2/0 is missing"):
        capture["a"].compute()


def test_lazy_arrays_go_to_other_processes(open_study: OpenStudy) -> None:
    capture, arrays = many_shards(open_study())
    there = pickle.loads(pickle.dumps(capture["a"]))
    np.testing.assert_array_equal(there, arrays["a"])


def test_the_same_is_chosen_of_all_models_that_have_it(labelled: Study, make_model: Callable[..., ArrayModel]) -> None:
    labelled.capture(make_model("other"), IndexData(20), layers="all")
    assert {name: list(view) for name, view in labelled.activations.sel(layer="layer1.*").items()} == {
        "net": ["layer1.0"]
    }
    chosen = labelled.activations.sel(sample=[3])
    assert {name: len(view) for name, view in chosen.items()} == {"net": 2, "other": 3}
    with pytest.raises(LayerNotFoundError, match=r"No layer of model 'other' matches 'nothing\*'"):
        labelled.activations.sel(layer="nothing*")


def test_records_are_not_read_again_for_each_layer(open_study: OpenStudy, model: ArrayModel, data: IndexData) -> None:
    study = open_study()
    study.capture(model, data, layers="all")
    assert study.activations["net"] is study.activations["net"]
    before = study.activations["net"]
    open_study().capture(ArrayModel("other", {"a": np.ones((20, 1))}), data, layers="all")
    assert study.activations["net"] is before
    assert set(study.activations) == {"net", "other"}


def test_names_that_differ_in_case_only_have_groups_that_differ_in_more() -> None:
    names = ["conv_0", "Conv_0", "CONV_0", "conv_0~", "x" * 120, "X" * 120, "x" * 119 + "X", "a.", "a", "a ", "Ä", "ä"]
    made = [layer_id(name) for name in names]
    assert len({name.casefold() for name in made}) == len(names)
    assert layer_id("conv_0") == "conv_0"
    assert re.fullmatch(r"Conv_0~[0-9a-f]{12}", layer_id("Conv_0"))
    assert max(map(len, made)) < 120
    pairs = itertools.combinations([escape(name) for name in names[:3]], 2)
    assert all(first.casefold() == second.casefold() for first, second in pairs)


def test_layers_that_differ_in_case_only_keep_their_values_where_case_does_not_count(open_study: OpenStudy) -> None:
    arrays = {"Conv": np.ones((4, 2), "f4"), "conv": np.zeros((4, 2), "f4"), "CONV": np.full((4, 2), 2.0, "f4")}
    capture = open_study().capture(ArrayModel("net", arrays), IndexData(4), layers="all")
    assert {name: values.to_numpy()[0, 0] for name, values in capture.items()} == {"Conv": 1, "conv": 0, "CONV": 2}
    folders = [group.lower() for group in open_study("r").activations["net"].group.group_keys()]
    assert len(set(folders)) == 3


def test_layers_named_as_earlier_versions_named_them_are_read(tmp_path: Path) -> None:
    group = zarr.create_group(tmp_path / "g")
    group.create_array("Conv_0/values", shape=(2,), dtype="f4")
    assert layer_array(group, "Conv_0").path == "Conv_0/values"
    group.create_array(f"{layer_id('Conv_1')}/values", shape=(3,), dtype="f4")
    assert layer_array(group, "Conv_1").shape == (3,)
    with pytest.raises(KeyError):
        layer_array(group, "Conv_2")


def test_one_sample_goes_all_the_way(open_study: OpenStudy) -> None:
    study = open_study()
    captured = study.capture(ArrayModel("net", {"a": np.ones((1, 3), "f4")}), IndexData(1), layers="all")
    assert captured["a"].to_numpy().tolist() == [[1.0, 1.0, 1.0]]
    assert outcrop.open(study.location).activations["net"].samples_table.sizes["sample"] == 1


def test_no_sample_is_refused(open_study: OpenStudy, model: ArrayModel) -> None:
    from outcrop.data.dataset import Data
    from outcrop.errors import DataNotFoundError

    with pytest.raises(DataNotFoundError, match="holds no sample; expected at least one"):
        IndexData(0)

    class Nothing(Data):
        name, source, sample_ids, fingerprint = "nothing", "nothing", (), "0" * 64  # type: ignore[assignment] # constant

        def read(self, index: int) -> object:  # type: ignore[override] # never called
            raise AssertionError

    study = open_study()
    with pytest.raises(DataNotFoundError, match="Data 'nothing' holds no sample; expected at least one"):
        study.capture(model, Nothing())  # type: ignore[abstract] # has what it needs
    with pytest.raises(DataNotFoundError, match="Data 'nothing' holds no sample; expected at least one"):
        study.run("blocks", models=[model], data=Nothing())  # type: ignore[abstract] # as above
    assert not study.activations


def test_statistics_missing_from_an_older_study_do_no_harm(
    open_study: OpenStudy, model: ArrayModel, data: IndexData
) -> None:
    study = open_study()
    study.capture(model, data)
    assert set(study.activations["net"].samples_table.variables) == {"sample"}
    del study.root[f"data/{study.activations['net'].data}"]
    capture = open_study("r").activations["net"]
    assert capture["block.0"]["sample"].to_numpy().tolist() == list(data.sample_ids)
    assert json.loads(json.dumps(capture.classes)) == []
