import json
from pathlib import Path
from typing import Any

import pytest

from outcrop.errors import ZooError
from outcrop_zoo.cards import Card, read_card, write_card
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
    "file", ["../net.onnx", "/etc/passwd", "sub/net.onnx", "..", ".", "", "..\\net.onnx", "C:net.onnx"]
)
def test_a_card_that_names_a_file_outside_its_folder_is_refused(
    file: str, values: dict[str, Any], tmp_path: Path
) -> None:
    values["source"]["file"] = file
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(values))
    with pytest.raises(ZooError, match=r"bad.json is not a valid zoo card \(source.file: .*outside the card's folder"):
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
