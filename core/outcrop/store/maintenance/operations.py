"""Housekeeping on open studies: what the methods of a study and the command line call."""

import os
from typing import TYPE_CHECKING

from outcrop.errors import ParameterError, StudyError
from outcrop.store.maintenance.contents import contents_of
from outcrop.store.maintenance.planning import Removal, plan_pruning
from outcrop.store.maintenance.pruning import prune
from outcrop.store.maintenance.sizes import StudySize, study_size
from outcrop.store.maintenance.subsets import copy_samples
from outcrop.store.maintenance.transfers import Transfer, transfer

if TYPE_CHECKING:
    from zarr.abc.store import Store

    from outcrop.store.study import Study

    Location = str | os.PathLike[str] | Store


def measure_study(study: "Study") -> StudySize:
    """Return what each capture, layer and result of the study takes: bytes of values, bytes stored, and files."""
    return study_size(study.root)


def prune_study(
    study: "Study",
    *,
    captures: str | None = None,
    layers: str | None = None,
    results: str | None = None,
    unfinished: bool = False,
    superseded: bool = False,
    dry_run: bool = True,
) -> tuple[Removal, ...]:
    """Remove from the study what nobody reads, and what is named; return what went, or with ``dry_run`` would go.

    Always: temporary files of killed writers, results and data that were never finished, captures and layers that no
    ledger knows, data that no capture and no result refers to. A pruning that was interrupted leaves a valid study, and
    the next one finds the rest.

    Args:
        study: To be pruned.
        captures: Glob of model names or nodes; these captures go, or some of their layers.
        layers: Glob of layer names, in all captures or those that ``captures`` names.
        results: Glob of ``ANALYSIS`` or ``ANALYSIS/RUN``.
        unfinished: Whether layers go that are not stored for all samples; without it they can still be continued.
        superseded: Whether results go that a later version of their analysis has computed again.
        dry_run: Whether to remove nothing.

    Raises:
        StudyError: The study was opened to read.
        StudyLockedError: Another process is writing to it.
        ModelNotFoundError: No capture matches.
        LayerNotFoundError: No layer matches.
        AnalysisNotFoundError: No result matches.
    """

    def planned() -> tuple[Removal, ...]:
        return plan_pruning(
            study.root,
            captures=captures,
            layers=layers,
            results=results,
            unfinished=unfinished,
            superseded=superseded,
        )

    if dry_run:
        return planned()
    with study.writing():
        # Planned under the lock: what looked left over may have been a writer's work.
        removals = planned()
        if removals:
            prune(study.root, removals, refresh=study.refresh)
    return removals


def copy_study(
    study: "Study",
    destination: "Study | Location",
    *,
    captures: str | None = None,
    layers: str | None = None,
    results: str | None = None,
    samples: int | None = None,
) -> Transfer:
    """Copy the study, or a part of it, to a place of its own or into another study, and return what was copied.

    All of it where nothing is chosen, else only what is; data goes with what refers to it. Whole layers are copied
    file by file, and their checksums verified. Layers that are not finished are left out, and nothing that
    is there already is replaced. A copy that was interrupted continues when it is called again.

    Args:
        study: What is copied.
        destination: Path, URL, zarr store or open study; made where there is none.
        captures: Glob of model names or nodes.
        layers: Glob of layer names.
        results: Glob of ``ANALYSIS`` or ``ANALYSIS/RUN``.
        samples: How many samples of each capture: evenly by class and spaced over each. They are read, and
            written as a capture of data of its own.

    Raises:
        StudyError: Both are one study, or they hold something under one name that differs.
        StudyLockedError: Another process is writing to the destination.
        ModelNotFoundError: No capture matches.
        LayerNotFoundError: No layer matches.
        AnalysisNotFoundError: No result matches.
        ParameterError: The number of samples is below 1.
    """
    if samples is not None and samples < 1:
        raise ParameterError(f"The number of samples is {samples}; expected at least 1.")
    # What is not there is told before a destination is made.
    contents = contents_of(study.root, captures=captures, layers=layers, results=results)
    target = _opened(study, destination, mode="a")
    _check_two(study, target)
    with target.writing():
        try:
            if samples is None:
                return transfer(study.root, target.root, contents, progress=target.progress)
            return copy_samples(study, target, contents, samples)
        finally:
            target.refresh()


def merge_studies(study: "Study", *sources: "Study | Location") -> Transfer:
    """Bring all that other studies hold into this one, and return what was new.

    Captures of one identity are united: each layer is taken from the first study that has it. What several hold with
    the same values is kept once; where values differ, that is named, and nothing of that source is copied. A merge
    that was interrupted continues when it is called again.

    Args:
        study: What they are merged into.
        sources: Paths, URLs, zarr stores or open studies; they are only read.

    Raises:
        StudyError: A source is the study itself, or holds something under a name that here has other values.
        StudyNotFoundError: There is no such source.
        StudyLockedError: Another process is writing to the study.
    """
    opened = [_opened(study, source, mode="r") for source in sources]
    for source in opened:
        _check_two(source, study)
    return Transfer.joined([copy_study(source, study) for source in opened])


def _opened(study: "Study", place: "Study | Location", *, mode: str) -> "Study":
    from outcrop.store.study import Study

    return place if isinstance(place, Study) else Study(place, mode=mode, progress=study.progress)


def _check_two(source: "Study", destination: "Study") -> None:
    same = source.root.store == destination.root.store and source.root.path == destination.root.path
    if same or _path(source) == _path(destination):
        raise StudyError(f"{source.location} cannot be copied into itself; name another destination.")


def _path(study: "Study") -> str:
    return study.location if "://" in study.location else os.path.realpath(study.location)
