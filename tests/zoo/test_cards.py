import json
from pathlib import Path
from typing import Any

import pytest

from outcrop.errors import ZooError
from outcrop_zoo.cards import Card, PackageSource, RecipeSource, UrlSource, read_card, write_card
from outcrop_zoo.recipes import recipes


@pytest.fixture
def values(built: tuple[Card, Path]) -> dict[str, Any]:
    return built[0].model_dump(mode="json")


def test_a_card_survives_its_file(built: tuple[Card, Path], tmp_path: Path) -> None:
    write_card(built[0], tmp_path / "copy.json")
    assert read_card(tmp_path / "copy.json") == built[0]
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["copy.json"]


def test_a_card_holds_the_whole_recipe(values: dict[str, Any]) -> None:
    assert values["recipe"].keys() == recipes()["resnet8-patches-quick"].model_dump().keys()


@pytest.mark.parametrize(
    "file", ["../net.onnx", "/etc/passwd", "sub/net.onnx", "..", ".", "", "..\\net.onnx", "C:net.onnx", "net\0.onnx"]
)
def test_a_card_that_names_a_file_outside_its_folder_is_refused(
    file: str, values: dict[str, Any], tmp_path: Path
) -> None:
    values["source"]["file"] = file
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(values))
    with pytest.raises(
        ZooError, match=r"bad.json is not a valid zoo card \(source.file.file: .*outside the card's folder"
    ):
        read_card(path)


def test_all_problems_of_a_card_are_named_at_once(values: dict[str, Any], tmp_path: Path) -> None:
    values |= {"sha256": "abc", "colour": "blue", "name": "../up"}
    values["test"]["accuracy"] = 87
    del values["licence"]
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(values))
    with pytest.raises(ZooError) as error:
        read_card(path)
    for field in ("sha256", "colour", "name", "test.accuracy", "licence"):
        assert f"{field}: " in str(error.value)


@pytest.mark.parametrize("content", ["", "{", "[]"])
def test_a_file_that_is_no_card_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(ZooError, match=r"bad.json is not a valid zoo card .*Correct it, or move it out of the folder"):
        read_card(path)


def _refused(values: dict[str, Any], tmp_path: Path) -> str:
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(values))
    with pytest.raises(ZooError) as error:
        read_card(path)
    return str(error.value)


PACKAGE = {
    "kind": "package",
    "package": "some-weights",
    "file": "some/net.pth",
    "sha256": "0" * 64,
    "architecture": "a",
}


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ({"kind": "url", "url": "https://example.org/net.onnx"}, UrlSource),
        ({**PACKAGE, "loader": "timm-key-order", "classes": 0}, PackageSource),
        ({"kind": "recipe"}, RecipeSource),
    ],
)
def test_a_source_is_told_by_its_kind(
    source: dict[str, Any], kind: type[Any], values: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "card.json").write_text(json.dumps(values | {"source": source}))
    card = read_card(tmp_path / "card.json")
    assert isinstance(card.source, kind)
    write_card(card, tmp_path / "again.json")
    assert read_card(tmp_path / "again.json") == card


def test_an_unknown_kind_of_source_is_refused(values: dict[str, Any], tmp_path: Path) -> None:
    message = _refused(values | {"source": {"kind": "torrent"}}, tmp_path)
    assert "source: Input tag 'torrent'" in message
    assert "'file', 'url', 'package', 'recipe'" in message


@pytest.mark.parametrize(
    "address",
    [
        "file:///etc/passwd",
        "ftp://host/net.onnx",
        "net.onnx",
        "https://me:secret@host/net.onnx",
        "https://host/a b",
        "",
    ],
)
def test_an_address_that_is_not_on_the_web_is_refused(address: str, values: dict[str, Any], tmp_path: Path) -> None:
    message = _refused(values | {"source": {"kind": "url", "url": address}}, tmp_path)
    assert "is no address of a file; give http(s)://HOST/PATH" in message


@pytest.mark.parametrize("file", ["../net.pth", "/etc/passwd", "a/../../b", "a\\b", "C:/b", "", ".", "a//b", "a\n"])
def test_a_file_outside_its_package_is_refused(file: str, values: dict[str, Any], tmp_path: Path) -> None:
    assert "lies outside the package" in _refused(values | {"source": PACKAGE | {"file": file}}, tmp_path)


@pytest.mark.parametrize("package", ["a b", "--option=x", "a;b", ""])
def test_a_package_whose_name_is_none_is_refused(package: str, values: dict[str, Any], tmp_path: Path) -> None:
    assert "source.package.package: " in _refused(values | {"source": PACKAGE | {"package": package}}, tmp_path)


@pytest.mark.parametrize(
    ("source", "missing"),
    [
        ({"kind": "file", "file": "net.onnx"}, ["opset", "input", "layers", "parameters", "size", "sha256"]),
        ({"kind": "url", "url": "https://example.org/net.onnx"}, ["size", "sha256"]),
        (PACKAGE, ["input"]),
        ({"kind": "recipe"}, ["recipe"]),
    ],
)
def test_a_card_states_what_its_source_needs(
    source: dict[str, Any], missing: list[str], values: dict[str, Any], tmp_path: Path
) -> None:
    for field in missing:
        del values[field]
    message = _refused(values | {"source": source}, tmp_path)
    assert f"a card with a source of kind {source['kind']!r} must state {', '.join(missing)}" in message


def test_a_recipes_card_has_the_name_of_what_it_makes(values: dict[str, Any], tmp_path: Path) -> None:
    message = _refused(values | {"source": {"kind": "recipe"}, "name": "other"}, tmp_path)
    assert "its recipe makes 'tiny'; expected a recipe of the card's name 'other'" in message


def test_a_card_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link.json").symlink_to(tmp_path / "nowhere.json")
    with pytest.raises(ZooError, match=r"link.json cannot be read \(No such file .*Repair it, or remove it"):
        read_card(tmp_path / "link.json")
