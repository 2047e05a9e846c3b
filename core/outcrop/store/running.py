"""Run an analysis on models and captures of a study, and store what it returns."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import xarray as xr

from outcrop.analysis.analysis import Analysis, Parameters
from outcrop.analysis.context import Context
from outcrop.analysis.provenance import Provenance, environment
from outcrop.analysis.run import check_analysis, make_parameters, run_analysis
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


@dataclass(frozen=True)
class Asked:
    """What an analysis is asked about.

    Attributes:
        models: Live ones, or names of captured ones.
        data: What live models see.
        layers: Selected in every model.
        parameters: Of the analysis.
        seed: Of every random choice.
    """

    models: Sequence[Model | str]
    data: "Data | None"
    layers: "Selection"
    parameters: Mapping[str, Any]
    seed: int


def run_in_study(study: "Study", analysis: str, asked: Asked) -> xr.DataTree:
    """Run an analysis after those it requires, unless the study has the result, and return it; see :meth:`Study.run`.

    Raises:
        AnalysisError: Analyses require each other in a circle, or one of them cannot be run on these models or data.
    """
    kind, parameters = _chosen(analysis, asked)
    return _Run(study, asked).result(kind, parameters)


def check_in_study(study: "Study", analysis: str, asked: Asked) -> None:
    """Refuse what an analysis, or one that it requires, cannot be run on; see :meth:`Study.check`.

    Raises:
        AnalysisError: As :func:`run_in_study`.
    """
    kind, parameters = _chosen(analysis, asked)
    _Run(study, asked).check(kind, parameters)


def _chosen(analysis: str, asked: Asked) -> tuple[type[Analysis], Parameters]:
    from outcrop.plugins import plugin_registry

    kind = plugin_registry().analysis(analysis)
    parameters = make_parameters(kind, asked.parameters)
    _refuse_circles(kind, ())
    return kind, parameters


def _refuse_circles(kind: type[Analysis], requiring: tuple[str, ...]) -> None:
    if kind.name in requiring:
        raise AnalysisError(
            f"Analyses require each other in a circle: {' -> '.join([*requiring, kind.name])}. Ask their authors."
        )
    for one in _required(kind):
        _refuse_circles(one, (*requiring, kind.name))


def _required(kind: type[Analysis]) -> list[type[Analysis]]:
    from outcrop.plugins import plugin_registry

    return [plugin_registry().analysis(name) for name in kind.requires]


class _Run:
    """What an analysis and those that it requires have in common: the subjects, and the seed."""

    def __init__(self, study: "Study", asked: Asked) -> None:
        self.study, self.data, self.layers, self.seed = study, asked.data, asked.layers, asked.seed
        self.subjects = find_subjects(study, asked.models, asked.data, asked.layers)

    def result(self, kind: type[Analysis], parameters: Parameters) -> xr.DataTree:
        """Return the result, computed unless the study has it, once all that must be has agreed to be."""
        provenance = self._provenance(kind, parameters)
        if not self._has(provenance):
            self.check(kind, parameters)
            self._compute(kind, parameters, provenance)
        return self.study.result(kind.name, provenance.run_id)

    def check(self, kind: type[Analysis], parameters: Parameters) -> None:
        """Ask an analysis that the study has no result of whether it can be run, and those that it requires."""
        if self._has(self._provenance(kind, parameters)):
            return
        check_analysis(kind, self._checked, parameters)
        for one in _required(kind):
            self.check(one, make_parameters(one, {}))

    @cached_property
    def _checked(self) -> Context:
        return self._context(_not_yet, [])

    def _has(self, provenance: Provenance) -> bool:
        return has_result(self.study.root, provenance.analysis, provenance.run_id)

    def _provenance(self, kind: type[Analysis], parameters: Parameters) -> Provenance:
        """Return what determines the numbers of a result, which is known before any of it is computed."""
        return Provenance(
            analysis=kind.name,
            version=kind.version,
            parameters=parameters.model_dump(mode="json"),
            selection=self.layers if isinstance(self.layers, str) else "",
            layers={one.record.name: tuple(layer.name for layer in one.layers) for one in self.subjects},
            models=tuple(one.record for one in self.subjects),
            data=self.subjects[0].data,
            requires={one.name: self._provenance(one, make_parameters(one, {})).run_id for one in _required(kind)},
            seed=self.seed,
            environment={},
        )

    def _compute(self, kind: type[Analysis], parameters: Parameters, provenance: Provenance) -> None:
        for one in _required(kind):
            defaults = make_parameters(one, {})
            required = self._provenance(one, defaults)
            if not self._has(required):
                self._compute(one, defaults, required)
        started = _now()
        described: list[xr.Dataset] = []
        results = partial(_required_leaf, self.study, kind.name, provenance.requires)
        leaves = run_analysis(kind, self._context(results, described), parameters)
        with self.study.writing(wait=LOCK_PATIENCE):
            if self.data is not None:
                write_data(self.study.root, self.data, self.study.progress, *described)
            times = {"started": started, "finished": _now(), "environment": environment()}
            write_result(self.study.root, leaves, provenance.model_copy(update=times))
            self.study.refresh()

    def _context(self, results: Callable[[str, str], xr.Dataset], described: list[xr.Dataset]) -> Context:
        """Return what an analysis is given; a description of the samples that it asks for is handed back too."""
        samples = self.subjects[0].data
        return Context(
            [one.source() for one in self.subjects],
            sample_count=samples.samples,
            seed=self.seed,
            progress=self.study.progress,
            results=results,
            data=self.data,
            described=lambda: _described(self.study, samples.node, self.data, described),
            live={one.record.name: one.model for one in self.subjects if one.model is not None},
        )


def _not_yet(name: str, _leaf: str) -> xr.Dataset:
    raise AnalysisError(
        f"A check asks for a result of {name!r}, which may not be computed yet: ask for it in 'run', or check what the "
        "models, the data and the parameters tell."
    )


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


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
