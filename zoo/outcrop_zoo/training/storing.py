"""A training's metrics in a study, as a result among the others."""

import hashlib
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from torch import nn

from outcrop.analysis.provenance import ModelRecord, Provenance, environment
from outcrop.store.dataset import write_data
from outcrop.store.results import has_result, write_result
from outcrop.store.subjects import data_record
from outcrop_zoo.training.run import KIND, KIND_VERSION, TrainingRun

if TYPE_CHECKING:
    from outcrop import Study
    from outcrop.data import Data

ANALYSIS = "training"


def store_metrics(run: TrainingRun, study: "Study | str | os.PathLike[str]", data: "Data") -> str:
    """Store the metrics of a training in a study, and return the id of the run.

    They are read as ``study.result("training")["training"]``, of kind ``training``, and show the recipe, the training
    images and what it was trained with as their provenance. The same training is stored once.

    Args:
        run: From :func:`outcrop_zoo.training.train`.
        study: An open study, or where it is; made where there is none.
        data: Training images.

    Raises:
        StudyError: The study was opened to read.
        StudyLockedError: Another process is writing to it.
    """
    import outcrop

    opened = outcrop.open(study, mode="a") if isinstance(study, str | os.PathLike) else study
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    provenance = Provenance(
        analysis=ANALYSIS,
        version=KIND_VERSION,
        parameters=run.recipe.model_dump(mode="json"),
        selection="",
        layers={run.recipe.name: ()},
        models=(
            ModelRecord(
                name=run.recipe.name,
                source=f"recipe {run.recipe.name}",
                fingerprint=weights_digest(run.network),
                preprocessing="pixels in [0, 1]",
                device=run.device,
                mode="training",
            ),
        ),
        data=data_record(data),
        requires={},
        seed=run.recipe.seed,
        environment=environment(),
        started=now,
        finished=now,
    )
    with opened.writing():
        if not has_result(opened.root, ANALYSIS, provenance.run_id):
            write_data(opened.root, data, opened.progress)
            write_result(opened.root, {KIND: run.metrics()}, provenance)
            opened.refresh()
    return provenance.run_id


def weights_digest(network: nn.Module) -> str:
    """Return a hash of all weights and buffers of a network, with their names."""
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        digest.update(f"{name}:{value.dtype}:{tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return f"weights:{digest.hexdigest()}"
