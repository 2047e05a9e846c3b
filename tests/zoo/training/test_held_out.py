"""Weights chosen by images that are neither trained on nor tested on."""

from pathlib import Path

import numpy as np
import pytest
import torch

from outcrop.errors import ZooError
from outcrop_zoo.patches import CLASSES, PATCH_SIZE, load_patches, photograph
from outcrop_zoo.recipes import Recipe
from outcrop_zoo.training import accuracy, train
from outcrop_zoo.training.data import RecipeData, load_recipe_data


@pytest.fixture(scope="module")
def recipe(tiny_recipe: Recipe) -> Recipe:
    # A rate that is too large, so that the last epoch is not the best one.
    changes = {"epochs": 4, "learning_rate": 0.3, "held_out_per_class": 3, "selection": "held_out"}
    return tiny_recipe.model_copy(update=changes)


@pytest.fixture(scope="module")
def data(recipe: Recipe) -> RecipeData:
    return load_recipe_data(recipe)


def test_the_weights_of_the_best_epoch_are_kept(recipe: Recipe, data: RecipeData) -> None:
    run = train(recipe, data.train, held_out=data.held_out, device="cpu")
    found = [row["held_out_accuracy"] for row in run.history]
    assert run.epoch == int(np.argmax(found)) + 1
    assert run.step == run.epoch * 3
    assert data.held_out is not None
    # float32 outside autocast, as in training: this recipe computes in float32.
    assert accuracy(run.network, data.held_out) == found[run.epoch - 1]


@pytest.mark.parametrize("seed", [0, 3])
def test_the_kept_weights_are_those_that_a_training_had_at_that_epoch(
    seed: int, recipe: Recipe, data: RecipeData, tmp_path: Path
) -> None:
    chosen = recipe.model_copy(update={"seed": seed})
    run = train(chosen, data.train, held_out=data.held_out, device="cpu")
    step = run.step
    kept = chosen.model_copy(update={"selection": "last", "snapshots": (step,)})
    train(kept, data.train, held_out=data.held_out, checkpoint=tmp_path / "tiny.pt", device="cpu")
    snapshot = torch.load(tmp_path / f"tiny@{step}.pt", weights_only=True)["network"]
    for name, value in run.network.state_dict().items():
        assert torch.equal(value, snapshot[name]), name


def test_looking_at_held_out_images_changes_no_weight(recipe: Recipe, data: RecipeData) -> None:
    last = recipe.model_copy(update={"selection": "last"})
    one = train(last, data.train, held_out=data.held_out, device="cpu").network.state_dict()
    other = train(last, data.train, device="cpu").network.state_dict()
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_the_best_epoch_survives_a_stop(recipe: Recipe, data: RecipeData, tmp_path: Path) -> None:
    class KilledError(Exception):
        pass

    def kill(row: dict[str, float]) -> None:
        if row["epoch"] == 3:
            raise KilledError

    whole = train(recipe, data.train, held_out=data.held_out, device="cpu")
    with pytest.raises(KilledError):
        train(recipe, data.train, held_out=data.held_out, checkpoint=tmp_path / "a.pt", on_epoch=kill, device="cpu")
    resumed = train(recipe, data.train, held_out=data.held_out, checkpoint=tmp_path / "a.pt", device="cpu")
    assert resumed.epoch == whole.epoch
    expected = whole.network.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in resumed.network.state_dict().items())


def test_a_selection_without_held_out_images_is_refused(recipe: Recipe, data: RecipeData) -> None:
    with pytest.raises(ZooError, match=r"'tiny' selects its weights by held-out images; give held_out="):
        train(recipe, data.train, device="cpu")


def test_held_out_patches_share_no_pixel_with_training_or_test_patches() -> None:
    for name in CLASSES:
        covered = []
        for split in ("fit", "held_out", "test"):
            mask = np.zeros(photograph(name).shape[:2], dtype=bool)
            for sample_id in load_patches(split).ids:  # type: ignore[arg-type] # literals in a tuple
                photo, top, left = sample_id.split(":")
                if photo == name:
                    mask[int(top) : int(top) + PATCH_SIZE, int(left) : int(left) + PATCH_SIZE] = True
            assert mask.any()
            covered.append(mask.astype(int))
        assert np.max(sum(covered)) == 1


def test_a_recipe_with_held_out_images_holds_out_what_it_says(data: RecipeData) -> None:
    assert data.held_out is not None
    assert data.held_out_samples is not None
    assert torch.bincount(data.held_out.labels).tolist() == [3] * 10
    assert torch.bincount(data.train.labels).tolist() == [4] * 10
    assert not set(data.held_out_samples.sample_ids) & set(data.training_samples.sample_ids)
    assert data.held_out_samples.source == "zoo:patches/held_out?per_class=3"
