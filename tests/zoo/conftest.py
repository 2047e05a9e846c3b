"""A tiny recipe, and one model built from it that several tests look at."""

from pathlib import Path

import pytest

from outcrop_zoo.build import build
from outcrop_zoo.cards import Card
from outcrop_zoo.recipes import Recipe, recipes


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTCROP_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def tiny_recipe() -> Recipe:
    changes = {"name": "tiny", "family": "tiny", "images_per_class": 4, "epochs": 2, "batch_size": 16}
    return recipes()["resnet8-patches-quick"].model_copy(update=changes)


@pytest.fixture(scope="session")
def built(tiny_recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> tuple[Card, Path]:
    """The card of the tiny model and the folder where it lies; copy before you change."""
    folder = tmp_path_factory.mktemp("zoo")
    return build(tiny_recipe, folder=folder, checkpoints=tmp_path_factory.mktemp("checkpoints"), threads=1), folder
