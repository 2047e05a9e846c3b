"""Networks that other trainings start from."""

from pathlib import Path

import onnxruntime
import pytest
import torch

from outcrop.errors import ModelNotFoundError, ZooError
from outcrop_zoo.cards import Card, FileSource, write_card
from outcrop_zoo.catalogue import bundled_cards
from outcrop_zoo.patches import load_patches
from outcrop_zoo.recipes import recipes
from outcrop_zoo.training.parents import load_zoo_network


@pytest.fixture
def zoo(built: tuple[Card, Path], tmp_path: Path) -> Path:
    """The user's folder, with the tiny model in it."""
    folder = tmp_path / "cache" / "zoo"
    folder.mkdir(parents=True)
    for path in built[1].iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def test_a_parent_computes_what_its_file_computes(zoo: Path) -> None:
    network = load_zoo_network("tiny")
    images = torch.from_numpy(load_patches("test", per_class=2).images).permute(0, 3, 1, 2).float() / 255
    session = onnxruntime.InferenceSession(zoo / "tiny.onnx", providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"image": images.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(network(images), torch.from_numpy(expected), rtol=1e-4, atol=1e-4)
    assert not network.training


def test_a_parent_that_is_not_built_says_how_to_build_it() -> None:
    bundled = {card.name for card in bundled_cards()}
    name = next(name for name in recipes() if name not in bundled)
    with pytest.raises(ModelNotFoundError, match=f"Run 'outcrop zoo build {name}' to train it"):
        load_zoo_network(name)


def test_a_parent_without_a_recipe_is_refused(zoo: Path, built: tuple[Card, Path]) -> None:
    write_card(built[0].model_copy(update={"recipe": None}), zoo / "tiny.json")
    with pytest.raises(ZooError, match="'tiny' was not built by a recipe, so its architecture is not known. Name one"):
        load_zoo_network("tiny")


def test_a_parent_of_another_architecture_than_its_card_says_is_refused(zoo: Path, built: tuple[Card, Path]) -> None:
    recipe = built[0].recipe
    assert recipe is not None
    wider = recipe.model_copy(update={"architecture": recipe.architecture.model_copy(update={"width": 2})})
    card = built[0].model_copy(update={"recipe": wider, "source": FileSource(file="tiny.onnx")})
    write_card(card, zoo / "tiny.json")
    with pytest.raises(
        ZooError, match=r"'tiny' lacks \d+ of \d+ parameters of its architecture, such as 'conv.weight'"
    ):
        load_zoo_network("tiny")
