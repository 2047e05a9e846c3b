"""The study: what users open, capture into, run analyses on, and query."""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr
import zarr
from filelock import FileLock, Timeout

from outcrop.analysis.context import Context
from outcrop.analysis.provenance import Provenance, environment
from outcrop.analysis.run import make_parameters, run_analysis
from outcrop.errors import AnalysisError, ParameterError, StudyError, StudyLockedError
from outcrop.models.model import Model
from outcrop.progress import Progress, silent
from outcrop.store.activations import Activations
from outcrop.store.captures import write_capture
from outcrop.store.dataset import write_data
from outcrop.store.layout import consolidate, is_remote, open_root
from outcrop.store.results import has_result, read_result, stored_runs, write_result
from outcrop.store.subjects import find_subjects, warn_of_assumptions

if TYPE_CHECKING:
    from outcrop.data.dataset import Data
    from outcrop.models.selection import Selection


LOCK_PATIENCE = 600.0
"""Seconds that a finished analysis waits for another writer before it gives up."""


class Study:
    """One zarr group that holds data, activations and results. Get one from :func:`outcrop.open`.

    Attributes:
        location: Path or URL.
        root: The zarr group.
    """

    def __init__(self, location: str, *, mode: str, progress: Progress = silent) -> None:
        self.location = location
        self._mode = mode
        self._progress = progress
        self._lock: FileLock | None = None
        self.root: zarr.Group = open_root(location, mode)

    def __repr__(self) -> str:
        runs = ", ".join(f"{name} ({len(found)})" for name, found in stored_runs(self.root).items())
        return f"<Study {self.location}\n{self.activations!r}\n<Results> {runs or 'none'}>"

    @property
    def activations(self) -> Activations:
        """Captured activations: ``study.activations["resnet18"]["layer3.0"]`` is a lazy ``xr.DataArray``."""
        return Activations(self)

    @property
    def data(self) -> xr.DataTree:
        """Ids, labels and thumbnails of the data sets, one group each."""
        return self._tree("data")

    @property
    def results(self) -> xr.DataTree:
        """All results, as ``/<analysis>/<run>/<leaf>``, each validated against its kind.

        Raises:
            SchemaError: A stored result does not satisfy its kind, or is of a newer version.
        """
        leaves: dict[str, xr.Dataset | xr.DataTree] = {"/": xr.Dataset()}
        for analysis, runs in stored_runs(self.root).items():
            for run in runs:
                tree = read_result(self.root, self.location, analysis, run)
                leaves[f"/{analysis}/{run}"] = xr.Dataset(attrs=tree.attrs)
                leaves.update({f"/{analysis}/{run}/{name}": node.to_dataset() for name, node in tree.children.items()})
        return xr.DataTree.from_dict(leaves)

    def result(self, analysis: str, run: str | None = None) -> xr.DataTree:
        """Return one result; the newest run of the analysis unless one is named.

        Raises:
            AnalysisNotFoundError: The study holds no such result.
            SchemaError: It does not satisfy its kind, or is of a newer version.
        """
        return read_result(self.root, self.location, analysis, run)

    def capture(
        self, model: Model, data: "Data", *, layers: "Selection" = "block", batch_size: int = 64
    ) -> Mapping[str, xr.DataArray]:
        """Store layers of a model over data and return them as lazy arrays by layer name.

        What is already stored is not computed again; a call that was interrupted continues where it stopped.

        Args:
            model: From :func:`outcrop.load_model`.
            data: From :func:`outcrop.load_data`.
            layers: Names, globs, a preset (``all``, ``block``, ``act``) or anything :func:`select_layers` takes.
            batch_size: Samples of a forward pass, fewer where they would not fit.

        Raises:
            StudyError: The study was opened to read.
            StudyLockedError: Another process is writing to it.
            LayerNotFoundError: The selection matches nothing.
            InputError: The samples do not fit the model.
        """
        from outcrop.models.selection import select_layers

        chosen = select_layers(model, layers)
        warn_of_assumptions(model, data)
        with self.writing():
            write_data(self.root, self.location, data, self._progress)
            try:
                node = write_capture(
                    self.root,
                    model,
                    chosen,
                    data,
                    batch_size=batch_size,
                    progress=self._progress,
                    on_layout=self._refresh,
                )
            finally:
                self._refresh()
        return next(capture for capture in self.activations.captures() if capture.node == node)

    def run(
        self,
        analysis: str,
        *,
        models: Sequence[Model | str],
        data: "Data | None" = None,
        layers: "Selection" = "all",
        parameters: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> xr.DataTree:
        """Run an analysis, store its result with its provenance, and return it.

        Layers that the study holds for all samples are read from it; others are computed as they are needed and
        not stored. A run with the same models, data, layers, parameters and seed is not repeated.

        Args:
            analysis: Name, as ``outcrop plugins`` lists them.
            models: One or more, with different names; a name stands for what the study holds of that model.
            data: What they see; may be left out where all models are names.
            layers: Selected in every model.
            parameters: Of the analysis, by name.
            seed: Determines every random choice.

        Raises:
            AnalysisNotFoundError: No plugin offers the analysis.
            ParameterError: A parameter is unknown or out of range.
            AnalysisError: Two models share a name, none is given, or the analysis cannot run on this data.
            ModelNotFoundError: The study holds nothing of a named model.
            SchemaError: The analysis returned what its kinds do not allow.
        """
        self._check_writable()
        if seed < 0:
            raise ParameterError(f"The seed is {seed}; expected a whole number, 0 or above.")
        return self._run(analysis, models, data, layers, parameters or {}, seed, ())

    def _run(
        self,
        analysis: str,
        models: Sequence[Model | str],
        data: "Data | None",
        layers: "Selection",
        parameters: Mapping[str, Any],
        seed: int,
        requiring: tuple[str, ...],
    ) -> xr.DataTree:
        from outcrop.plugins import plugin_registry

        if analysis in requiring:
            raise AnalysisError(
                f"Analyses require each other in a circle: {' -> '.join([*requiring, analysis])}. Ask their authors."
            )
        kind = plugin_registry().analysis(analysis)
        checked = make_parameters(kind, parameters)
        subjects = find_subjects(self, models, data, layers)
        required = {
            name: _run_id(self._run(name, models, data, layers, {}, seed, (*requiring, analysis)))
            for name in kind.requires
        }
        provenance = Provenance(
            analysis=analysis,
            version=kind.version,
            parameters=checked.model_dump(mode="json"),
            selection=layers if isinstance(layers, str) else "",
            layers={subject.record.name: tuple(layer.name for layer in subject.layers) for subject in subjects},
            models=tuple(subject.record for subject in subjects),
            data=subjects[0].data,
            requires=required,
            seed=seed,
            environment={},
            started=_now(),
        )
        if has_result(self.root, analysis, provenance.run_id):
            return self.result(analysis, provenance.run_id)
        context = Context(
            [subject.source() for subject in subjects],
            sample_count=subjects[0].data.samples,
            seed=seed,
            progress=self._progress,
            results=lambda name, leaf: self._required_leaf(analysis, required, name, leaf),
        )
        leaves = run_analysis(kind, context, checked)
        with self.writing(wait=LOCK_PATIENCE):
            if data is not None:
                write_data(self.root, self.location, data, self._progress)
            stamped = provenance.model_copy(update={"finished": _now(), "environment": environment()})
            run = write_result(self.root, self.location, leaves, stamped)
            self._refresh()
        return self.result(analysis, run)

    def _required_leaf(self, analysis: str, required: Mapping[str, str], name: str, leaf: str) -> xr.Dataset:
        if name not in required:
            raise AnalysisError(
                f"Analysis {analysis!r} asks for a result of {name!r} and does not require it; it requires "
                f"{', '.join(required) or 'none'}. Add it to 'requires'."
            )
        return self.result(name, required[name])[leaf].to_dataset()

    @contextlib.contextmanager
    def writing(self, *, wait: float = 0) -> Iterator[None]:
        """Hold the study's write lock.

        Args:
            wait: Seconds to wait for another process to let go of it.

        Raises:
            StudyError: The study was opened to read.
            StudyLockedError: Another process holds the lock.
        """
        self._check_writable()
        if is_remote(self.location):
            yield
            return
        path = Path(self.location)
        if self._lock is None:
            self._lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=0)
        try:
            self._lock.acquire(timeout=wait)
        except Timeout:
            raise StudyLockedError(
                f"Another process is writing to {self.location}; wait for it to finish, or write to another study."
            ) from None
        try:
            yield
        finally:
            self._lock.release()

    def _check_writable(self) -> None:
        if self._mode == "r":
            raise StudyError(f"The study {self.location} was opened to read; open it with mode='a' to add to it.")

    def _tree(self, group: str) -> xr.DataTree:
        if group not in self.root:
            return xr.DataTree()
        return xr.open_datatree(self.location, engine="zarr", group=group, consolidated=False)

    def _refresh(self) -> None:
        consolidate(self.location)
        self.root = open_root(self.location, self._mode)


def _run_id(result: xr.DataTree) -> str:
    record: dict[str, Any] = json.loads(result.attrs["provenance"])
    return str(record["run_id"])


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
