"""Every model in the bundled folder, whichever they are."""

import hashlib
from functools import cache
from pathlib import Path

import pytest
from torch import nn

from outcrop_zoo.architectures import build_architecture
from outcrop_zoo.architectures.architecture import Architecture
from outcrop_zoo.cards import FileSource, read_card
from outcrop_zoo.catalogue import BUNDLED, Catalogue, bundled_cards
from outcrop_zoo.data_sources import load_zoo_data
from outcrop_zoo.description import check_graph, check_runs, graph_opset
from outcrop_zoo.exporting import PARITY_TOLERANCE
from outcrop_zoo.interventions.specs import RotationSpec
from outcrop_zoo.loading import load_entry
from outcrop_zoo.recipes import recipes
from outcrop_zoo.verify import verify

CARDS = sorted(BUNDLED.glob("*.json"))
ONE_OF_EACH_FAMILY = sorted({card.family: card.name for card in reversed(bundled_cards())}.values())
"""The first, which is the shallowest and narrowest."""

GRAPH_BYTES_A_LAYER = 1500
"""More than the nodes of a layer, their names and its vectors take in a file of a narrow network."""


@cache
def _count(architecture: Architecture) -> tuple[int, int]:
    """Return the numbers of modules without children that compute something, and of batch norms among them."""
    modules = list(build_architecture(architecture).modules())
    layers = sum(not any(module.children()) and not isinstance(module, nn.Identity) for module in modules)
    return layers, sum(isinstance(module, nn.BatchNorm2d) for module in modules)


def test_a_shallow_and_a_deep_network_of_two_seeds_each_are_bundled() -> None:
    names = {card.name for card in bundled_cards()}
    assert {f"resnet{depth}-patches-seed{seed}" for depth in (14, 110) for seed in (0, 1)} <= names


def test_all_bundled_models_together_stay_small() -> None:
    assert sum(path.stat().st_size for path in BUNDLED.glob("*.onnx")) < 32e6


def test_no_bundled_model_lacks_its_card() -> None:
    assert {path.stem for path in BUNDLED.iterdir() if path.suffix == ".onnx"} == {path.stem for path in CARDS}


def test_every_bundled_card_can_be_used() -> None:
    assert Catalogue([BUNDLED]).broken == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", ONE_OF_EACH_FAMILY)
def test_a_bundled_model_of_each_family_is_what_its_card_says(name: str) -> None:
    entry = Catalogue([BUNDLED]).find(name)
    result = verify(entry)
    # Images that do not come with outcrop may not be on this machine.
    at_hand = entry.card.data.startswith("zoo:")
    assert result.outcome == "verified" or (result.outcome == "skipped" and not at_hand), result.detail


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_a_bundled_card_is_complete(path: Path) -> None:
    card = read_card(path)
    recipe = recipes()[card.name.partition("@")[0]]
    assert card.name == path.stem
    assert card.source == FileSource(file=f"{path.stem}.onnx")
    assert (card.recipe, card.family, card.data, card.seed) == (recipe, recipe.family, recipe.data, recipe.seed)
    assert (card.architecture, card.depth, card.width) == (
        recipe.architecture.name,
        recipe.architecture.depth,
        recipe.architecture.width,
    )
    assert card.name in {recipe.name, *(f"{recipe.name}@{step}" for step in recipe.snapshots)}
    assert card.parity is not None
    assert 0 < card.parity.largest_relative_error <= PARITY_TOLERANCE
    rotations = sum(isinstance(one, RotationSpec) for one in recipe.interventions)
    assert card.parity.modules >= (card.layers or 0) == _count(recipe.architecture)[0] + rotations
    assert card.training is not None
    if card.name == recipe.name:
        assert card.training.epochs == recipe.epochs
        assert card.training.seconds > 0
    assert card.training.hardware
    assert card.test is not None
    assert card.licence
    assert card.references


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_a_bundled_file_is_the_cards_and_sound(path: Path) -> None:
    card, file = read_card(path), path.with_suffix(".onnx")
    content = file.read_bytes()
    assert (card.size, card.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    graph = check_graph(file)
    assert graph_opset(graph) == card.opset
    properties = {entry.key: entry.value for entry in graph.metadata_props}
    assert properties["outcrop.card"] == card.name
    # The same weights are the same file in every release.
    assert "outcrop.version" not in properties
    assert card.recipe is not None
    assert card.parameters is not None
    layers, norms = _count(card.recipe.architecture)
    assert sum(node.op_type == "BatchNormalization" for node in graph.graph.node) == norms
    assert len(content) < 2 * card.parameters + GRAPH_BYTES_A_LAYER * layers


@pytest.mark.parametrize("name", ONE_OF_EACH_FAMILY)
def test_a_bundled_model_of_each_family_runs(name: str) -> None:
    entry = Catalogue([BUNDLED]).find(name)
    outputs = check_runs(load_entry(entry, device="cpu"), name)
    assert outputs.shape == (2, len(entry.card.classes or ()))


def test_bundled_models_of_the_patches_can_be_tested_everywhere() -> None:
    assert {card.test.images for card in bundled_cards() if card.test and card.data == "zoo:patches"} == {
        len(load_zoo_data("patches"))
    }
