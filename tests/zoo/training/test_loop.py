import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from outcrop.errors import ZooError
from outcrop_zoo.architectures import build_architecture
from outcrop_zoo.recipes import Recipe
from outcrop_zoo.training import ImageSet, TrainingRun, accuracy, train
from outcrop_zoo.training.augmentation import crop_and_flip
from outcrop_zoo.training.data import load_recipe_data


@pytest.fixture(scope="module")
def recipe(tiny_recipe: Recipe) -> Recipe:
    return tiny_recipe.model_copy(update={"epochs": 3})


@pytest.fixture(scope="module")
def images(recipe: Recipe) -> ImageSet:
    return load_recipe_data(recipe).train


@pytest.fixture(scope="module")
def uninterrupted(recipe: Recipe, images: ImageSet) -> TrainingRun:
    return train(recipe, images)


def _assert_equal_weights(one: TrainingRun, other: TrainingRun) -> None:
    for (name, expected), found in zip(
        one.network.state_dict().items(), other.network.state_dict().values(), strict=True
    ):
        assert torch.equal(expected, found), name


def test_training_twice_gives_identical_weights(recipe: Recipe, images: ImageSet, uninterrupted: TrainingRun) -> None:
    _assert_equal_weights(uninterrupted, train(recipe, images))


def test_a_resumed_training_equals_an_uninterrupted_one_bit_for_bit(
    recipe: Recipe, images: ImageSet, uninterrupted: TrainingRun, tmp_path: Path
) -> None:
    class KilledError(Exception):
        pass

    def kill(row: dict[str, float]) -> None:
        if row["epoch"] == 2:
            raise KilledError

    checkpoint = tmp_path / "folder" / "tiny.pt"
    with pytest.raises(KilledError):
        train(recipe, images, checkpoint=checkpoint, on_epoch=kill)
    rows: list[dict[str, float]] = []
    resumed = train(recipe, images, checkpoint=checkpoint, on_epoch=rows.append)
    assert [row["epoch"] for row in rows] == [3]
    assert [row["epoch"] for row in resumed.history] == [1, 2, 3]
    assert resumed.seconds == sum(row["seconds"] for row in resumed.history) > 0
    assert not list(checkpoint.parent.glob("*.part"))
    _assert_equal_weights(uninterrupted, resumed)


def test_another_seed_gives_other_weights(recipe: Recipe, images: ImageSet, uninterrupted: TrainingRun) -> None:
    other = train(recipe.model_copy(update={"seed": 1, "epochs": 1}), images)
    assert not torch.equal(other.network.state_dict()["conv.weight"], uninterrupted.network.state_dict()["conv.weight"])


def test_the_learning_rate_falls_by_half_a_cosine(recipe: Recipe, uninterrupted: TrainingRun) -> None:
    rates = [row["learning_rate"] for row in uninterrupted.history]
    assert rates == pytest.approx([0.01, 0.01 * (1 + math.cos(math.pi / 3)) / 2, 0.01 * (1 - 0.5) / 2])


def test_the_first_step_is_gradient_descent_that_decays_kernels_only(recipe: Recipe, images: ImageSet) -> None:
    one_step = recipe.model_copy(update={"epochs": 1, "batch_size": len(images.labels)})
    run = train(one_step, images)
    torch.manual_seed(one_step.seed)
    network = build_architecture(one_step.architecture).to(memory_format=torch.channels_last)
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(images.labels), generator=generator)
    loss = F.cross_entropy(network(crop_and_flip(images.images[order], generator=generator)), images.labels[order])
    loss.backward()
    assert run.history[0]["loss"] == pytest.approx(loss.item(), rel=1e-5)
    for (name, before), after in zip(network.named_parameters(), run.network.parameters(), strict=True):
        assert before.grad is not None
        decay = 2e-3 * before if before.ndim > 1 else 0
        # Near-zero entries of the gradient differ by rounding: other memory layout, other order of sums.
        torch.testing.assert_close(after, before - 0.01 * (before.grad + decay), rtol=1e-4, atol=1e-6, msg=name)


def test_training_learns_what_separates_the_classes(recipe: Recipe) -> None:
    colours = torch.eye(3).repeat(20, 1)
    images = ImageSet(colours[:, :, None, None].expand(-1, -1, 32, 32).clone(), torch.arange(3).repeat(20))
    longer = recipe.model_copy(update={"epochs": 12, "learning_rate": 0.05})
    history = train(longer, images).history
    assert history[-1]["loss"] < 0.1 * history[0]["loss"]
    assert history[-1]["train_accuracy"] == 1


def test_accuracy_is_the_share_of_largest_logits(images: ImageSet) -> None:
    network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 10))
    logits = network(images.images).detach().numpy()
    expected = np.mean(logits.argmax(axis=1) == images.labels.numpy())
    assert accuracy(network, images, batch_size=7) == pytest.approx(expected)


def test_training_leaves_the_global_generator_as_it_was(recipe: Recipe, images: ImageSet) -> None:
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    train(recipe.model_copy(update={"epochs": 1}), images, device="cpu")
    assert torch.equal(torch.rand(3), expected)


def test_rows_say_step_and_everything_else(uninterrupted: TrainingRun) -> None:
    assert [row["step"] for row in uninterrupted.history] == [3, 6, 9]
    assert (uninterrupted.epoch, uninterrupted.step, uninterrupted.device) == (3, 9, "cpu")
    assert "held_out_accuracy" not in uninterrupted.history[0]
    assert "penalty" not in uninterrupted.history[0]


def test_smaller_batches_take_more_steps(recipe: Recipe, images: ImageSet) -> None:
    run = train(recipe.model_copy(update={"epochs": 1, "batch_size": 8}), images, device="cpu")
    assert run.step == 5


# What torch warns of while it traces is its own access to a gradient.
@pytest.mark.filterwarnings("default:The .grad attribute of a Tensor:UserWarning")
def test_a_compiled_network_trains_to_the_weights_of_one_that_is_not(
    recipe: Recipe, images: ImageSet, uninterrupted: TrainingRun
) -> None:
    # The backend that runs operations as they are: others fuse them, and differ in the last bits.
    _assert_equal_weights(uninterrupted, train(recipe, images, device="cpu", compiler="eager"))


def test_another_order_begins_with_the_same_weights_and_parts_where_it_is_told_to(
    recipe: Recipe, images: ImageSet, uninterrupted: TrainingRun, tmp_path: Path
) -> None:
    first, shared = uninterrupted.history[0], {}
    for epochs in (0, 1):
        reordered = recipe.model_copy(update={"order_seed": 7, "shared_epochs": epochs, "snapshots": (0, 3)})
        run = train(reordered, images, checkpoint=tmp_path / str(epochs) / "tiny.pt", device="cpu")
        assert (run.history[0]["loss"] == first["loss"]) == (epochs == 1)
        assert run.history[1]["loss"] != uninterrupted.history[1]["loss"]
        _assert_equal_weights(run, train(reordered.model_copy(update={"snapshots": ()}), images, device="cpu"))
        shared[epochs] = [
            torch.load(tmp_path / str(epochs) / f"tiny@{step}.pt", weights_only=True)["network"] for step in (0, 3)
        ]
    torch.manual_seed(recipe.seed)
    start = build_architecture(recipe.architecture).state_dict()
    one_epoch = recipe.model_copy(update={"snapshots": (3,)})
    train(one_epoch, images, checkpoint=tmp_path / "plain" / "tiny.pt", device="cpu")
    after = torch.load(tmp_path / "plain" / "tiny@3.pt", weights_only=True)["network"]
    for name, value in start.items():
        assert torch.equal(shared[0][0][name], value), name
        assert torch.equal(shared[1][0][name], value), name
        assert torch.equal(shared[1][1][name], after[name]), name
    assert not torch.equal(shared[0][1]["conv.weight"], after["conv.weight"])


def test_a_training_that_diverges_stops_and_says_so(recipe: Recipe, images: ImageSet, tmp_path: Path) -> None:
    wild = recipe.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(ZooError, match=r"The loss of 'tiny' is nan in epoch 1: the training diverged at learning rate"):
        train(wild, images, checkpoint=tmp_path / "tiny.pt", device="cpu")
    assert not (tmp_path / "tiny.pt").exists()


def test_images_that_do_not_fit_the_recipe_are_refused(recipe: Recipe, images: ImageSet) -> None:
    with pytest.raises(ZooError, match=r"There are 40 images and 39 labels to train 'tiny' on; give as many of both"):
        train(recipe, ImageSet(images.images, images.labels[1:]))
    with pytest.raises(ZooError, match="There are 0 images and 0 labels to train 'tiny' on"):
        train(recipe, ImageSet(images.images[:0], images.labels[:0]))
    for labels, found in ((images.labels + 1, "from 1 to 10"), (images.labels - 1, "from -1 to 8")):
        with pytest.raises(ZooError, match=f"labels go {found}; the recipe 'tiny' has 10 classes, from 0. Change 'cl"):
            train(recipe, ImageSet(images.images, labels))


def test_the_run_so_far_can_be_watched(recipe: Recipe, images: ImageSet) -> None:
    seen: list[tuple[int, int, bool]] = []
    run = train(
        recipe, images, watch=lambda run: seen.append((len(run.history), run.epoch, run.network.training)), device="cpu"
    )
    assert seen == [(1, 1, True), (2, 2, True), (3, 3, True)]
    assert not run.network.training


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_training_twice_on_cuda_gives_identical_weights(recipe: Recipe, images: ImageSet) -> None:
    runs = [train(recipe, images, device="cuda") for _ in range(2)]
    _assert_equal_weights(*runs)
    assert runs[0].device == "cuda"
