import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import xarray as xr
from onnx import numpy_helper

import outcrop
from outcrop.errors import StudyError, ZooError
from outcrop.progress import Advance
from outcrop_zoo.architectures import build_architecture
from outcrop_zoo.build import build, graph_accuracy
from outcrop_zoo.cards import Card, read_card
from outcrop_zoo.interventions import ColourJitterSpec
from outcrop_zoo.patches import load_patches
from outcrop_zoo.recipes import Recipe
from outcrop_zoo.training import ImageSet, read_checkpoint, train
from outcrop_zoo.training.data import load_recipe_data


class KilledError(Exception):
    pass


class Recorder:
    """Keeps what was reported, and stops after so many steps of one unit."""

    def __init__(self, stop_unit: str = "", stop_after: int = 0) -> None:
        self.done: dict[str, int] = {}
        self.totals: dict[str, int] = {}
        self._stop = (stop_unit, stop_after)

    @contextmanager
    def __call__(self, description: str, total: int, *, unit: str = "samples") -> Iterator[Advance]:
        self.totals[unit], self.done[unit] = total, 0

        def advance(steps: int) -> None:
            self.done[unit] += steps
            if (unit, self.done[unit]) == self._stop:
                raise KilledError

        yield advance


def test_a_build_writes_a_model_and_its_card(built: tuple[Card, Path], tiny_recipe: Recipe) -> None:
    card, folder = built
    content = (folder / "tiny.onnx").read_bytes()
    assert sorted(path.name for path in folder.iterdir()) == ["tiny.json", "tiny.onnx"]
    assert read_card(folder / "tiny.json") == card
    assert (card.size, card.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert (card.recipe, card.depth, card.width, card.seed) == (tiny_recipe, 8, 1, 0)
    assert (card.layers, card.parameters, card.opset) == (29, 78186, 20)
    assert (card.input.name, card.input.shape) == ("image", (3, 32, 32))
    assert card.training is not None
    assert (card.training.images, card.training.epochs, card.training.threads) == (40, 2, 1)
    assert card.step == 2 * 3
    assert card.training.seconds > 0
    assert torch.__version__ in card.training.hardware


def test_the_stated_accuracy_is_that_of_the_stored_file_on_all_test_patches(built: tuple[Card, Path]) -> None:
    card, folder = built
    patches = load_patches("test")
    session = onnxruntime.InferenceSession(folder / "tiny.onnx", providers=["CPUExecutionProvider"])
    images = (patches.images.astype(np.float32) / 255).transpose(0, 3, 1, 2)
    (logits,) = session.run(None, {"image": images})
    assert card.test is not None
    assert (card.test.data, card.test.images) == ("zoo:patches", 3000)
    assert card.test.accuracy == pytest.approx(np.mean(logits.argmax(axis=1) == patches.labels), abs=1e-3)
    assert card.classes == patches.classes


def test_a_build_that_was_killed_and_resumed_gives_the_same_file(
    built: tuple[Card, Path], tiny_recipe: Recipe, tmp_path: Path
) -> None:
    folder = tmp_path / "zoo"
    with pytest.raises(KilledError):
        build(tiny_recipe, folder=folder, threads=1, progress=Recorder("epochs", 1))
    assert not folder.exists()
    assert (tmp_path / "cache" / "training" / "tiny.pt").exists()
    seen = Recorder()
    card = build(tiny_recipe, folder=folder, progress=seen)
    assert seen.totals == seen.done == {"epochs": 1, "models": 1, "images": 3000}
    assert card.sha256 == built[0].sha256
    assert not (tmp_path / "cache" / "training" / "tiny.pt").exists()


def test_a_finished_checkpoint_in_a_given_folder_is_used_and_kept(
    built: tuple[Card, Path], tiny_recipe: Recipe, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "tiny.pt"
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    run = train(tiny_recipe, load_recipe_data(tiny_recipe).train, checkpoint=checkpoint)
    torch.set_num_threads(before)
    content = checkpoint.read_bytes()
    card = build(tiny_recipe, folder=tmp_path / "zoo", checkpoints=tmp_path)
    assert card.sha256 == built[0].sha256
    assert card.training is not None
    assert card.training.seconds == pytest.approx(run.seconds, abs=0.05)
    assert checkpoint.read_bytes() == content
    assert torch.get_num_threads() == before


def test_a_checkpoint_of_another_number_of_threads_is_refused(tiny_recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        build(tiny_recipe, folder=tmp_path / "zoo", checkpoints=tmp_path, threads=1, progress=Recorder("epochs", 1))
    assert read_checkpoint(tmp_path / "tiny.pt", tiny_recipe)["history"][0]["threads"] == 1
    with pytest.raises(
        ZooError, match=r"tiny.pt was trained with 1 threads; 2 would give other weights. Continue with 1"
    ):
        build(tiny_recipe, folder=tmp_path / "zoo", checkpoints=tmp_path, threads=2)


def test_an_earlier_build_is_not_replaced_unasked(
    built: tuple[Card, Path], tiny_recipe: Recipe, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(built[1], tmp_path / "zoo"))
    with pytest.raises(ZooError, match=r"tiny.json exists already; choose another folder, or pass --force"):
        build(tiny_recipe, folder=folder)
    (folder / "tiny.onnx").write_bytes(b"damaged")
    build(tiny_recipe, folder=folder, threads=1, replace=True)
    assert hashlib.sha256((folder / "tiny.onnx").read_bytes()).hexdigest() == built[0].sha256


def test_graph_accuracy_counts_a_last_batch_that_is_smaller(built: tuple[Card, Path], tiny_recipe: Recipe) -> None:
    content = (built[1] / "tiny.onnx").read_bytes()
    data = load_recipe_data(tiny_recipe).test
    some = ImageSet(data.images[:263], data.labels[:263])
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    hits = [
        int(session.run(None, {"image": image[None].numpy()})[0].argmax()) == int(label)
        for image, label in zip(some.images, some.labels, strict=True)
    ]
    assert graph_accuracy(content, some) == pytest.approx(sum(hits) / 263)


def test_a_series_of_checkpoints_is_built_beside_the_model(
    built: tuple[Card, Path], tiny_recipe: Recipe, tmp_path: Path
) -> None:
    recipe = tiny_recipe.model_copy(update={"snapshots": (0, 4, 6)})
    folder = tmp_path / "zoo"
    seen = Recorder()
    card = build(recipe, folder=folder, threads=1, progress=seen)
    assert sorted(path.name for path in folder.glob("*.onnx")) == [
        "tiny.onnx",
        "tiny@0.onnx",
        "tiny@4.onnx",
        "tiny@6.onnx",
    ]
    assert not list((tmp_path / "cache" / "training").glob("*.pt"))
    cards = {step: read_card(folder / f"tiny@{step}.json") for step in (0, 4, 6)}
    assert [cards[step].step for step in cards] == [0, 4, 6]
    assert all(card.recipe == recipe for card in cards.values())

    def weights(name: str) -> dict[str, np.ndarray]:
        model = onnx.load_model(folder / f"{name}.onnx")
        return {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}

    # The snapshots changed nothing, and the last one is the model itself.
    assert hashlib.sha256((folder / "tiny.onnx").read_bytes()).hexdigest() == built[0].sha256 == card.sha256
    last, end = weights("tiny@6"), weights("tiny")
    assert all(np.array_equal(value, end[name]) for name, value in last.items())
    torch.manual_seed(recipe.seed)
    fresh = build_architecture(recipe.architecture).state_dict()
    start = weights("tiny@0")
    np.testing.assert_array_equal(start["conv.weight"], fresh["conv.weight"].half().numpy())
    assert not np.array_equal(weights("tiny@4")["conv.weight"], end["conv.weight"])
    trained = [card.training for card in (*cards.values(), card)]
    assert [record.epochs for record in trained if record] == [0, 1, 2, 2]
    seconds = [record.seconds for record in trained if record]
    assert seconds == sorted(seconds)
    for path in folder.iterdir():
        if path.name != "tiny@4.json":
            path.unlink()
    with pytest.raises(ZooError, match=r"tiny@4.json exists already; choose another folder, or pass --force"):
        build(recipe, folder=folder, threads=1)


def test_a_build_cites_what_was_done_and_stores_its_metrics(tiny_recipe: Recipe, tmp_path: Path) -> None:
    recipe = tiny_recipe.model_copy(update={"epochs": 1, "interventions": (ColourJitterSpec(),)})
    card = build(recipe, folder=tmp_path / "zoo", threads=1, study=tmp_path / "study.zarr")
    assert card.references == (
        "https://arxiv.org/abs/1512.03385",
        "https://arxiv.org/abs/2010.15327",
        "https://arxiv.org/abs/2202.07184",
        "https://arxiv.org/abs/2002.05709",
    )
    with xr.open_datatree(tmp_path / "study.zarr", engine="zarr") as tree:
        [run] = tree["results/training"].children.values()
        assert run["training"].attrs["model"] == "tiny"
        assert run["training"]["step"].values.tolist() == [3]


# What torch warns of while it traces is its own access to a gradient.
@pytest.mark.filterwarnings("default:The .grad attribute of a Tensor:UserWarning")
def test_a_compiled_build_says_so_and_is_continued_as_it_was(tiny_recipe: Recipe, tmp_path: Path) -> None:
    make = partial(build, tiny_recipe, folder=tmp_path / "zoo", checkpoints=tmp_path, threads=1, device="cpu")
    with pytest.raises(KilledError):
        make(compiler="eager", progress=Recorder("epochs", 1))
    with pytest.raises(
        ZooError, match="with device 'cpu' and compiler 'eager'; device 'cpu' and compiler 'none' would"
    ):
        make(compiler="")
    card = make()
    assert card.training is not None
    assert card.training.hardware.endswith(", compiled by eager")


def test_a_study_that_cannot_take_metrics_is_told_of_before_the_training(tiny_recipe: Recipe, tmp_path: Path) -> None:
    outcrop.open(tmp_path / "study.zarr", mode="a")
    seen = Recorder()
    with pytest.raises(StudyError, match="was opened to read"):
        build(tiny_recipe, folder=tmp_path / "zoo", study=outcrop.open(tmp_path / "study.zarr"), progress=seen)
    assert "epochs" not in seen.done
