from pathlib import Path

import pytest
import torch

from outcrop.errors import ZooError
from outcrop_zoo.recipes import Recipe
from outcrop_zoo.training import ImageSet, read_checkpoint, train
from outcrop_zoo.training.checkpoints import read_snapshot, snapshot_path
from outcrop_zoo.training.data import load_recipe_data

_FIRST_FIELDS = (
    "data",
    "images_per_class",
    "seed",
    "epochs",
    "batch_size",
    "learning_rate",
    "momentum",
    "weight_decay",
    "precision",
)
"""Of a recipe, beside its name, family and architecture, when checkpoints were first written."""


@pytest.fixture(scope="module")
def recipe(tiny_recipe: Recipe) -> Recipe:
    return tiny_recipe.model_copy(update={"epochs": 3})


@pytest.fixture(scope="module")
def images(recipe: Recipe) -> ImageSet:
    return load_recipe_data(recipe).train


def test_the_checkpoint_of_another_recipe_is_refused(recipe: Recipe, images: ImageSet, tmp_path: Path) -> None:
    checkpoint = tmp_path / "tiny.pt"
    train(recipe.model_copy(update={"epochs": 1}), images, checkpoint=checkpoint)
    with pytest.raises(
        ZooError, match=r"written by another recipe than 'tiny': found epochs 1, expected 3\. Delete it"
    ):
        train(recipe, images, checkpoint=checkpoint)


def test_the_checkpoint_of_an_older_release_has_the_defaults_of_newer_fields(
    recipe: Recipe, images: ImageSet, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "tiny.pt"
    train(recipe, images, checkpoint=checkpoint)
    state = torch.load(checkpoint, weights_only=True)
    state["recipe"] = recipe.model_dump_json(exclude={"momentum"})
    torch.save(state, checkpoint)
    assert len(read_checkpoint(checkpoint, recipe)["history"]) == 3


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 half a zip"])
def test_a_broken_checkpoint_is_refused(content: bytes, recipe: Recipe, images: ImageSet, tmp_path: Path) -> None:
    checkpoint = tmp_path / "tiny.pt"
    checkpoint.write_bytes(content)
    with pytest.raises(ZooError, match=r"tiny.pt cannot be read .*Delete it to train again from the start"):
        train(recipe, images, checkpoint=checkpoint)
    assert checkpoint.read_bytes() == content


def test_a_checkpoint_of_the_first_release_is_continued_as_one_of_the_cpu(
    recipe: Recipe, images: ImageSet, tmp_path: Path
) -> None:
    class KilledError(Exception):
        pass

    def kill(row: dict[str, float]) -> None:
        raise KilledError

    checkpoint = tmp_path / "tiny.pt"
    with pytest.raises(KilledError):
        train(recipe, images, checkpoint=checkpoint, on_epoch=kill, device="cpu")
    state = torch.load(checkpoint, weights_only=True)
    old = {key: state[key] for key in ("recipe", "network", "optimizer", "history")}
    del old["history"][0]["step"]
    old["recipe"] = recipe.model_dump_json(include={"name", "family", "architecture", *_FIRST_FIELDS})
    torch.save(old, checkpoint)
    continued = train(recipe, images, checkpoint=checkpoint, device="cpu")
    expected = train(recipe, images, device="cpu").network.state_dict()
    for name, value in continued.network.state_dict().items():
        assert torch.equal(value, expected[name]), name
    assert [row["step"] for row in continued.history] == [3, 6, 9]


def test_a_checkpoint_of_other_settings_is_refused(recipe: Recipe, images: ImageSet, tmp_path: Path) -> None:
    checkpoint = tmp_path / "tiny.pt"
    train(recipe.model_copy(update={"epochs": 1}), images, checkpoint=checkpoint, device="cpu")
    with pytest.raises(
        ZooError, match=r"trained with device 'cpu' and compiler 'none'; device 'cpu' and compiler 'eager' would give"
    ):
        train(recipe.model_copy(update={"epochs": 1}), images, checkpoint=checkpoint, device="cpu", compiler="eager")


def test_checkpoints_and_snapshots_are_told_apart(recipe: Recipe, images: ImageSet, tmp_path: Path) -> None:
    kept = recipe.model_copy(update={"epochs": 1, "snapshots": (1,)})
    train(kept, images, checkpoint=tmp_path / "tiny.pt")
    snapshot = snapshot_path(tmp_path, kept, 1)
    assert snapshot.name == "tiny@1.pt"
    assert read_snapshot(snapshot, kept)["step"] == 1
    with pytest.raises(ZooError, match=r"snapshot .*tiny.pt cannot be read \(it is a checkpoint\). Delete it"):
        read_snapshot(tmp_path / "tiny.pt", kept)
    with pytest.raises(ZooError, match=r"checkpoint .*tiny@1.pt cannot be read \(it is a snapshot\). Delete it"):
        read_checkpoint(snapshot, kept)


def test_a_lost_snapshot_is_told_when_the_training_is_continued(
    recipe: Recipe, images: ImageSet, tmp_path: Path
) -> None:
    kept = recipe.model_copy(update={"epochs": 1, "snapshots": (0, 2)})
    train(kept, images, checkpoint=tmp_path / "tiny.pt")
    snapshot_path(tmp_path, kept, 2).unlink()
    with pytest.raises(
        ZooError, match=r"tiny.pt is at step 3, and the snapshot of step 2 .* is gone. Delete the check"
    ):
        train(kept, images, checkpoint=tmp_path / "tiny.pt")


def test_a_checkpoint_of_a_newer_release_is_refused_by_what_it_says_beyond(
    recipe: Recipe, images: ImageSet, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "tiny.pt"
    train(recipe.model_copy(update={"epochs": 1}), images, checkpoint=checkpoint)
    state = torch.load(checkpoint, weights_only=True)
    state["recipe"] = state["recipe"].replace('"epochs"', '"ages": 2, "epochs"')
    torch.save(state, checkpoint)
    with pytest.raises(
        ZooError, match=r"cannot be read \(its recipe: ages: Extra inputs are not permitted\). Delete it"
    ):
        read_checkpoint(checkpoint, recipe)


def test_a_checkpoint_is_not_continued_on_other_images(recipe: Recipe, images: ImageSet, tmp_path: Path) -> None:
    checkpoint = tmp_path / "tiny.pt"
    one = recipe.model_copy(update={"epochs": 1})
    train(one, images, checkpoint=checkpoint)
    brighter = images.images.clone()
    brighter[3, 0, 0, 0] += 1 / 255
    for other in (ImageSet(brighter, images.labels), ImageSet(images.images, images.labels.flip(0))):
        with pytest.raises(
            ZooError, match=r"tiny.pt was trained on other images than the data 'zoo:patches' holds. Give those"
        ):
            train(one, other, checkpoint=checkpoint)
    assert train(one, images, checkpoint=checkpoint).epoch == 1


def test_other_held_out_images_are_refused_where_weights_are_chosen_by_them(
    recipe: Recipe, images: ImageSet, tmp_path: Path
) -> None:
    chosen = recipe.model_copy(update={"epochs": 1, "held_out_per_class": 1, "selection": "held_out"})
    held_out, other = (ImageSet(images.images[start::2], images.labels[start::2]) for start in (0, 1))
    train(chosen, images, held_out=held_out, checkpoint=tmp_path / "a.pt")
    with pytest.raises(ZooError, match=r"a.pt was trained on other images"):
        train(chosen, images, held_out=other, checkpoint=tmp_path / "a.pt")
    measured = chosen.model_copy(update={"selection": "last"})
    train(measured, images, held_out=held_out, checkpoint=tmp_path / "b.pt")
    train(measured, images, held_out=other, checkpoint=tmp_path / "b.pt")
