"""Where an export goes. The export itself is made here, so that these tests take no seconds of tracing."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

import outcrop
from outcrop.errors import ZooError
from outcrop_zoo.cards import Card, Parity
from outcrop_zoo.catalogue import Catalogue, user_folder
from outcrop_zoo.commands import zoo
from outcrop_zoo.delivery import default_name
from outcrop_zoo.verify import verify


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(zoo, arguments, catch_exceptions=False)


@pytest.fixture(autouse=True)
def asked(built: tuple[Card, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, Any]]:
    """Let every reference be exported as the tiny model, and keep what was asked for."""
    calls: list[dict[str, Any]] = []
    content = (built[1] / "tiny.onnx").read_bytes()

    def export(reference: str, **options: Any) -> SimpleNamespace:
        calls.append({"reference": reference, **options})
        parity = Parity(largest_relative_error=2e-6, modules=35, samples=4)
        return SimpleNamespace(content=content, opset=20, layers=29, parity=parity)

    monkeypatch.setattr("outcrop_zoo.delivery.export_model", export)
    monkeypatch.chdir(tmp_path)
    return calls


def test_an_export_is_a_file_of_the_references_name(asked: list[dict[str, Any]], built: tuple[Card, Path]) -> None:
    result = _run("export", "timm:resnet18?pretrained=false")
    assert asked == [
        {
            "reference": "timm:resnet18?pretrained=false",
            "folded": False,
            "half": False,
            "name": "resnet18",
            "tolerance": 1e-4,
        }
    ]
    assert Path("resnet18.onnx").read_bytes() == (built[1] / "tiny.onnx").read_bytes()
    assert "resnet18.onnx: " in result.stdout
    assert "29 layers, at most 2.0e-06 from torch over 35 modules" in result.stdout
    assert [path.name for path in Path().glob("*.onnx*")] == ["resnet18.onnx"]


def test_options_reach_the_export(asked: list[dict[str, Any]]) -> None:
    shown = json.loads(
        _run("export", "timm:x", "--folded", "--half", "--tolerance", "1e-3", "-o", "out.onnx", "--json").stdout
    )
    assert asked == [{"reference": "timm:x", "folded": True, "half": True, "name": "x-folded", "tolerance": 1e-3}]
    assert (shown["path"], shown["card"], shown["parity"]["modules"]) == ("out.onnx", None, 35)


def test_an_export_joins_the_zoo_with_its_card(built: tuple[Card, Path]) -> None:
    shown = json.loads(_run("export", "timm:resnet18", "--add", "--name", "eighteen", "--json").stdout)
    card = Catalogue().find("eighteen").card
    assert shown["card"] == str(user_folder() / "eighteen.json")
    assert (card.origin, card.architecture, card.sha256) == ("timm:resnet18", "resnet18", built[0].sha256)
    assert card.parity == Parity(largest_relative_error=2e-6, modules=35, samples=4)
    assert (card.layers, card.licence) == (29, "NOASSERTION")
    assert outcrop.load_model("zoo:eighteen").classes == built[0].classes


def test_an_export_of_a_zoo_model_keeps_what_its_card_says() -> None:
    _run("export", "zoo:mobilenet-v2-features", "--add", "--name", "copy", "--test", "zoo:patches")
    origin, card = (Catalogue().find(name).card for name in ("mobilenet-v2-features", "copy"))
    for field in ("family", "architecture", "data", "licence", "references"):
        assert getattr(card, field) == getattr(origin, field)
    assert card.origin == "zoo:mobilenet-v2-features"
    assert card.test is not None
    assert card.test.data == "zoo:patches"


def test_a_file_that_is_there_is_not_replaced_unasked(asked: list[dict[str, Any]]) -> None:
    Path("x.onnx").write_bytes(b"precious")
    with pytest.raises(ZooError, match=r"x.onnx exists already; choose another --output, or pass --force"):
        _run("export", "timm:x")
    assert asked == []
    _run("export", "timm:x", "--force")
    assert Path("x.onnx").read_bytes() != b"precious"


def test_options_that_contradict_one_another_are_wrong_usage() -> None:
    for arguments in (["--add", "-o", "x.onnx"], ["--folder", "here"], ["--test", "zoo:patches"]):
        assert _run("export", "timm:x", *arguments).exit_code == 2


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("timm:resnet50.a1_in1k", "resnet50.a1_in1k"),
        ("onnx:folder/net.onnx?mean=0,0,0", "net"),
        ("hf:google/vit-base", "vit-base"),
        ("python:package.module:factory", "factory"),
        ("zoo:a b", "a-b"),
        ("weird:..", "model"),
    ],
)
def test_an_export_is_named_after_its_reference(reference: str, name: str) -> None:
    assert default_name(reference) == name
    assert default_name(reference, folded=True) == f"{name}-folded"


def test_a_real_export_is_compared_with_torch_and_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    from outcrop_zoo import exporting

    monkeypatch.setattr("outcrop_zoo.delivery.export_model", exporting.export_model)
    reference = "timm:test_resnet?pretrained=false&seed=1"
    _run("export", reference, "--add")
    entry = Catalogue().find("test_resnet")
    assert entry.card.parity is not None
    assert 0 < entry.card.parity.largest_relative_error <= 1e-4
    network = outcrop.load_model(reference).network  # type: ignore[attr-defined]
    assert entry.card.parameters == sum(parameter.numel() for parameter in network.parameters())
    result = verify(entry)
    assert (result.outcome, result.detail) == ("verified", "the file is sound and runs; the card states no accuracy")
