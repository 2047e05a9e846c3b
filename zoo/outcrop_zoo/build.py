"""Make a zoo model from its recipe: train, export, test the exported file, and write it with its card."""

import hashlib
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from outcrop import version
from outcrop.errors import ZooError
from outcrop.progress import Progress, silent
from outcrop_zoo.architectures import REFERENCES
from outcrop_zoo.cards import AccuracyRecord, Card, FileSource, ModelInput, TrainingRecord
from outcrop_zoo.exporting import export_network, open_session
from outcrop_zoo.folders import cache_folder
from outcrop_zoo.placement import check_free, only_builder, place
from outcrop_zoo.recipes import Recipe
from outcrop_zoo.training import ImageSet, TrainingRun, read_checkpoint, snapshot_network, train
from outcrop_zoo.training.checkpoints import snapshot_name, snapshot_path
from outcrop_zoo.training.data import RecipeData, load_recipe_data
from outcrop_zoo.training.setup import steps_per_epoch
from outcrop_zoo.training.storing import MetricsStore

if TYPE_CHECKING:
    from outcrop import Study

LICENCE = "Apache-2.0"
_INTERVENTION_REFERENCES = {
    "colour_jitter": "https://arxiv.org/abs/2002.05709",
    "frozen_prefix": "https://arxiv.org/abs/2307.12941",
    "initialise_from": "https://arxiv.org/abs/2202.07184",
    "principal_component_penalty": "https://arxiv.org/abs/2202.07184",
    "rotation": "https://arxiv.org/abs/2307.12941",
}
_PARITY_SAMPLES = 20
_TEST_BATCH = 250


def build(
    recipe: Recipe,
    *,
    folder: Path,
    checkpoints: Path | None = None,
    threads: int | None = None,
    device: str | None = None,
    compiler: str | None = None,
    replace: bool = False,
    study: "Study | str | os.PathLike[str] | None" = None,
    progress: Progress = silent,
) -> Card:
    """Train a recipe's network and write ``NAME.onnx`` and ``NAME.json`` into a folder; return the card.

    So it does with each of the recipe's snapshots, as ``NAME@STEP``. The same recipe gives the same weights on one
    machine with one kind of device and number of threads, also when it is stopped or killed and run again. Nothing is
    written into the folder before everything has succeeded; the model's own card comes last.

    Args:
        recipe: What to build.
        folder: Where models and cards are written; made where there is none.
        checkpoints: Folder of ``NAME.pt``, written after each epoch and resumed from. By default in outcrop's cache,
            where it is removed after success; one in a folder given here is kept.
        threads: Of torch, during training and testing. By default those of the checkpoint that is resumed, else
            torch's own choice.
        device: Of the training, such as ``cpu`` or ``cuda``. By default that of the checkpoint, else CUDA where there
            is any.
        compiler: Backend of ``torch.compile`` for the training, such as ``inductor``: faster where trainings are long,
            and other last bits. By default that of the checkpoint, else none.
        replace: Whether files of an earlier build may be replaced.
        study: Where the metrics of the training are stored, if anywhere: after every epoch, and at the end.
        progress: Where epochs and tested images are reported.

    Raises:
        DataNotFoundError: The recipe's images are not on this machine.
        ZooError: The model exists already or is being built by another process, the checkpoint does not fit, or the
            export does not agree with torch.
    """
    kept = checkpoints or cache_folder() / "training"
    checkpoint = kept / f"{recipe.name}.pt"
    if not replace:
        check_free(recipe, folder, interrupted=checkpoint.exists())
    data = load_recipe_data(recipe)
    # A study that cannot be written to is told of before the training.
    metrics = MetricsStore(study, data.training_samples) if study is not None else None
    with only_builder(recipe, kept), _threads(_chosen_threads(threads, checkpoint, recipe)) as used:
        if not replace:  # another process may have built it meanwhile
            check_free(recipe, folder, interrupted=checkpoint.exists())
        run = _train(recipe, data, checkpoint, device, compiler, metrics, progress)
        record = _Record(recipe, data, run, used, progress)
        made = [
            record.export(
                snapshot_network(recipe, snapshot_path(kept, recipe, step), data.train),
                name=snapshot_name(recipe, step),
                step=step,
            )
            for step in recipe.snapshots
        ]
        made.append(record.export(run.network, name=recipe.name, step=run.step))
        # Before the card that says that all is done: what fails here is done again by the next build.
        if metrics is not None:
            metrics.write(run)
        place(made, folder, replace=replace)
        if checkpoints is None:
            for path in (checkpoint, *(snapshot_path(kept, recipe, step) for step in recipe.snapshots)):
                path.unlink()
    return made[-1][0]


@dataclass(frozen=True)
class _Record:
    """What the cards of one training have in common."""

    recipe: Recipe
    data: RecipeData
    run: TrainingRun
    threads: int
    progress: Progress

    def export(self, network: nn.Module, *, name: str, step: int) -> tuple[Card, bytes]:
        """Return card and content of one network's file."""
        recipe, data = self.recipe, self.data
        with self.progress(f"Exporting {name}", 1, unit="models") as advance:
            exported = export_network(
                network,
                data.test.images[:_PARITY_SAMPLES],
                name=name,
                classes=data.classes,
                preprocessing=data.preprocessing,
            )
            advance(1)
        accuracy = graph_accuracy(exported.content, data.test, progress=self.progress, description=f"Testing {name}")
        graph_input = exported.model.graph.input[0]
        card = Card(
            name=name,
            family=recipe.family,
            architecture=recipe.architecture.name,
            width=recipe.architecture.width,
            depth=recipe.architecture.depth,
            seed=recipe.seed,
            data=recipe.data,
            recipe=recipe,
            step=step,
            training=self._training(step),
            test=AccuracyRecord(data=data.test_source, images=len(data.test.labels), accuracy=accuracy),
            licence=LICENCE,
            references=_references(recipe),
            opset=exported.opset,
            input=ModelInput(name=graph_input.name, shape=tuple(data.test.images.shape[1:])),
            preprocessing=data.preprocessing,
            classes=data.classes,
            layers=exported.layers,
            parameters=sum(parameter.numel() for parameter in network.parameters()),
            size=len(exported.content),
            sha256=hashlib.sha256(exported.content).hexdigest(),
            source=FileSource(file=f"{name}.onnx"),
            parity=exported.parity,
            outcrop=version(),
        )
        return card, exported.content

    def _training(self, step: int) -> TrainingRecord:
        """Return what it took to come to a step; all of the training for the weights that it ends with."""
        images, rows = len(self.data.train.labels), self.run.history
        epochs, rest = divmod(step, steps_per_epoch(self.recipe, images))
        seconds = sum(row["seconds"] for row in rows[:epochs])
        if rest:
            seconds += rows[epochs]["seconds"] * rest / steps_per_epoch(self.recipe, images)
        if step == self.run.step:
            epochs, seconds = self.recipe.epochs, self.run.seconds
        hardware = hardware_text(self.run.device)
        if self.run.compiler:
            hardware += f", compiled by {self.run.compiler}"
        return TrainingRecord(
            images=images, epochs=epochs, seconds=round(seconds, 1), threads=self.threads, hardware=hardware
        )


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


def _train(
    recipe: Recipe,
    data: RecipeData,
    checkpoint: Path,
    device: str | None,
    compiler: str | None,
    metrics: MetricsStore | None,
    progress: Progress,
) -> TrainingRun:
    state = read_checkpoint(checkpoint, recipe) if checkpoint.exists() else None
    done = len(state["history"]) if state else 0
    settings: dict[str, str] = state["settings"] if state else {}
    with progress(f"Training {recipe.name}", recipe.epochs - done, unit="epochs") as advance:
        return train(
            recipe,
            data.train,
            held_out=data.held_out,
            checkpoint=checkpoint,
            device=device or settings.get("device"),
            compiler=settings.get("compiler", "") if compiler is None else compiler,
            on_epoch=lambda _: advance(1),
            watch=None if metrics is None else metrics.watch,
        )


def _references(recipe: Recipe) -> tuple[str, ...]:
    added = [_INTERVENTION_REFERENCES.get(one.kind, "") for one in recipe.interventions]
    return tuple(dict.fromkeys([*REFERENCES[recipe.architecture.name], *filter(None, added)]))


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


def hardware_text(device: str = "cpu") -> str:
    """Return the GPU, or the processor with its vector instructions as torch uses them; and torch's version."""
    if torch.device(device).type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    processor = platform.processor() or platform.machine()
    table = Path("/proc/cpuinfo")
    if table.exists():
        names = [line.partition(":")[2].strip() for line in table.read_text().splitlines() if "model name" in line]
        processor = names[0] if names else processor
    return f"{processor} ({torch.backends.cpu.get_cpu_capability()}), torch {torch.__version__}"
