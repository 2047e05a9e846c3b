"""Run an analysis on models and captures of a study, and store what it returns."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import xarray as xr

from outcrop.analysis.context import Context
from outcrop.analysis.provenance import Provenance, environment
from outcrop.analysis.run import make_parameters, run_analysis
from outcrop.data.description import described_data, describes
from outcrop.errors import AnalysisError
from outcrop.models.model import Model
from outcrop.store.dataset import read_data, write_data
from outcrop.store.results import has_result, write_result
from outcrop.store.subjects import find_subjects

if TYPE_CHECKING:
    from outcrop.data.dataset import Data
    from outcrop.models.selection import Selection
    from outcrop.store.study import Study

LOCK_PATIENCE = 600.0
"""Seconds that a finished analysis waits for another writer before it gives up."""


def run_in_study(
    study: "Study",
    analysis: str,
    models: Sequence[Model | str],
    data: "Data | None",
    layers: "Selection",
    parameters: Mapping[str, Any],
    seed: int,
    requiring: tuple[str, ...] = (),
) -> xr.DataTree:
    """Run an analysis after those it requires, unless the study has the result, and return it; see :meth:`Study.run`.

    Args:
        study: Where captures are read and the result is stored.
        analysis: Its name.
        models: Live ones, or names of captured ones.
        data: What live models see.
        layers: Selected in every model.
        parameters: Of the analysis.
        seed: Of every random choice.
        requiring: Analyses that wait for this one.

    Raises:
        AnalysisError: Analyses require each other in a circle.
    """
    from outcrop.plugins import plugin_registry

    if analysis in requiring:
        raise AnalysisError(
            f"Analyses require each other in a circle: {' -> '.join([*requiring, analysis])}. Ask their authors."
        )
    kind = plugin_registry().analysis(analysis)
    checked = make_parameters(kind, parameters)
    subjects = find_subjects(study, models, data, layers)
    required = {
        name: _run_id(run_in_study(study, name, models, data, layers, {}, seed, (*requiring, analysis)))
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
    if has_result(study.root, analysis, provenance.run_id):
        return study.result(analysis, provenance.run_id)
    described: list[xr.Dataset] = []
    context = Context(
        [subject.source() for subject in subjects],
        sample_count=subjects[0].data.samples,
        seed=seed,
        progress=study.progress,
        results=lambda name, leaf: _required_leaf(study, analysis, required, name, leaf),
        data=data,
        described=lambda: _described(study, subjects[0].data.node, data, described),
        live={subject.record.name: subject.model for subject in subjects if subject.model is not None},
    )
    leaves = run_analysis(kind, context, checked)
    with study.writing(wait=LOCK_PATIENCE):
        if data is not None:
            write_data(study.root, data, study.progress, *described)
        stamped = provenance.model_copy(update={"finished": _now(), "environment": environment()})
        run = write_result(study.root, leaves, stamped)
        study.refresh()
    return study.result(analysis, run)


def _described(study: "Study", node: str, data: "Data | None", computed: list[xr.Dataset]) -> xr.Dataset | None:
    """Return what the study or else the data tells of the samples; what had to be computed is handed back too."""
    stored = read_data(study.root, node)
    # A study may have been written without statistics, or with fewer.
    if stored is not None and (data is None or describes(stored, data)):
        return stored.load()
    if data is None:
        return None
    computed.append(described_data(data, progress=study.progress))
    return computed[0]


def _required_leaf(study: "Study", analysis: str, required: Mapping[str, str], name: str, leaf: str) -> xr.Dataset:
    if name not in required:
        raise AnalysisError(
            f"Analysis {analysis!r} asks for a result of {name!r} and does not require it; it requires "
            f"{', '.join(required) or 'none'}. Add it to 'requires'."
        )
    return study.result(name, required[name])[leaf].to_dataset()


def _run_id(result: xr.DataTree) -> str:
    record: dict[str, Any] = json.loads(result.attrs["provenance"])
    return str(record["run_id"])


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
