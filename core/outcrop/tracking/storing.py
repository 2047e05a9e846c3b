"""A trajectory in a study: one result, renewed as a whole while the training goes on."""

import hashlib
import json
import os
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from PIL.Image import Image

from outcrop.analysis.provenance import ModelRecord, Provenance, environment
from outcrop.errors import AnalysisError
from outcrop.models.model import Layer
from outcrop.models.torch_ import TorchModel
from outcrop.store.dataset import write_data
from outcrop.store.layout import escape
from outcrop.store.maintenance import Removal, prune
from outcrop.store.results import stored_runs, write_result
from outcrop.store.subjects import data_record
from outcrop.tracking.trajectory import Moment, read_moments

if TYPE_CHECKING:
    import xarray as xr

    from outcrop.data.dataset import Data
    from outcrop.store.study import Study

ANALYSIS, LEAF, VERSION = "tracking", "trajectory", "1.0"

LOCK_PATIENCE = 10.0
"""Seconds that a training waits for another writer; what it could not store, it stores at the next step."""


class StoredTrajectory:
    """Writes what was tracked of one training; every time as a new result, after which the one before goes.

    Args:
        study: An open study, or where it is.
        model: Whose layers are tracked.
        layers: Those that are.
        data: What the network sees.
        selection: How the layers were selected, where that was text.
        settings: What else determines the numbers.
    """

    def __init__(
        self,
        study: "Study | str | os.PathLike[str]",
        model: TorchModel,
        layers: tuple[Layer, ...],
        data: "Data",
        selection: str,
        settings: dict[str, Any],
    ) -> None:
        from outcrop.store.study import Study

        self._study = study if isinstance(study, Study) else Study(study, mode="a")
        self._data = data
        # Tells this training from another one of the same network on the same data.
        self._training = secrets.token_hex(8)
        self._written: tuple[str, ...] = ()
        self._renewals = 0
        self._provenance = Provenance(
            analysis=ANALYSIS,
            version=VERSION,
            parameters=settings,
            selection=selection,
            layers={model.name: tuple(layer.name for layer in layers)},
            models=(
                ModelRecord(
                    name=model.name,
                    source=model.source,
                    fingerprint=_structure(model),
                    preprocessing=_preprocessing(model, data),
                    device=model.device.split(":")[0],
                    mode=settings["mode"],
                ),
            ),
            data=data_record(data),
            requires={},
            seed=0,
            environment=environment(),
            started=_now(),
        )

    def resume(self) -> list[Moment]:
        """Return what the newest training of the same model, layers and samples has stored, and continue it.

        Raises:
            AnalysisError: There is none.
        """
        wanted = _question(json.loads(self._provenance.to_json()))
        runs = stored_runs(self._study.root).get(ANALYSIS, [])
        found: dict[str, list[tuple[int, str]]] = {}
        for run in runs:
            stamp = json.loads(self._study.result(ANALYSIS, run).attrs["provenance"])
            if _question(stamp) == wanted:
                found.setdefault(stamp["parameters"]["training"], []).append((stamp["parameters"]["renewal"], run))
        if not found:
            name = self._provenance.models[0].name
            raise AnalysisError(
                f"The study {self._study.location} holds nothing to resume: no tracking of {name!r} with these layers, "
                f"samples and settings, of {len(runs)} in all. Leave out resume to begin."
            )
        # Of a training that was killed between writing and removing, two results may be left.
        self._training = list(found)[-1]
        self._written = tuple(run for _, run in found[self._training])
        self._renewals, newest = max(found[self._training])
        dataset = self._study.result(ANALYSIS, newest)[LEAF].to_dataset()
        return read_moments(dataset)

    def write(self, dataset: "xr.Dataset") -> None:
        """Store a trajectory in place of the one that was stored last.

        Raises:
            StudyError: The study was opened to read, or is gone.
            StudyLockedError: Another process goes on writing to it.
        """
        # Part of the run's name, so that a result is never written over the one that it renews.
        self._renewals += 1
        told = {"training": self._training, "renewal": self._renewals, "steps": dataset["step"].values.tolist()}
        stamped = self._provenance.model_copy(
            update={"parameters": {**self._provenance.parameters, **told}, "finished": _now()}
        )
        with self._study.writing(wait=LOCK_PATIENCE):
            write_data(self._study.root, self._data, self._study.progress)
            run = write_result(self._study.root, {LEAF: dataset}, stamped)
            old = [f"results/{escape(ANALYSIS)}/{one}" for one in self._written if one != run]
            removals = [Removal(path, "renewed", 0, 0) for path in old]
            prune(self._study.root, removals, refresh=self._study.refresh)
            self._written = (run,)


def _preprocessing(model: TorchModel, data: "Data") -> str:
    """Return what the samples go through: only pictures do, arrays are taken as they are."""
    if model.preprocessing is None or not isinstance(data.read(0), Image):
        return "none"
    return model.preprocessing.description


def _question(stamp: dict[str, Any]) -> str:
    """Return what was asked, without how far it has come."""
    parameters = {key: stamp["parameters"][key] for key in ("batch_size", "mode", "compare")}
    # Records from before a field was known lack it; the mode is told by the parameters.
    models = [ModelRecord.model_construct(**record).model_dump(exclude={"mode"}) for record in stamp["models"]]
    return json.dumps([stamp["layers"], models, parameters, stamp["data"]["fingerprint"]], sort_keys=True)


def _structure(model: TorchModel) -> str:
    """Return a hash of the names, shapes and types of the weights: the values change as the network trains."""
    described = [(name, tuple(one.shape), str(one.dtype)) for name, one in model.network.state_dict().items()]
    return f"structure:{hashlib.sha256(repr(described).encode()).hexdigest()}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
