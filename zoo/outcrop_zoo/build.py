"""Make a zoo model from its recipe: train, export, test the exported file, and write it with its card."""

import hashlib
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from outcrop import version
from outcrop.errors import ZooError
from outcrop.progress import Progress, silent
from outcrop_zoo.cards import AccuracyRecord, Card, FileSource, ModelInput, TrainingRecord, write_card
from outcrop_zoo.catalogue import cache_folder
from outcrop_zoo.export import export_network
from outcrop_zoo.parity import open_session
from outcrop_zoo.recipes import Recipe
from outcrop_zoo.training import ImageSet, TrainingRun, read_checkpoint, train
from outcrop_zoo.training.data import load_recipe_data

LICENCE = "Apache-2.0"
REFERENCES = {
    "cifar_resnet": (
        "https://arxiv.org/abs/1512.03385",
        "https://arxiv.org/abs/2010.15327",
        "https://arxiv.org/abs/2202.07184",
    )
}
_PARITY_SAMPLES = 20
_TEST_BATCH = 250


def build(
    recipe: Recipe,
    *,
    folder: Path,
    checkpoints: Path | None = None,
    threads: int | None = None,
    replace: bool = False,
    progress: Progress = silent,
) -> Card:
    """Train a recipe's network and write ``NAME.onnx`` and ``NAME.json`` into a folder.

    The same recipe gives the same weights on one machine with one number of threads, also when it is stopped and
    run again. Nothing is written into the folder before everything has succeeded.

    Args:
        recipe: What to build.
        folder: Where model and card are written; made where there is none.
        checkpoints: Folder of ``NAME.pt``, written after each epoch and resumed from. By default in outcrop's cache,
            where it is removed after success; one in a folder given here is kept.
        threads: Of torch, during training and testing. By default those of the checkpoint that is resumed, else
            torch's own choice.
        replace: Whether files of an earlier build may be replaced.
        progress: Where epochs and tested images are reported.

    Raises:
        ZooError: The model exists already, the checkpoint does not fit, or the export does not agree with torch.
    """
    model_path, card_path = folder / f"{recipe.name}.onnx", folder / f"{recipe.name}.json"
    existing = [path for path in (model_path, card_path) if path.exists()]
    if existing and not replace:
        raise ZooError(f"{existing[0]} exists already; choose another folder, or pass --force (replace=True).")
    data = load_recipe_data(recipe)
    checkpoint = (checkpoints or cache_folder() / "training") / f"{recipe.name}.pt"
    with _threads(_chosen_threads(threads, checkpoint, recipe)) as used:
        run = _train(recipe, data.train, checkpoint, progress)
        with progress(f"Exporting {recipe.name}", 1, unit="models") as advance:
            exported = export_network(
                run.network,
                data.test.images[:_PARITY_SAMPLES],
                name=recipe.name,
                classes=data.classes,
                preprocessing=data.preprocessing,
            )
            advance(1)
        test = AccuracyRecord(
            data=data.test_source,
            images=len(data.test.labels),
            accuracy=graph_accuracy(
                exported.content, data.test, progress=progress, description=f"Testing {recipe.name}"
            ),
        )
    graph_input = exported.model.graph.input[0]
    images = len(data.train.labels)
    card = Card(
        name=recipe.name,
        family=recipe.family,
        architecture=recipe.architecture.name,
        width=recipe.architecture.width,
        depth=recipe.architecture.depth,
        seed=recipe.seed,
        data=recipe.data,
        recipe=recipe,
        step=recipe.epochs * -(-images // recipe.batch_size),
        training=TrainingRecord(
            images=images, epochs=recipe.epochs, seconds=round(run.seconds, 1), threads=used, hardware=_hardware()
        ),
        test=test,
        licence=LICENCE,
        references=REFERENCES[recipe.architecture.name],
        opset=exported.opset,
        input=ModelInput(name=graph_input.name, shape=tuple(data.test.images.shape[1:])),
        preprocessing=data.preprocessing,
        classes=data.classes,
        layers=exported.layers,
        parameters=sum(parameter.numel() for parameter in run.network.parameters()),
        size=len(exported.content),
        sha256=hashlib.sha256(exported.content).hexdigest(),
        source=FileSource(file=model_path.name),
        parity=exported.parity,
        outcrop=version(),
    )
    folder.mkdir(parents=True, exist_ok=True)
    partial = model_path.with_name(model_path.name + ".part")
    partial.write_bytes(exported.content)
    os.replace(partial, model_path)
    write_card(card, card_path)
    if checkpoints is None:
        checkpoint.unlink()
    return card


def graph_accuracy(
    content: bytes, data: ImageSet, *, progress: Progress = silent, description: str = "Testing"
) -> float:
    """Return the share of images, in [0, 1], whose largest logit is their label, as ONNX Runtime computes it."""
    session = open_session(content)
    name = session.get_inputs()[0].name
    hits = 0
    with progress(description, len(data.labels), unit="images") as advance:
        for start in range(0, len(data.labels), _TEST_BATCH):
            labels = data.labels[start : start + _TEST_BATCH].numpy()
            (logits,) = session.run(None, {name: data.images[start : start + _TEST_BATCH].numpy()})
            hits += int((logits.argmax(axis=1) == labels).sum())
            advance(len(labels))
    return hits / len(data.labels)


def _train(recipe: Recipe, data: ImageSet, checkpoint: Path, progress: Progress) -> TrainingRun:
    done = len(read_checkpoint(checkpoint, recipe)["history"]) if checkpoint.exists() else 0
    with progress(f"Training {recipe.name}", recipe.epochs - done, unit="epochs") as advance:
        return train(recipe, data, checkpoint=checkpoint, on_epoch=lambda _: advance(1))


def _chosen_threads(threads: int | None, checkpoint: Path, recipe: Recipe) -> int:
    """Return the number of threads to train with; a checkpoint's own, since another changes the last bits."""
    history = read_checkpoint(checkpoint, recipe)["history"] if checkpoint.exists() else []
    recorded = int(history[-1].get("threads", 0)) if history else 0
    if recorded and threads not in (None, recorded):
        raise ZooError(
            f"The checkpoint {checkpoint} was trained with {recorded} threads; {threads} would give other weights. "
            f"Continue with {recorded}, or delete it."
        )
    return recorded or threads or torch.get_num_threads()


@contextmanager
def _threads(count: int) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield count
    finally:
        torch.set_num_threads(before)


def _hardware() -> str:
    """Return the processor, its vector instructions as torch uses them, and torch's version."""
    processor = platform.processor() or platform.machine()
    table = Path("/proc/cpuinfo")
    if table.exists():
        names = [line.partition(":")[2].strip() for line in table.read_text().splitlines() if "model name" in line]
        processor = names[0] if names else processor
    return f"{processor} ({torch.backends.cpu.get_cpu_capability()}), torch {torch.__version__}"
