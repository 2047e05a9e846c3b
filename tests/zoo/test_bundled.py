"""Every model in the bundled folder, whichever they are."""

from pathlib import Path

import onnx
import pytest

from outcrop_zoo.cards import read_card
from outcrop_zoo.catalogue import BUNDLED, Catalogue, bundled_cards
from outcrop_zoo.exporting import PARITY_TOLERANCE
from outcrop_zoo.recipes import recipes
from outcrop_zoo.verify import verify

CARDS = sorted(BUNDLED.glob("*.json"))


def test_a_shallow_and_a_deep_network_of_two_seeds_each_are_bundled() -> None:
    names = {card.name for card in bundled_cards()}
    assert {f"resnet{depth}-patches-seed{seed}" for depth in (14, 110) for seed in (0, 1)} <= names


def test_all_bundled_models_together_stay_small() -> None:
    assert sum(path.stat().st_size for path in BUNDLED.glob("*.onnx")) < 32e6
    assert all(path.stat().st_size < 4e6 for path in BUNDLED.glob("resnet110-*.onnx"))


def test_no_bundled_model_lacks_its_card() -> None:
    assert {path.stem for path in BUNDLED.iterdir() if path.suffix == ".onnx"} == {path.stem for path in CARDS}


@pytest.mark.slow
@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_a_bundled_model_is_what_its_card_says(path: Path) -> None:
    result = verify(Catalogue([BUNDLED]).find(path.stem))
    assert result.outcome == "verified", result.detail


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_a_bundled_card_is_complete(path: Path) -> None:
    card = read_card(path)
    content = path.with_suffix(".onnx").read_bytes()
    assert card.name == path.stem
    assert card.source.file == f"{path.stem}.onnx"
    assert card.size == len(content)
    assert card.recipe == recipes()[card.name]
    assert card.parity is not None
    assert 0 < card.parity.largest_relative_error <= PARITY_TOLERANCE
    assert card.depth is not None
    assert card.parity.modules >= card.layers == 7 * (card.depth - 2) // 2 + 8
    assert card.training is not None
    assert card.training.epochs == card.recipe.epochs
    assert card.training.seconds > 0
    assert card.licence
    assert card.references
    properties = {entry.key: entry.value for entry in onnx.load_from_string(content).metadata_props}
    assert properties["outcrop.card"] == card.name
