"""What users add to the zoo and remove from it."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import TensorProto, helper, numpy_helper

import outcrop
from outcrop.errors import ModelLoadError, ModelNotFoundError, ZooError
from outcrop_zoo.cards import Card, write_card
from outcrop_zoo.catalogue import Catalogue, user_folder
from outcrop_zoo.commands import zoo
from outcrop_zoo.folders import BUNDLED, download_folder
from outcrop_zoo.own import add_file, removable, remove
from outcrop_zoo.verify import verify


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(zoo, arguments, catch_exceptions=False)


def _json(*arguments: str) -> Any:
    return json.loads(_run(*arguments, "--json").stdout)


@pytest.fixture
def file(built: tuple[Card, Path], tmp_path: Path) -> Path:
    return Path(shutil.copyfile(built[1] / "tiny.onnx", tmp_path / "mine.onnx"))


def _changed(path: Path, change: Callable[[onnx.ModelProto], None]) -> Path:
    model = onnx.load(path)
    change(model)
    path.write_bytes(model.SerializeToString())
    return path


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_an_added_file_has_a_card_that_counts_what_the_builder_counted(file: Path, built: tuple[Card, Path]) -> None:
    shown = _json("add", str(file), "--family", "mine", "--licence", "MIT", "--seed", "3")
    card = Catalogue().find("mine").card
    assert {key: shown[key] for key in card.model_dump()} == card.model_dump(mode="json")
    # The builder counts in torch, the card of an added file is counted in the graph.
    for field in ("opset", "layers", "parameters", "size", "sha256", "input", "classes", "preprocessing"):
        assert getattr(card, field) == getattr(built[0], field)
    assert (card.family, card.licence, card.seed, card.test) == ("mine", "MIT", 3, None)
    assert _files(user_folder()) == ["mine.json", "mine.onnx"]
    assert file.exists()
    [row] = _json("list", "mine")
    assert row["state"] == "added here"


def test_an_added_model_loads_and_is_verified_by_its_measured_accuracy(file: Path, built: tuple[Card, Path]) -> None:
    text = _run("add", str(file), "--name", "other", "--test", "zoo:patches").stdout
    assert "on 3000 images of zoo:patches" in text
    assert outcrop.load_model("zoo:other").classes == built[0].classes
    result = verify(Catalogue().find("other"))
    assert (result.outcome, result.accuracy) == ("verified", pytest.approx(built[0].test.accuracy, abs=1e-3))  # type: ignore[union-attr]


def test_a_file_that_says_nothing_gets_its_classes_from_the_user(file: Path, tmp_path: Path) -> None:
    _changed(file, lambda model: model.ClearField("metadata_props"))
    (tmp_path / "classes.txt").write_text("\n".join("abcdefghij"))
    shown = _json("add", str(file), "--classes", str(tmp_path / "classes.txt"))
    assert shown["classes"] == list("abcdefghij")
    assert outcrop.load_model("zoo:mine").classes == tuple("abcdefghij")
    assert verify(Catalogue().find("mine")).outcome == "verified"


def test_classes_that_cannot_be_the_outputs_are_refused(file: Path, tmp_path: Path) -> None:
    names = tmp_path / "classes.txt"
    names.write_text("\ufeffa\nb\n\n", encoding="utf-8")
    with pytest.raises(ZooError, match=r"mine.onnx states 10 classes itself, which are not those given; leave them aw"):
        _run("add", str(file), "--classes", str(names))
    _changed(file, lambda model: model.ClearField("metadata_props"))
    with pytest.raises(ZooError, match=r"mine.onnx has 10 outputs, and 2 classes were named; give one name for each"):
        _run("add", str(file), "--classes", str(names))
    for content in (b"", b"a\n\nb\n"):
        names.write_bytes(content)
        with pytest.raises(ZooError, match=r"classes.txt has an empty line; expected the names of the classes"):
            _run("add", str(file), "--classes", str(names))
    names.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ZooError, match=r"classes.txt is no text in UTF-8; expected the names of the classes"):
        _run("add", str(file), "--classes", str(names))
    assert not _files(user_folder())


def test_a_folder_that_is_not_in_the_zoo_is_told(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "elsewhere"
    said = _run("add", str(file), "--folder", str(folder)).stderr
    assert said == f"{folder} is no folder of the zoo; 'export OUTCROP_ZOO={folder}' makes it one, for zoo:NAME.\n"
    monkeypatch.setenv("OUTCROP_ZOO", str(folder))
    assert outcrop.load_model("zoo:mine").name == "mine"
    assert not _run("add", str(file), "--folder", str(folder), "--force").stderr


def test_a_model_of_a_fixed_batch_and_a_model_of_any_image_size_are_added(file: Path, tmp_path: Path) -> None:
    def fix(model: onnx.ModelProto) -> None:
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = 3
        del model.graph.value_info[:]

    _run("add", str(_changed(file, fix)))
    assert Catalogue().find("mine").card.input.shape == (3, 32, 32)  # type: ignore[union-attr]
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3, "y", "x"]) for name in ("image", "values")
    ]
    graph = helper.make_graph([helper.make_node("Relu", ["image"], ["values"])], "open", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (tmp_path / "open.onnx").write_bytes(model.SerializeToString())
    shown = _json("add", str(tmp_path / "open.onnx"))
    assert shown["input"]["shape"] == [3, None, None]
    assert (shown["parameters"], shown["layers"]) == (0, 1)
    assert verify(Catalogue().find("open")).outcome == "verified"


def test_a_name_that_is_taken_is_refused(file: Path) -> None:
    _run("add", str(file))
    for name in ("mine", "resnet14-patches-seed0"):
        with pytest.raises(ZooError, match=f"'{name}' is in the zoo already .*choose another --name"):
            _run("add", str(file), "--name", name)
    with pytest.raises(ZooError, match="'resnet8-patches-quick' is the name of a recipe"):
        _run("add", str(file), "--name", "resnet8-patches-quick")
    with pytest.raises(ZooError, match="'resnet14-patches-seed0' is in the zoo already"):
        _run("add", str(file), "--name", "resnet14-patches-seed0", "--force")
    assert _json("add", str(file), "--force", "--family", "new")["family"] == "new"


def test_a_foreign_file_in_the_place_is_not_replaced_unasked(file: Path) -> None:
    user_folder().mkdir(parents=True)
    (user_folder() / "mine.onnx").write_bytes(b"precious")
    with pytest.raises(ZooError, match=r"mine.onnx is there already and is another file; choose another --name"):
        _run("add", str(file))
    assert (user_folder() / "mine.onnx").read_bytes() == b"precious"
    _run("add", str(file), "--force")
    assert (user_folder() / "mine.onnx").read_bytes() == file.read_bytes()


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", "", "a b"])
def test_a_name_that_is_none_is_refused(name: str, file: Path) -> None:
    strange = file if name else Path(shutil.copyfile(file, file.with_name("ä.onnx")))
    with pytest.raises(ZooError, match="cannot name a zoo model; expected letters, digits"):
        _run("add", str(strange), *(["--name", name] if name else []))
    assert _files(user_folder()) == []


def test_a_file_that_is_not_there_or_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ModelNotFoundError, match=r"There is no file .*net.onnx; give the path of an ONNX model or its add"
    ):
        _run("add", str(tmp_path / "net.onnx"))
    (tmp_path / "net.onnx").write_bytes(b"text")
    with pytest.raises(ModelLoadError, match="net.onnx is not an ONNX model"):
        _run("add", str(tmp_path / "net.onnx"))
    assert _files(user_folder()) == []


def test_weights_in_other_files_are_refused(file: Path) -> None:
    model = onnx.load(file)
    onnx.save(model, file, save_as_external_data=True, location="weights.bin", size_threshold=0)
    with pytest.raises(ZooError, match=r"mine.onnx keeps its weights in other files, which its sha256 does not cover"):
        _run("add", str(file))


def test_a_graph_that_is_not_valid_or_returns_no_numbers_is_refused(file: Path) -> None:
    content = file.read_bytes()
    _changed(file, lambda model: model.graph.node[-1].input.__setitem__(0, "nowhere"))
    with pytest.raises(ZooError, match="mine.onnx is not a valid ONNX graph"):
        _run("add", str(file))
    file.write_bytes(content)

    def poison(model: onnx.ModelProto) -> None:
        bias = next(value for value in model.graph.initializer if value.name == "classifier.bias")
        bias.CopyFrom(numpy_helper.from_array(np.full(10, np.nan, np.float32), bias.name))

    with pytest.raises(ZooError, match="mine.onnx returns values that are not finite on an input of zeros"):
        _run("add", str(_changed(file, poison)))
    assert _files(user_folder()) == []


def test_accuracy_needs_labels_and_the_same_classes(file: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.zeros((2, 32, 32, 3), np.uint8))
    with pytest.raises(ZooError, match="images.npy has no labels, so there is no accuracy on it"):
        _run("add", str(file), "--test", str(tmp_path / "images.npy"))
    np.savez(tmp_path / "two.npz", images=np.zeros((2, 32, 32, 3), np.uint8), labels=np.arange(2), classes=["x", "y"])
    with pytest.raises(
        ZooError, match="has classes x, y; the model 'mine' was made for astronaut, .*in the same order"
    ):
        _run("add", str(file), "--test", str(tmp_path / "two.npz"), "--force")


@pytest.fixture
def address(file: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Serve the folder of the file, and yield the file's address."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(file.parent)))
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/mine.onnx"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_model_of_the_web_is_fetched_once_and_again_where_it_is_missing(address: str, file: Path) -> None:
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    shown = _json("add", address)
    assert shown["source"] == {"kind": "url", "url": address}
    assert (shown["name"], shown["sha256"]) == ("mine", digest)
    assert _files(user_folder()) == ["mine.json"]
    kept = Path(shown["path"])
    assert kept == download_folder() / f"mine-{digest[:16]}.onnx"
    assert [row["state"] for row in _json("list", "mine")] == ["fetched"]
    kept.unlink()
    assert [row["state"] for row in _json("list", "mine")] == ["not fetched yet"]
    assert outcrop.load_model("zoo:mine").source == "zoo:mine"
    assert kept.read_bytes() == file.read_bytes()
    # Half of it, left by whatever killed another program, is never used.
    kept.write_bytes(file.read_bytes()[:1000])
    assert verify(Catalogue().find("mine")).detail.startswith("the file is sound and runs")
    assert kept.read_bytes() == file.read_bytes()


def test_a_file_of_the_web_that_changed_fails_and_one_out_of_reach_is_skipped(address: str, file: Path) -> None:
    shown = _json("add", address)
    Path(shown["path"]).unlink()
    _changed(file, lambda model: setattr(model, "producer_version", "9" * len(model.producer_version)))
    changed = verify(Catalogue().find("mine"))
    assert changed.outcome == "failed"
    assert f"is not the one on its card: sha256 {hashlib.sha256(file.read_bytes()).hexdigest()}" in changed.detail
    file.unlink()
    gone = verify(Catalogue().find("mine"))
    assert gone.outcome == "skipped"
    assert "could not be fetched: the server answers 404" in gone.detail
    assert [name for name in _files(download_folder()) if not name.endswith(".lock")] == []


def test_an_expected_checksum_is_held_against_what_comes(address: str, file: Path) -> None:
    with pytest.raises(ZooError, match="is not the one on its card: sha256"):
        _run("add", address, "--sha256", "0" * 64)
    assert _files(user_folder()) == []
    _run("add", address, "--sha256", hashlib.sha256(file.read_bytes()).hexdigest())
    assert "mine" in Catalogue().entries
    assert _run("add", str(file), "--sha256", "0" * 64).exit_code == 2


def test_a_removed_model_goes_with_its_card(file: Path) -> None:
    _run("add", str(file))
    _run("add", str(file), "--name", "kept")
    shown = _json("remove", "mine")
    assert shown == {
        "models": ["mine"],
        "removed": True,
        "files": [str(user_folder() / "mine.json"), str(user_folder() / "mine.onnx")],
    }
    assert _files(user_folder()) == ["kept.json", "kept.onnx"]
    with pytest.raises(ModelNotFoundError, match="No zoo model matches 'mine'"):
        _run("remove", "mine")


def test_a_removed_model_of_the_web_leaves_the_cache(address: str) -> None:
    _run("add", address)
    _run("remove", "mine")
    assert [name for name in _files(download_folder()) if name.startswith("mine-")] == []


def test_what_wildcards_match_goes_only_when_confirmed(file: Path) -> None:
    for name in ("mine-1", "mine-2"):
        _run("add", str(file), "--name", name)
    assert "mine-1, mine-2 would go; add --yes" in _run("remove", "mine-*").stdout
    assert _json("remove", "mine-*")["removed"] is False
    assert len(_files(user_folder())) == 4
    assert "Removed mine-1, mine-2." in _run("remove", "mine-*", "--yes").stdout
    assert _files(user_folder()) == []


def test_a_bundled_model_is_not_removed_and_neither_is_what_was_named_with_it(file: Path) -> None:
    _run("add", str(file))
    before = _files(BUNDLED)
    with pytest.raises(ZooError, match=r"'resnet14-patches-seed0' is not yours to remove: .*nothing was"):
        _run("remove", "mine", "resnet14-patches-seed0")
    assert _files(BUNDLED) == before
    assert _files(user_folder()) == ["mine.json", "mine.onnx"]


def test_a_file_that_another_card_names_stays(file: Path) -> None:
    _run("add", str(file))
    card = Catalogue().find("mine").card
    write_card(card.model_copy(update={"name": "twin"}), user_folder() / "twin.json")
    _run("remove", "mine")
    assert _files(user_folder()) == ["mine.onnx", "twin.json"]
    assert Catalogue().find("twin").checked_model_path() == user_folder() / "mine.onnx"


def test_a_removal_that_is_killed_leaves_no_half_model(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _run("add", str(file))
    unlink = Path.unlink

    def die(path: Path, missing_ok: bool = False) -> None:
        if path.suffix == ".onnx":
            raise KeyboardInterrupt
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", die)
    with pytest.raises(KeyboardInterrupt):
        remove(removable(["mine"]))
    assert "mine" not in Catalogue().entries


def test_an_addition_that_is_killed_leaves_no_model(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    folder = file.parent / "own"
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", die)
        with pytest.raises(KeyboardInterrupt):
            add_file(file, folder=folder)
    assert _files(folder) == []
    assert add_file(file, folder=folder).path == folder / "mine.json"
