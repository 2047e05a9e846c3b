"""A training's metrics in a study, as a result among the others, while it goes on and when it has ended."""

import hashlib
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import zarr

from outcrop.analysis.provenance import ModelRecord, Provenance, environment
from outcrop.errors import StudyError
from outcrop.store.dataset import write_data
from outcrop.store.results import has_result, write_result
from outcrop.store.subjects import data_record
from outcrop_zoo.training.run import KIND, KIND_VERSION, TrainingRun

if TYPE_CHECKING:
    from outcrop import Study
    from outcrop.data import Data

ANALYSIS = "training"

_PATIENCE = 60.0
"""Seconds that the end of a training waits for another process to let go of the study."""


class MetricsStore:
    """The place of one training's metrics in a study.

    They are read as ``study.result("training")["training"]``, of kind ``training``, and show the recipe, the training
    images and what it was trained with as their provenance. A training has one place: what is stored there grows by an
    epoch at a time, and never shrinks.

    Args:
        study: An open study, or where it is; made where there is none.
        data: Training images, which are described in the study at once.

    Raises:
        StudyError: It cannot be opened, or was opened to read.
        StudyLockedError: Another process is writing to it.
    """

    def __init__(self, study: "Study | str | os.PathLike[str]", data: "Data") -> None:
        import outcrop

        self._study = outcrop.open(study, mode="a") if isinstance(study, str | os.PathLike) else study
        self._data = data
        self._started = _now()
        with self._study.writing(wait=_PATIENCE):
            write_data(self._study.root, data, self._study.progress)
            self._study.refresh()

    def write(self, run: TrainingRun, *, wait: float = _PATIENCE) -> str:
        """Store the metrics of a run as far as it has come, and return the id of the result.

        Args:
            run: Finished or not.
            wait: Seconds to wait for another process to let go of the study.

        Raises:
            StudyLockedError: Another process is writing to it.
        """
        study, provenance = self._study, self._provenance(run)
        with study.writing(wait=wait):
            if self._stored_epochs(provenance.run_id) < len(run.history):
                write_result(study.root, {KIND: run.metrics()}, provenance)
                study.refresh()
        return provenance.run_id

    def watch(self, run: TrainingRun) -> None:
        """Store the metrics of a run that goes on, or leave it to the next epoch where the study is in use."""
        try:
            self.write(run, wait=0)
        except StudyError:
            # No reason to stop a training of hours; at the end, it is one.
            return

    def _stored_epochs(self, run: str) -> int:
        root = self._study.root
        if not has_result(root, ANALYSIS, run):
            return 0
        epochs = root[f"results/{ANALYSIS}/{run}/{KIND}/epoch"]
        assert isinstance(epochs, zarr.Array)  # a coordinate of the kind
        return int(epochs.shape[0])

    def _provenance(self, run: TrainingRun) -> Provenance:
        return Provenance(
            analysis=ANALYSIS,
            version=KIND_VERSION,
            parameters=run.recipe.model_dump(mode="json"),
            selection="",
            layers={run.recipe.name: ()},
            models=(
                ModelRecord(
                    name=run.recipe.name,
                    source=f"recipe {run.recipe.name}",
                    fingerprint=training_digest(run),
                    preprocessing="pixels in [0, 1]",
                    device=run.device,
                    mode="training",
                ),
            ),
            data=data_record(self._data),
            requires={},
            seed=run.recipe.seed,
            environment=environment(),
            started=self._started,
            finished=_now(),
        )


def store_metrics(run: TrainingRun, study: "Study | str | os.PathLike[str]", data: "Data") -> str:
    """Store the metrics of a training in a study once, and return the id of the result; see :class:`MetricsStore`.

    Args:
        run: From :func:`outcrop_zoo.training.train`.
        study: An open study, or where it is; made where there is none.
        data: Training images.

    Raises:
        StudyError: The study was opened to read.
        StudyLockedError: Another process is writing to it.
    """
    return MetricsStore(study, data).write(run)


def training_digest(run: TrainingRun) -> str:
    """Return a hash of all that determines a training beside its images; the same from its first epoch on."""
    threads = run.history[-1].get("threads", 0) if run.history else 0
    said = f"{run.recipe.model_dump_json()} {run.device} {threads:.0f} {run.compiler}"
    return f"training:{hashlib.sha256(said.encode()).hexdigest()}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
