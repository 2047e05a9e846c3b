import hashlib
import os
import shutil
from pathlib import Path

import pytest

from outcrop.errors import ModelNotFoundError, ZooError
from outcrop_zoo.cards import Card, RecipeSource, UrlSource, write_card
from outcrop_zoo.catalogue import BUNDLED, Catalogue, Entry, card_folders, matching_names, user_folder
from outcrop_zoo.folders import download_folder, user_folders
from outcrop_zoo.recipes import recipes


@pytest.fixture
def folder(built: tuple[Card, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(built[1], tmp_path / "zoo"))


def _add(folder: Path, card: Card, **changes: object) -> None:
    changed = card.model_copy(update=changes)
    write_card(changed, folder / f"{changed.name}.json")


def test_models_are_found_by_name(folder: Path, built: tuple[Card, Path]) -> None:
    entry = Catalogue([folder]).find("tiny")
    assert entry.card == built[0]
    assert entry.checked_model_path() == folder / "tiny.onnx"
    assert hashlib.sha256((folder / "tiny.onnx").read_bytes()).hexdigest() == built[0].sha256


def test_an_unknown_name_suggests_near_ones(folder: Path) -> None:
    with pytest.raises(
        ModelNotFoundError, match=r"The zoo has no model 'tinny'. Did you mean 'tiny'\? 'outcrop zoo list'"
    ):
        Catalogue([folder]).find("tinny")


def test_a_recipe_that_was_not_built_says_how_to_build_it(folder: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"not built here yet\. Run 'outcrop zoo build resnet8-patches-quick'"):
        Catalogue([folder]).find("resnet8-patches-quick")


def test_models_are_ordered_by_family_depth_width_and_seed(folder: Path, built: tuple[Card, Path]) -> None:
    for name, depth, seed in (("b", 110, 0), ("a", 14, 10), ("c", 14, 2)):
        _add(folder, built[0], name=name, depth=depth, seed=seed)
    assert list(Catalogue([folder]).entries) == ["tiny", "c", "a", "b"]


def test_wildcards_choose_models(folder: Path, built: tuple[Card, Path]) -> None:
    for name in ("deep-1", "deep-2"):
        _add(folder, built[0], name=name)
    catalogue = Catalogue([folder])
    assert [entry.card.name for entry in catalogue.matching(["deep-*"])] == ["deep-1", "deep-2"]
    assert [entry.card.name for entry in catalogue.matching(["*-[2]", "t?ny"])] == ["deep-2", "tiny"]
    assert len(catalogue.matching([])) == 3


def test_a_wildcard_without_a_match_is_refused() -> None:
    with pytest.raises(ModelNotFoundError, match=r"No zoo model matches 'deap'. Did you mean 'deep'\?"):
        matching_names(["deap"], ["deep", "tiny"])


def test_two_cards_of_one_name_are_refused_with_both_files(
    folder: Path, tmp_path: Path, built: tuple[Card, Path]
) -> None:
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    third = Path(shutil.copytree(folder, tmp_path / "third"))
    _add(folder, built[0], name="sound")
    catalogue = Catalogue([folder, other, third])
    for ask in (lambda: catalogue.find("tiny"), lambda: catalogue.matching(["tiny"])):
        with pytest.raises(ZooError, match=r"named 'tiny': .*zoo/tiny.json and .*other/tiny.json. Rename or remove o"):
            ask()
    assert list(catalogue.entries) == ["sound"]


def test_a_card_that_is_none_keeps_no_other_from_being_found(folder: Path, built: tuple[Card, Path]) -> None:
    _add(folder, built[0], name="a-sound-one")
    (folder / "tiny.json").write_text("{")
    (folder / "a.json").write_bytes((folder / "a-sound-one.json").read_bytes())
    (folder / "a-sound-one.json").write_text("{")
    catalogue = Catalogue([folder])
    # A file that is no card may be named like a sound model, which is in another file.
    assert list(catalogue.entries) == ["a-sound-one"] == [catalogue.find("a-sound-one").card.name]
    assert list(catalogue.broken) == ["tiny"]
    with pytest.raises(ZooError, match=r"tiny.json is not a valid zoo card"):
        catalogue.find("tiny")


def test_a_changed_file_is_refused_with_both_hashes(folder: Path, built: tuple[Card, Path]) -> None:
    content = bytearray((folder / "tiny.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "tiny.onnx").write_bytes(content)
    found = hashlib.sha256(content).hexdigest()
    with pytest.raises(ZooError, match=f"sha256 {found}, expected {built[0].sha256}. Run 'outcrop zoo build tiny"):
        Catalogue([folder]).find("tiny").checked_model_path()


def test_a_missing_file_is_refused(folder: Path, built: tuple[Card, Path]) -> None:
    _add(folder, built[0], name="elsewhere", recipe=None)
    (folder / "tiny.onnx").unlink()
    catalogue = Catalogue([folder])
    with pytest.raises(
        ZooError, match=r"zoo model 'tiny' is missing: .*tiny.onnx. Run 'outcrop zoo build tiny --folder"
    ):
        catalogue.find("tiny").checked_model_path()
    with pytest.raises(ZooError, match=r"is missing: .*Restore the file, or remove the card .*elsewhere.json"):
        catalogue.find("elsewhere").checked_model_path()


def test_a_missing_bundled_file_asks_for_a_new_installation(built: tuple[Card, Path]) -> None:
    with pytest.raises(ZooError, match=r"missing: .*tiny.onnx. Reinstall outcrop."):
        Entry(built[0], BUNDLED / "tiny.json").checked_model_path()


def test_the_users_folder_counts_once_it_exists() -> None:
    assert card_folders()[0] == BUNDLED
    assert user_folder() not in card_folders()
    user_folder().mkdir(parents=True)
    assert user_folder() in card_folders()


def test_without_a_setting_the_cache_is_the_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OUTCROP_CACHE")
    assert "outcrop" in user_folder().parts


def test_a_link_that_leads_out_of_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.move(folder / "tiny.onnx", tmp_path / "secret.onnx")
    (folder / "tiny.onnx").symlink_to(tmp_path / "secret.onnx")
    with pytest.raises(
        ZooError, match=r"is a link to .*secret.onnx, outside the card's folder. Put the file itself there"
    ):
        Catalogue([folder]).find("tiny").checked_model_path()


def test_links_that_an_installer_lays_for_card_and_model_are_followed(folder: Path, tmp_path: Path) -> None:
    links = tmp_path / "links"
    links.mkdir()
    for path in folder.iterdir():
        (links / path.name).symlink_to(path)
    assert Catalogue([links]).find("tiny").checked_model_path() == links / "tiny.onnx"


def test_a_card_can_be_a_recipe_that_gives_way_to_what_it_made(
    folder: Path, built: tuple[Card, Path], tmp_path: Path
) -> None:
    plugin = tmp_path / "plugin"
    plugin.mkdir()
    write_card(built[0].model_copy(update={"source": RecipeSource()}), plugin / "tiny.json")
    before = Catalogue([plugin])
    assert list(before.entries) == []
    assert before.recipes["tiny"] == built[0].recipe
    assert before.recipes.keys() == {"tiny", *recipes()}
    for ask in (lambda: before.find("tiny"), lambda: before.matching(["tiny"])):
        with pytest.raises(ModelNotFoundError, match=r"not built here yet\. Run 'outcrop zoo build tiny'"):
            ask()
    assert Catalogue([plugin, folder]).find("tiny").path == folder / "tiny.json"


def test_a_recipe_of_another_content_under_a_known_name_is_refused(built: tuple[Card, Path], tmp_path: Path) -> None:
    known = recipes()["resnet8-patches-quick"]
    card = built[0].model_copy(
        update={"name": known.name, "recipe": known.model_copy(update={"seed": 9}), "source": RecipeSource()}
    )
    write_card(card, tmp_path / "quick.json")
    with pytest.raises(
        ZooError, match=r"quick.json is another recipe 'resnet8-patches-quick' than outcrop's. Rename or"
    ):
        Catalogue([tmp_path]).matching_recipes([known.name])
    assert Catalogue([tmp_path]).recipes.keys() == recipes().keys() - {known.name}


def test_a_model_of_the_web_lies_in_the_cache_by_its_content(built: tuple[Card, Path], tmp_path: Path) -> None:
    card = built[0].model_copy(update={"source": UrlSource(url="https://example.org/net.onnx")})
    path = Entry(card, tmp_path / "tiny.json").model_path
    assert path == download_folder() / f"tiny-{str(card.sha256)[:16]}.onnx"


def test_a_model_that_is_no_file_says_how_to_make_one() -> None:
    with pytest.raises(ZooError, match=r"is not a file \(its source is a package\); run 'outcrop zoo export zoo:eff"):
        Catalogue().find("efficientnet-lite0").checked_model_path()


def test_users_may_name_folders_of_their_own(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, built: tuple[Card, Path]
) -> None:
    monkeypatch.setenv("OUTCROP_ZOO", f"{tmp_path / 'new'}{os.pathsep}{folder}")
    assert user_folder() == tmp_path / "new"
    assert user_folders() == [tmp_path / "new", folder, tmp_path / "cache" / "zoo"]
    assert Catalogue().find("tiny").card == built[0]


def test_a_file_in_the_place_of_a_users_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("OUTCROP_ZOO", str(tmp_path / "file"))
    with pytest.raises(ZooError, match=r"OUTCROP_ZOO names .*file, which is a file; expected folders of zoo models"):
        card_folders()
