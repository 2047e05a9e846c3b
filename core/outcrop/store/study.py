"""The study: what users open, capture into, run analyses on, and query."""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import xarray as xr
import zarr

from outcrop.capture.reductions import parse_reduction
from outcrop.capture.source import LiveSource
from outcrop.data.content import refuse_empty
from outcrop.errors import ParameterError, StudyError, StudyNotFoundError
from outcrop.models.model import Model
from outcrop.progress import Progress, silent
from outcrop.store.dataset import write_data
from outcrop.store.layout import child_names, consolidate, is_present, open_root, read_dataset
from outcrop.store.ledger import identify
from outcrop.store.location import open_store
from outcrop.store.locking.locks import write_lock
from outcrop.store.maintenance import copy_study, measure_study, merge_studies, prune_study
from outcrop.store.reading.activations import Activations, Capture, find_captures
from outcrop.store.results import read_result, read_results, stored_runs
from outcrop.store.running import Asked, check_in_study, run_in_study
from outcrop.store.subjects import check_first_sample, warn_of_assumptions
from outcrop.store.writing.additions import add_activations
from outcrop.store.writing.captures import check_resumable, write_capture

if TYPE_CHECKING:
    from zarr.abc.store import Store

    from outcrop.data.dataset import Data
    from outcrop.models.selection import Selection
    from outcrop.store.writing.codec import Compression


class Study:
    """One zarr group that holds data, activations and results. Get one from :func:`outcrop.open`.

    Attributes:
        location: Path or URL, for messages.
        root: The zarr group.
        progress: Where long work is reported.
    """

    def __init__(self, location: "str | os.PathLike[str] | Store", *, mode: str, progress: Progress = silent) -> None:
        store, self.location = open_store(location)
        self._mode = mode
        self.progress = progress
        self._lock = write_lock(store, self.location)
        self._captures: dict[str, Capture] = {}
        self.root: zarr.Group = open_root(store, self.location, mode)

    def __repr__(self) -> str:
        runs = ", ".join(f"{name} ({len(found)})" for name, found in stored_runs(self.root).items())
        return f"<Study {self.location}\n{self.activations!r}\n<Results> {runs or 'none'}>"

    @property
    def activations(self) -> Activations:
        """Captured activations: ``study.activations["resnet18"]["layer3.0"]`` is a lazy ``xr.DataArray``."""
        return Activations(self)

    @property
    def data(self) -> xr.DataTree:
        """Ids, labels, statistics and thumbnails of the data sets, one group each."""
        self.check_present()
        datasets = {
            name: read_dataset(self.root[f"data/{name}"])  # type: ignore[arg-type] # groups
            for name in child_names(self.root, "data")
        }
        return xr.DataTree.from_dict(datasets)

    @property
    def results(self) -> xr.DataTree:
        """All results, as ``/<analysis>/<run>/<leaf>``, each validated against its kind.

        Raises:
            SchemaError: A stored result does not satisfy its kind, or is of a newer version.
        """
        self.check_present()
        return read_results(self.root, self.location)

    def result(self, analysis: str, run: str | None = None) -> xr.DataTree:
        """Return one result; the newest run of the analysis unless one is named.

        Raises:
            AnalysisNotFoundError: The study holds no such result.
            SchemaError: It does not satisfy its kind, or is of a newer version.
        """
        self.check_present()
        return read_result(self.root, self.location, analysis, run)

    def capture(
        self,
        model: Model,
        data: "Data",
        *,
        layers: "Selection" = "block",
        batch_size: int = 64,
        reduction: str = "none",
        compression: "Compression | None" = None,
        resume: bool = False,
    ) -> Mapping[str, xr.DataArray]:
        """Store layers of a model over data and return them as lazy arrays by layer name.

        What is already stored is not computed again; a call that was interrupted continues where it stopped.

        Args:
            model: From :func:`outcrop.load_model`.
            data: From :func:`outcrop.load_data`.
            layers: Names, globs, a preset (``all``, ``block``, ``act``) or anything :func:`select_layers` takes.
            batch_size: Samples of a forward pass, fewer where they would not fit; of a model whose batch norm takes its
                statistics from the batch, a part of what the capture is, and refused where it does not fit.
            reduction: What to keep of each layer, as :func:`parse_reduction` takes it: ``spatial_mean``,
                ``positions:16``, ``projection:256``, ``float16``; each makes a capture of its own.
            compression: ``zstd`` or ``lz4``, of layers that are not yet there.
            resume: Continue a capture that is there, or refuse; never begin another because something has changed.

        Raises:
            ParameterError: The reduction or the compression is unknown, the batch size is below 1, or float16 cannot
                hold a value.
            StudyError: The study was opened to read, the disk is full, or there is nothing to resume.
            StudyLockedError: Another process is writing to it.
            LayerNotFoundError: The selection matches nothing.
            InputError: The samples do not fit the model.
            DataNotFoundError: There is no sample.
        """
        from outcrop.models.selection import select_layers

        refuse_empty(len(data), data.name)
        if batch_size < 1:
            raise ParameterError(f"The batch size is {batch_size}; expected at least 1.")
        reduced = parse_reduction(reduction)
        chosen = select_layers(model, layers)
        warn_of_assumptions(model, data)
        check_first_sample(model, data)
        kept = reduced.description if reduced else "none"
        identity = identify(model, data, reduction=kept, batch_size=min(batch_size, len(data)))
        with self.writing():
            if resume:
                check_resumable(self.root, identity)
            write_data(self.root, data, self.progress)
            try:
                node = write_capture(
                    self.root,
                    identity,
                    lambda stored: LiveSource(model, stored, data, reduction=reduced),
                    chosen if reduced is None else tuple(map(reduced.reduced, chosen)),
                    data.sample_ids,
                    batch_size=batch_size,
                    compression=compression or "none",
                    progress=self.progress,
                    on_layout=self.refresh,
                    attributes=lambda layer: reduced.attributes(model.layer(layer.name)) if reduced else {},
                )
            finally:
                # Plain readers see what is committed after an error too, unless the study itself is gone.
                if is_present(self.root):
                    self.refresh()
        return self.activations[node]

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
            DataNotFoundError: There is no sample.
        """
        self._check_writable()
        return run_in_study(self, analysis, _asked(models, data, layers, parameters, seed))

    def check(
        self,
        analysis: str,
        *,
        models: Sequence[Model | str],
        data: "Data | None" = None,
        layers: "Selection" = "all",
        parameters: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        """Refuse what an analysis, or one that it requires, cannot be run on, before anything is captured or computed.

        :meth:`run` does so itself. Arguments and errors are its.
        """
        check_in_study(self, analysis, _asked(models, data, layers, parameters, seed))

    # Each is a function of a study, documented where it stands.
    add_activations = add_activations
    size = measure_study
    prune = prune_study
    copy = copy_study
    merge = merge_studies

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
        with self._lock.held(wait):
            self.check_present()
            yield

    def _check_writable(self) -> None:
        if self._mode == "r":
            raise StudyError(f"The study {self.location} was opened to read; open it with mode='a' to add to it.")

    def check_present(self) -> None:
        """Look whether the study is still there.

        Raises:
            StudyNotFoundError: It was deleted or moved since it was opened.
        """
        if not is_present(self.root):
            raise StudyNotFoundError(
                f"The study {self.location} is gone: it was deleted or moved after it was opened. "
                "Open it where it is now."
            )

    def read_captures(self) -> Mapping[str, Capture]:
        """Return all captures by node, read anew where something was added to one."""
        self._captures = find_captures(self, self._captures)
        return self._captures

    def refresh(self) -> None:
        """Renew what other readers open quickly; whoever has written calls it at the end."""
        consolidate(self.root)
        self.root = open_root(self.root.store, self.location, self._mode)


def _asked(
    models: Sequence[Model | str],
    data: "Data | None",
    layers: "Selection",
    parameters: Mapping[str, Any] | None,
    seed: int,
) -> Asked:
    if seed < 0:
        raise ParameterError(f"The seed is {seed}; expected a whole number, 0 or above.")
    if data is not None:
        refuse_empty(len(data), data.name)
    return Asked(models, data, layers, parameters or {}, seed)
