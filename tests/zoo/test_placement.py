"""Builds that are interrupted, meet one another, or find something in their place."""

import subprocess
import sys
from pathlib import Path

import pytest

from outcrop.errors import ZooError
from outcrop_zoo import placement
from outcrop_zoo.build import build
from outcrop_zoo.cards import Card, write_card
from outcrop_zoo.placement import check_free, only_builder, place
from outcrop_zoo.recipes import Recipe


@pytest.fixture
def series(built: tuple[Card, Path], tiny_recipe: Recipe) -> list[tuple[Card, bytes]]:
    """Card and content of two snapshots and the model, as a build of three steps hands them on."""
    recipe = tiny_recipe.model_copy(update={"snapshots": (0, 4)})
    content = (built[1] / "tiny.onnx").read_bytes()
    names = ("tiny@0", "tiny@4", "tiny")
    return [(built[0].model_copy(update={"name": name, "recipe": recipe}), content) for name in names]


def _files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_all_of_a_series_is_written(series: list[tuple[Card, bytes]], tmp_path: Path) -> None:
    place(series, tmp_path / "zoo", replace=False)
    expected = {f"{card.name}.{ending}" for card, _ in series for ending in ("onnx", "json")}
    assert _files(tmp_path / "zoo") == expected


def test_a_build_killed_while_it_writes_goes_on_when_run_again(
    series: list[tuple[Card, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, cards = series[0][0].recipe, []
    assert recipe is not None

    def killed(card: Card, path: Path) -> None:
        cards.append(card.name)
        if len(cards) == 2:
            raise KeyboardInterrupt
        write_card(card, path)

    with monkeypatch.context() as patched:
        patched.setattr(placement, "write_card", killed)
        with pytest.raises(KeyboardInterrupt):
            place(series, tmp_path, replace=False)
    assert _files(tmp_path) == {"tiny@0.onnx", "tiny@0.json", "tiny@4.onnx"}
    with pytest.raises(ZooError, match=r"tiny@0.json exists already"):
        check_free(recipe, tmp_path, interrupted=False)
    check_free(recipe, tmp_path, interrupted=True)
    place(series, tmp_path, replace=False)
    assert len(_files(tmp_path)) == 6
    with pytest.raises(ZooError, match=r"tiny.json exists already; choose another folder"):
        check_free(recipe, tmp_path, interrupted=True)


def test_snapshots_of_another_recipe_are_no_leftovers(series: list[tuple[Card, bytes]], tmp_path: Path) -> None:
    recipe = series[0][0].recipe
    assert recipe is not None
    place(series[:1], tmp_path, replace=False)
    with pytest.raises(ZooError, match=r"tiny@0.json exists already"):
        check_free(recipe.model_copy(update={"seed": 5}), tmp_path, interrupted=True)


def test_a_file_of_the_users_is_not_replaced_unasked(series: list[tuple[Card, bytes]], tmp_path: Path) -> None:
    (tmp_path / "tiny@4.onnx").write_bytes(b"mine")
    with pytest.raises(ZooError, match=r"tiny@4.onnx exists already; choose another folder, or pass --force"):
        place(series, tmp_path, replace=False)
    assert _files(tmp_path) == {"tiny@4.onnx"}
    place(series, tmp_path, replace=True)
    assert (tmp_path / "tiny@4.onnx").read_bytes() == series[1][1]


def test_a_replacement_that_fails_leaves_no_model_under_another_ones_card(
    series: list[tuple[Card, bytes]], tmp_path: Path
) -> None:
    place(series[2:], tmp_path, replace=False)
    (tmp_path / "tiny.onnx.part").mkdir()  # so that the new file cannot be written
    with pytest.raises(ZooError, match=r"tiny.onnx could not be written \(Is a directory\)"):
        place([(series[2][0], b"new")], tmp_path, replace=True)
    assert not (tmp_path / "tiny.json").exists()


def test_two_builds_of_one_recipe_do_not_share_a_checkpoint(tiny_recipe: Recipe, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from filelock import FileLock;"
        "lock = FileLock(Path(sys.argv[1])); lock.acquire(); print('held', flush=True); sys.stdin.read()"
    )
    arguments = [sys.executable, "-c", code, str(tmp_path / "tiny.lock")]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(ZooError, match=r"Another process is building 'tiny' .* Wait for it, or choose another fol"):
            build(tiny_recipe, folder=tmp_path / "zoo", checkpoints=tmp_path, threads=1)
        other.stdin.close()
    assert not (tmp_path / "zoo").exists()
    with only_builder(tiny_recipe, tmp_path):
        pass
