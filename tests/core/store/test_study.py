import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from filelock import FileLock

import outcrop
from outcrop.errors import (
    AnalysisError,
    InputError,
    LayerNotFoundError,
    ModelNotFoundError,
    ParameterError,
    StudyError,
    StudyLockedError,
    StudyNotFoundError,
    StudyVersionError,
)
from outcrop.store.study import Study
from outcrop.testing import ArrayModel, IndexData

OpenStudy = Callable[..., Study]
MakeModel = Callable[..., ArrayModel]


class Interrupting(ArrayModel):
    """Is interrupted at one of its batches, once."""

    batches_left: int

    def visit(self, *arguments: object) -> None:
        self.batches_left -= 1
        if self.batches_left == 0:
            raise KeyboardInterrupt
        super().visit(*arguments)  # type: ignore[arg-type] # passed on as they came


def interrupt(model: ArrayModel, *, at: int) -> None:
    model.__class__ = Interrupting
    vars(model)["batches_left"] = at


def values_of(model: ArrayModel, layer: str, samples: int = 20) -> np.ndarray:
    kept: list[np.ndarray] = []
    model.visit({"sample": torch.arange(samples)}, [layer], lambda _, values: kept.append(values.numpy().copy()))
    return kept[0]


def test_a_captured_layer_comes_back_as_a_lazy_array_with_named_dimensions(
    open_study: OpenStudy, model: ArrayModel, data: IndexData
) -> None:
    study = open_study()
    study.capture(model, data, layers="all", batch_size=8)
    values = study.activations["net"]["stem/conv"]
    assert values.dims == ("sample", "channel", "y", "x")
    assert values.chunks is not None
    assert values.sizes["sample"] == 20
    np.testing.assert_array_equal(values.to_numpy(), values_of(model, "stem/conv"))
    assert values["sample"].to_numpy().tolist() == list(data.sample_ids)


def test_layers_are_added_to_a_capture_and_stay_in_topological_order(
    open_study: OpenStudy, model: ArrayModel, data: IndexData
) -> None:
    study = open_study()
    study.capture(model, data, layers="block.1")
    study.capture(model, data, layers="all")
    assert list(study.activations["net"]) == ["stem/conv", "block.0", "block.1"]


def test_what_is_stored_is_not_computed_again(open_study: OpenStudy, model: ArrayModel, data: IndexData) -> None:
    study = open_study()
    study.capture(model, data, layers="all")

    class Refusing(ArrayModel):
        def visit(self, *_: object) -> None:
            raise AssertionError("computed again")

    model.__class__ = Refusing
    study.capture(model, data, layers="all")


def test_other_weights_make_another_capture_and_each_can_be_named(
    open_study: OpenStudy, make_model: MakeModel, data: IndexData
) -> None:
    study = open_study()
    models = [make_model(seed=seed) for seed in (0, 1)]
    for model in models:
        study.capture(model, data, layers="block")
    with pytest.raises(
        StudyError, match=r"holds 2 captures of 'net'; name one of them: 'net-index-\w+' or 'net-index-"
    ):
        study.activations["net"]
    assert len(dict(study.activations)) == len(study.activations) == 2
    stored = {study.activations[node].identity.model_fingerprint: node for node in study.activations}
    for model in models:
        values = study.activations[stored[model.fingerprint]]["block.0"].to_numpy()
        np.testing.assert_array_equal(values, values_of(model, "block.0"))
    assert study.run("blocks", models=[stored[models[1].fingerprint]])["pairwise"].sizes["layer_a"] == 2


def test_a_capture_that_is_interrupted_continues_to_identical_bytes(
    tmp_path: Path, model: ArrayModel, data: IndexData
) -> None:
    whole = outcrop.open(tmp_path / "whole.zarr", mode="a")
    whole.capture(model, data, layers="all", batch_size=6)
    broken = outcrop.open(tmp_path / "broken.zarr", mode="a")
    interrupt(model, at=3)
    with pytest.raises(KeyboardInterrupt):
        broken.capture(model, data, layers="all", batch_size=6)
    capture = broken.activations["net"]
    assert {capture.committed(layer) for layer in capture} == {12}
    assert capture["block.0"].sizes["sample"] == 12
    # Another batch size is asked for; the recorded one is kept.
    broken.capture(model, data, layers="all", batch_size=5)
    assert chunk_bytes(tmp_path / "broken.zarr") == chunk_bytes(tmp_path / "whole.zarr")


def chunk_bytes(study: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(study)): file.read_bytes()
        for file in sorted((study / "activations").rglob("*"))
        if file.is_file() and file.name != "zarr.json"
    }


def test_a_killed_capture_continues_to_identical_bytes(tmp_path: Path) -> None:
    script = """
import os, sys, numpy as np, outcrop
from outcrop.testing import ArrayModel, IndexData

class Dying(ArrayModel):
    calls = 0
    def visit(self, *arguments):
        Dying.calls += 1
        if Dying.calls == int(sys.argv[2]):
            os.kill(os.getpid(), 9)
        super().visit(*arguments)

rng = np.random.default_rng(0)
model = Dying("net", {f"block.{i}": rng.normal(size=(20, 5)).astype("f4") for i in range(3)})
outcrop.open(sys.argv[1], mode="a").capture(model, IndexData(20), layers="all", batch_size=4)
"""

    def call(study: Path, kill_at: int) -> int:
        return subprocess.run([sys.executable, "-c", script, str(study), str(kill_at)], check=False).returncode

    assert call(tmp_path / "whole.zarr", 0) == 0
    assert call(tmp_path / "broken.zarr", 3) == -9
    assert call(tmp_path / "broken.zarr", 0) == 0
    assert chunk_bytes(tmp_path / "broken.zarr") == chunk_bytes(tmp_path / "whole.zarr")
    reference = outcrop.open(tmp_path / "whole.zarr").activations["net"]
    for layer, values in outcrop.open(tmp_path / "broken.zarr").activations["net"].items():
        xr.testing.assert_identical(values.load(), reference[layer].load())


def test_unknown_names_are_answered_with_what_there_is(
    open_study: OpenStudy, model: ArrayModel, data: IndexData
) -> None:
    study = open_study()
    study.capture(model, data, layers="block")
    with pytest.raises(ModelNotFoundError, match=r"no activations of 'nett'\. Did you mean 'net'\? It holds net\."):
        study.activations["nett"]
    with pytest.raises(LayerNotFoundError, match=r"no layer 'block\.7' of 'net'\. Did you mean 'block\.[01]'"):
        study.activations["net"]["block.7"]
    with pytest.raises(LayerNotFoundError):
        study.capture(model, data, layers="nothing.*")


def test_one_capture_is_chosen_by_its_data(open_study: OpenStudy, make_model: MakeModel, data: IndexData) -> None:
    study = open_study()
    study.capture(make_model(), data, layers="block")
    node = study.activations["net"].data
    assert study.activations["net", node].node == study.activations["net"].node
    with pytest.raises(ModelNotFoundError, match="no activations of 'net' on 'other'"):
        study.activations["net", "other"]


def test_a_study_reads_without_outcrop(
    open_study: OpenStudy, tmp_path: Path, model: ArrayModel, data: IndexData
) -> None:
    study = open_study()
    study.capture(model, data, layers="all")
    study.run("blocks", models=[model], data=data)
    script = f"""
import sys, xarray as xr
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0].startswith("outcrop"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
tree = xr.open_datatree({str(tmp_path / "s.zarr")!r}, engine="zarr")
activations = [node for node in tree["activations"].subtree if "values" in node]
assert len(activations) == 3 and activations[0]["values"].load().notnull().all(), activations
maps = [node for node in tree["results/blocks"].subtree if "similarity" in node.data_vars and "layer_a" in node.dims]
assert maps[0]["similarity"].shape == (3, 3), maps
assert "outcrop" not in sys.modules
print("read")
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout == "read\n", done.stderr


def test_a_result_is_stamped_with_what_it_was_made_from(
    open_study: OpenStudy, model: ArrayModel, data: IndexData
) -> None:
    study = open_study()
    result = study.run("blocks", models=[model], data=data, seed=3)
    record = json.loads(result.attrs["provenance"])
    assert record["models"][0]["fingerprint"] == model.fingerprint
    assert record["data"]["fingerprint"] == data.fingerprint
    assert (record["analysis"], record["seed"], record["data"]["samples"]) == ("blocks", 3, 20)
    assert record["layers"] == {"net": ["stem/conv", "block.0", "block.1"]}
    assert record["started"] <= record["finished"]
    assert {"python", "torch", "numpy"} <= set(record["environment"])


def test_the_same_question_is_not_asked_twice_and_another_is(
    open_study: OpenStudy, model: ArrayModel, data: IndexData
) -> None:
    study = open_study()
    first = study.run("blocks", models=[model], data=data)
    again = study.run("blocks", models=[model], data=data)
    assert first.attrs == again.attrs
    study.run("blocks", models=[model], data=data, seed=1)
    assert len(study.results["blocks"].children) == 2
    assert study.result("blocks").attrs != first.attrs


def test_stored_activations_give_the_result_of_live_ones(tmp_path: Path, model: ArrayModel, data: IndexData) -> None:
    live = outcrop.open(tmp_path / "live.zarr", mode="a").run("blocks", models=[model], data=data)
    study = outcrop.open(tmp_path / "stored.zarr", mode="a")
    study.capture(model, data, layers="all", batch_size=7)
    stored = study.run("blocks", models=["net"])
    np.testing.assert_allclose(
        stored["pairwise"]["similarity"], live["pairwise"]["similarity"], rtol=1e-12, equal_nan=True
    )


def test_models_that_cannot_be_compared_are_refused(
    open_study: OpenStudy, make_model: MakeModel, model: ArrayModel, data: IndexData
) -> None:
    study = open_study()
    with pytest.raises(AnalysisError, match="No model was given; give at least one"):
        study.run("blocks", models=[], data=data)
    with pytest.raises(AnalysisError, match="Two models are called 'net'; give one another name"):
        study.run("blocks", models=[model, model], data=data)
    with pytest.raises(AnalysisError, match="'net' was given without data; pass data="):
        study.run("blocks", models=[model])
    study.capture(make_model("other", samples=12), IndexData(12), layers="block")
    study.capture(model, data, layers="block")
    with pytest.raises(AnalysisError, match="The models saw different data"):
        study.run("blocks", models=["net", "other"])
    study.capture(model, data, layers="block", reduction="float16")
    nodes = [capture.node for capture in study.activations.captures() if capture.model == "net"]
    assert len(set(nodes)) == 2
    with pytest.raises(AnalysisError, match="Two models are called 'net'; give one another name"):
        study.run("blocks", models=nodes)


def test_an_unfinished_capture_is_not_analysed(open_study: OpenStudy, model: ArrayModel, data: IndexData) -> None:
    study = open_study()
    interrupt(model, at=2)
    with pytest.raises(KeyboardInterrupt):
        study.capture(model, data, layers="all", batch_size=8)
    with pytest.raises(
        AnalysisError, match=r"'net' is not finished: 8 of 20 samples are stored\. Run the capture again"
    ):
        study.run("blocks", models=["net"])


def test_unknown_parameters_and_wrong_values_are_refused_before_anything_runs(
    open_study: OpenStudy, model: ArrayModel, data: IndexData
) -> None:
    study = open_study()
    with pytest.raises(ParameterError, match=r"'blocks' has no parameter 'batchsize'\. Did you mean 'batch_size'"):
        study.run("blocks", models=[model], data=data, parameters={"batchsize": 3})
    with pytest.raises(ParameterError, match="Parameter 'batch_size' of 'blocks': input should be a valid integer"):
        study.run("blocks", models=[model], data=data, parameters={"batch_size": "many"})
    with pytest.raises(ParameterError, match="The seed is -1; expected a whole number, 0 or above"):
        study.run("blocks", models=[model], data=data, seed=-1)
    assert "results" not in study.root


def test_a_study_that_is_not_there_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(
        StudyNotFoundError, match=r"No study at .*none\.zarr\. 'outcrop capture' and 'outcrop run' make one"
    ):
        outcrop.open(tmp_path / "none.zarr")


def test_something_else_is_not_taken_for_a_study(tmp_path: Path) -> None:
    import zarr

    file = tmp_path / "file"
    file.write_text("text")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "photo.jpg").write_text("text")
    zarr.open_group(tmp_path / "group.zarr", mode="a")
    with pytest.raises(StudyError, match="is a file; a study is a folder"):
        outcrop.open(file, mode="a")
    with pytest.raises(StudyError, match="is a folder with other things in it, not an outcrop study"):
        outcrop.open(folder, mode="a")
    with pytest.raises(StudyError, match="is a zarr group, but not an outcrop study"):
        outcrop.open(tmp_path / "group.zarr")
    with pytest.raises(StudyError, match="Unknown mode 'w' .*; expected 'r' to read or 'a' to add"):
        outcrop.open(tmp_path / "new.zarr", mode="w")


def test_a_study_of_a_newer_format_is_refused_and_stays_readable(
    open_study: OpenStudy, tmp_path: Path, model: ArrayModel, data: IndexData
) -> None:
    study = open_study()
    study.capture(model, data, layers="block")
    study.root.attrs["outcrop_format"] = "2.0"
    with pytest.raises(
        StudyVersionError, match=r"has format 2\.0, written by a newer outcrop; this one reads up to 1\.0"
    ):
        open_study("r")
    tree = xr.open_datatree(tmp_path / "s.zarr", engine="zarr", consolidated=False)
    assert any("values" in node for node in tree.subtree)


def test_a_result_of_a_newer_kind_is_refused_and_the_others_stay_readable(
    open_study: OpenStudy, model: ArrayModel, data: IndexData
) -> None:
    study = open_study()
    old = json.loads(study.run("blocks", models=[model], data=data).attrs["provenance"])["run_id"]
    new = json.loads(study.run("blocks", models=[model], data=data, seed=1).attrs["provenance"])["run_id"]
    study.root[f"results/blocks/{new}/pairwise"].attrs["kind_version"] = "9.0"
    with pytest.raises(StudyVersionError, match="newer outcrop"):
        _ = study.results
    assert study.result("blocks", old)["pairwise"].sizes["layer_a"] == 3


def test_a_study_opened_to_read_is_not_written(open_study: OpenStudy, model: ArrayModel, data: IndexData) -> None:
    open_study()
    with pytest.raises(StudyError, match="was opened to read; open it with mode='a'"):
        open_study("r").capture(model, data)


def test_two_writers_are_kept_apart(open_study: OpenStudy, tmp_path: Path, model: ArrayModel, data: IndexData) -> None:
    study = open_study()
    with (
        FileLock(tmp_path / ".s.zarr.lock"),
        pytest.raises(StudyLockedError, match="Another process is writing to .*; wait for it to finish"),
    ):
        study.capture(model, data)


def test_asking_for_a_result_that_is_not_there_says_what_is(
    open_study: OpenStudy, model: ArrayModel, data: IndexData
) -> None:
    from outcrop.errors import AnalysisNotFoundError

    study = open_study()
    with pytest.raises(
        AnalysisNotFoundError, match=r"holds no result of 'blocks'\. It holds none; 'outcrop run blocks'"
    ):
        study.result("blocks")
    study.run("blocks", models=[model], data=data)
    with pytest.raises(AnalysisNotFoundError, match="holds no run 'abc' of 'blocks'; it holds "):
        study.result("blocks", "abc")


def test_a_result_that_was_being_written_when_killed_does_not_count(
    open_study: OpenStudy, model: ArrayModel, data: IndexData
) -> None:
    study = open_study()
    run = json.loads(study.run("blocks", models=[model], data=data).attrs["provenance"])["run_id"]
    group = study.root[f"results/blocks/{run}"]
    stamp = group.attrs["provenance"]
    del group.attrs["provenance"]
    reopened = open_study()
    assert not reopened.results.children
    again = reopened.run("blocks", models=[model], data=data)
    assert json.loads(again.attrs["provenance"])["run_id"] == run
    assert again.attrs["provenance"] != stamp


@pytest.mark.parametrize(
    "name", ["sample", "zarr.json", "a/b", "..", "_x", "100%", "層" * 60, "x" * 300, "<b>", "a b", "Conv:0", "aux"]
)
def test_any_layer_name_can_be_stored(open_study: OpenStudy, name: str) -> None:
    arrays = {name: np.arange(12.0).reshape(6, 2), "other": np.ones((6, 1))}
    study = open_study()
    study.capture(ArrayModel(name[:200], arrays), IndexData(6), layers="all")
    again = open_study("r").activations[name[:200]]
    assert list(again) == [name, "other"]
    np.testing.assert_array_equal(again[name], arrays[name])


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "bool", "float16", "float32", "float64"])
def test_layers_of_any_type_are_stored_as_they_are(open_study: OpenStudy, dtype: str) -> None:
    values = (np.arange(12).reshape(6, 2) % 3).astype(dtype)
    study = open_study()
    stored = study.capture(ArrayModel("net", {"a": values}), IndexData(6), layers="all")["a"]
    assert stored.dtype == dtype
    np.testing.assert_array_equal(stored, values)


def test_tokens_go_through_a_study_and_an_analysis(open_study: OpenStudy, tmp_path: Path) -> None:
    import transformers

    config = transformers.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=5, num_attention_heads=2, intermediate_size=32
    )
    torch.manual_seed(0)
    transformers.BertModel(config).save_pretrained(tmp_path / "bert")
    tokens = np.random.default_rng(0).integers(0, 50, (10, 7))
    data = outcrop.load_data({"input_ids": tokens, "attention_mask": np.ones_like(tokens)}, name="tokens")
    model = outcrop.load_model(f"hf:{tmp_path / 'bert'}?length=7")
    study = open_study()
    captured = study.capture(model, data, layers="all")
    assert any(values.dims == ("sample", "token", "feature") for values in captured.values())
    live = study.run("blocks", models=[model], data=data, layers="block")
    assert live["blocks"]["evaluated_layers"].item() == 5


def test_values_of_another_shape_than_listed_are_refused_and_not_broadcast(open_study: OpenStudy) -> None:
    class Narrowing(ArrayModel):
        def visit(self, inputs, layers, visitor):  # type: ignore[no-untyped-def] # the parent's
            super().visit(inputs, layers, lambda layer, values: visitor(layer, values[:, :1]))

    with pytest.raises(
        InputError, match=r"gave values of shape \(1,\) per sample; its array has \(4,\)\. Pad the samples"
    ):
        open_study().capture(Narrowing("net", {"a": np.ones((6, 4))}), IndexData(6), layers="all")


def test_an_interrupted_first_capture_is_seen_by_plain_xarray(
    open_study: OpenStudy, tmp_path: Path, data: IndexData, model: ArrayModel
) -> None:
    interrupt(model, at=2)
    with pytest.raises(KeyboardInterrupt):
        open_study().capture(model, data, layers="all", batch_size=8)
    tree = xr.open_datatree(tmp_path / "s.zarr", engine="zarr")
    (capture,) = tree["activations"].children.values()
    values = capture["block.0"]["values"].load()
    assert values[:8].notnull().all()
    assert values[8:].isnull().all()


def test_a_capture_that_was_killed_before_it_had_layers_does_not_count(
    open_study: OpenStudy, model: ArrayModel, data: IndexData
) -> None:
    study = open_study()
    study.capture(model, data, layers="block")
    group = study.activations["net"].group
    group.attrs["capture"] = {**dict(group.attrs["capture"]), "layers": [], "ledger": []}
    with pytest.raises(ModelNotFoundError, match="holds no activations of 'net'"):
        study.run("blocks", models=["net"])
    assert len(study.capture(model, data, layers="block")) == 2


def test_a_result_whose_plugin_is_gone_is_handed_out_as_stored(
    open_study: OpenStudy, model: ArrayModel, data: IndexData
) -> None:
    from outcrop.store.results import UnknownKindWarning

    study = open_study()
    run = json.loads(study.run("blocks", models=[model], data=data).attrs["provenance"])["run_id"]
    study.root[f"results/blocks/{run}/per_layer"].attrs["kind"] = "gone.per_layer"
    with pytest.warns(UnknownKindWarning, match=r"No installed plugin declares the result kind 'gone\.per_layer' of "):
        results = study.results
    assert results[f"blocks/{run}/per_layer"].sizes["layer"] == 3


def test_damaged_metadata_is_said_to_be_damaged(
    open_study: OpenStudy, tmp_path: Path, model: ArrayModel, data: IndexData
) -> None:
    study = open_study()
    run = json.loads(study.run("blocks", models=[model], data=data).attrs["provenance"])["run_id"]
    study.root[f"results/blocks/{run}"].attrs["provenance"] = "{"
    with pytest.raises(StudyError, match=r"The provenance of results/blocks/\w+ is damaged: .*Delete that group"):
        _ = study.results
    study.root.attrs["outcrop_format"] = "abc"
    with pytest.raises(StudyError, match="not an outcrop study"):
        open_study()
    (tmp_path / "s.zarr" / "zarr.json").write_text('{"attri')
    with pytest.raises(StudyError, match="The metadata of .* is damaged: "):
        open_study()


def test_nothing_is_computed_for_a_study_that_cannot_be_written(
    open_study: OpenStudy, model: ArrayModel, data: IndexData
) -> None:
    class Refusing(ArrayModel):
        def visit(self, *_: object) -> None:
            raise AssertionError("computed")

    open_study()
    model.__class__ = Refusing
    with pytest.raises(StudyError, match="was opened to read"):
        open_study("r").run("blocks", models=[model], data=data)


def test_another_preprocessing_is_another_question(open_study: OpenStudy, model: ArrayModel, data: IndexData) -> None:
    from outcrop.models.model import Preprocessing

    study = open_study()
    first = study.run("blocks", models=[model], data=data)
    model.preprocessing = Preprocessing("scaled", lambda _image: torch.zeros(1))
    second = study.run("blocks", models=[model], data=data)
    assert first.attrs != second.attrs
    assert json.loads(second.attrs["provenance"])["models"][0]["preprocessing"] == "scaled"
