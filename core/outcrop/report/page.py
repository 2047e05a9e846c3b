"""Write the report: choose what is shown, draw it, and put all of it into one file."""

import contextlib
import os
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from outcrop.errors import ReportError
from outcrop.report.figure import Drawing, Figure, Run, bases_of, kind_of
from outcrop.report.findings import Finding, read_findings
from outcrop.report.render import embedded_document, render
from outcrop.report.runs import assumptions, command, provenance_rows, read_runs
from outcrop.report.samples import Samples, core_picture, read_samples
from outcrop.report.verdicts import Verdict, read_verdicts

if TYPE_CHECKING:
    import xarray as xr
    from markupsafe import Markup

_BUDGET = 8_000_000
"""Bytes of matrices after which older runs are shown without their maps, so that the file stays easy to send."""

_ORDER: tuple[str, ...] = ("blocks", "pairwise", "influence", "per_layer", "projections", "trajectory")
_ORDER += ("dominance_reference", "dominance", "association", "removal", "removal_maps", "removal_layers", "overlap")
_ORDER += ("probe_verdict", "probe_response")


@dataclass(frozen=True)
class Piece:
    """A drawing as the template sees it."""

    drawing: Drawing
    element: str
    plots: tuple[tuple[str, str, str], ...]  # (element id, role, title)
    document: "Markup | None"


@dataclass(frozen=True)
class Section:
    """What one leaf of a result shows."""

    title: str
    pieces: tuple[Piece, ...]
    note: str = ""


@dataclass(frozen=True)
class RunView:
    """A run as the template sees it."""

    run: Run
    verdicts: tuple[Verdict, ...]
    cores: Mapping[str, str]
    sections: tuple[Section, ...]
    provenance: tuple[tuple[str, str], ...]
    command: str
    assumptions: tuple[str, ...] = ()

    @property
    def finished(self) -> str:
        moment = str(self.run.provenance.get("finished") or self.run.provenance.get("started") or "")
        return moment[:16].replace("T", " ")

    @property
    def models(self) -> str:
        return ", ".join(str(model.get("name", "")) for model in self.run.provenance.get("models", ()))


@dataclass
class _Assets:
    """Matrices and layer tables of the page, each written once."""

    values: dict[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return sum(len(value.get("codes", "")) for value in self.values.values())


def write_report(results: "xr.DataTree", data: "xr.DataTree", path: "str | os.PathLike[str]", *, title: str) -> Path:
    """Write one HTML file that shows all results and opens without a network; return its path.

    The newest run of every analysis comes first, older ones are folded away. Figures follow the kind of a result, so
    results of unknown plugins are shown too, as tables if nothing better is known.

    Args:
        results: ``/<analysis>/<run>/<leaf>``, each run with the attribute ``provenance`` (JSON).
        data: ``/<dataset>`` with sample ids and, if known, labels and thumbnails.
        path: The file to write; it is replaced as a whole, or left as it was.
        title: Heading of the page.

    Raises:
        ReportError: There is no result, or the file cannot be written.
    """
    path = Path(path)
    runs = {
        name: [replace(run, data=_data_of(run, data)) for run in found] for name, found in read_runs(results).items()
    }
    figures = _figures()
    assets = _Assets()
    # Every newest run takes its share of the file before any older one does.
    newest = {name: _view(found[0], figures, assets, f"{name}-0") for name, found in runs.items()}
    older = {
        name: tuple(_view(run, figures, assets, f"{name}-{i}", budget=_BUDGET) for i, run in enumerate(found[1:], 1))
        for name, found in runs.items()
    }
    samples = read_samples(data)
    values = {
        "title": title,
        "newest": newest,
        "older": older,
        "samples": samples,
        "found": _found([view.run for view in newest.values()]),
        "summary": _summary(list(newest.values()), samples),
    }
    _write(path, render(values, assets=assets.values))
    return path


def _found(runs: Sequence[Run]) -> dict[str, list[Finding]]:
    """Return what the newest runs found beside blocks, by model; dominant samples go before their stimuli."""
    found: dict[str, list[Finding]] = {}
    for finding in sorted((one for run in runs for one in read_findings(run)), key=lambda one: one.heading):
        found.setdefault(finding.model, []).append(finding)
    return found


def _data_of(run: Run, data: "xr.DataTree") -> "xr.Dataset | None":
    """Return what the study keeps of the samples that a run was made with."""
    wanted = str((run.provenance.get("data") or {}).get("fingerprint", ""))
    nodes = (node.to_dataset() for node in data.children.values() if "sample" in node.dims)
    return next((node for node in nodes if wanted and str(node.attrs.get("fingerprint", "")) == wanted), None)


def _figures() -> dict[str, Figure]:
    """Return the figure of every kind; a plugin's own drawing of a kind goes before ours."""
    from outcrop.plugins import plugin_registry
    from outcrop.report.dominant.associations import ASSOCIATION
    from outcrop.report.dominant.dominance import DOMINANCE
    from outcrop.report.dominant.dominance_reference import DOMINANCE_REFERENCE
    from outcrop.report.dominant.overlaps import OVERLAP
    from outcrop.report.dominant.removal_curves import REMOVAL
    from outcrop.report.dominant.removal_maps import REMOVAL_LAYERS, REMOVAL_MAPS
    from outcrop.report.probes.probe_response import PROBE_RESPONSE
    from outcrop.report.probes.probe_verdict import PROBE_VERDICT
    from outcrop.report.similarity.influence import INFLUENCE
    from outcrop.report.similarity.pairwise import PAIRWISE
    from outcrop.report.similarity.per_layer import PER_LAYER
    from outcrop.report.similarity.projections import PROJECTIONS
    from outcrop.report.similarity.trajectory import TRAJECTORY
    from outcrop.report.tables import BLOCKS

    known = {figure.kind: figure for figure in (BLOCKS, INFLUENCE, PAIRWISE, PER_LAYER, PROJECTIONS, TRAJECTORY)}
    known |= {figure.kind: figure for figure in (ASSOCIATION, DOMINANCE, DOMINANCE_REFERENCE, OVERLAP)}
    known |= {figure.kind: figure for figure in (REMOVAL, REMOVAL_LAYERS, REMOVAL_MAPS)}
    known |= {figure.kind: figure for figure in (PROBE_RESPONSE, PROBE_VERDICT)}
    return known | {figure.kind: figure for figure in plugin_registry().figures().values()}


def _view(run: Run, figures: Mapping[str, Figure], assets: _Assets, prefix: str, budget: int | None = None) -> RunView:
    leaves = sorted(run.leaves.items(), key=lambda item: (_rank(kind_of(item[1], item[0])), item[0]))
    sections = [
        _section(run, leaf, figures, assets, f"f-{prefix}-{position}", budget)
        for position, (leaf, _) in enumerate(leaves)
    ]
    verdicts = tuple(read_verdicts(run))
    return RunView(
        run=run,
        verdicts=verdicts,
        cores={verdict.model: core_picture(verdict.shares) for verdict in verdicts if verdict.shares},
        sections=tuple(section for section in sections if section.pieces or section.note),
        provenance=tuple(provenance_rows(run)),
        command=command(run),
        assumptions=assumptions(run),
    )


def _section(
    run: Run, leaf: str, figures: Mapping[str, Figure], assets: _Assets, prefix: str, budget: int | None
) -> Section:
    from outcrop.report.tables import draw_anything

    dataset = run.leaves[leaf]
    kind = kind_of(dataset, leaf)
    figure = next((figures[base] for base in bases_of(kind) if base in figures), None)
    title = figure.title if figure else f"{leaf} ({kind})" if leaf != kind else leaf
    try:
        pieces = _pieces(figure.draw(dataset, run) if figure else draw_anything(dataset, run), prefix)
        note = ""
    except Exception as error:  # noqa: BLE001 # the plugin boundary: one figure that fails must not cost the report
        where = traceback.extract_tb(error.__traceback__)[-1]
        reason = f"{type(error).__name__}: {error} ({Path(where.filename).name}, line {where.lineno})"
        note = f"The figure of kind {kind!r} could not be drawn, so its values are listed. {reason}"
        pieces = _pieces(draw_anything(dataset, run), prefix)
    wanted = {key: value for piece in pieces for key, value in piece.drawing.assets.items()}
    bytes_wanted = sum(len(value.get("codes", "")) for key, value in wanted.items() if key not in assets.values)
    if budget is not None and assets.size + bytes_wanted > budget:
        kept = tuple(piece for piece in pieces if not piece.drawing.assets)
        note = "The maps of this older run are left out to keep the file small; the study has them."
        return Section(title, kept, note)
    assets.values.update(wanted)
    return Section(title, pieces, note)


def _pieces(drawings: Sequence[Drawing], prefix: str) -> tuple[Piece, ...]:
    pieces = []
    for position, drawing in enumerate(drawings):
        element = f"{prefix}-{position}"
        plots = tuple(
            (f"{element}-{i}", _tag(plot, "role", "plain"), _tag(plot, "title", drawing.title))
            for i, plot in enumerate(drawing.plots)
        )
        document = embedded_document(drawing.plots, [plot[0] for plot in plots]) if plots else None
        pieces.append(Piece(drawing, element, plots, document))
    return tuple(pieces)


def _tag(plot: Any, name: str, default: str) -> str:
    tag = next((tag for tag in getattr(plot, "tags", ()) if isinstance(tag, dict) and name in tag), {})
    return str(tag.get(name, default))


def _summary(views: Sequence[RunView], samples: Sequence[Samples]) -> dict[str, Any]:
    models: dict[str, int] = {}
    for view in views:
        models.update({str(model.get("name", "")): 0 for model in view.run.provenance.get("models", ())})
        for kind, dim, name in (
            ("per_layer", "layer", "model"),
            ("pairwise", "layer_a", "model_a"),
            ("trajectory", "layer", "model"),
            ("dominance", "layer", "model"),
        ):
            dataset = view.run.of_kind(kind)
            if dataset is not None and name in dataset.variables and dataset[name].dims == (dim,):
                labels = [str(label) for label in dataset[name].values]
                counts = {label: labels.count(label) for label in dict.fromkeys(labels)}
                if "checkpoint" in dataset.variables:  # every step is a model of its own, with all of the layers
                    counts = dict.fromkeys(map(str, dataset["checkpoint"].values), len(labels))
                models.update(counts)
                break
    used = {str((view.run.provenance.get("data") or {}).get("fingerprint", "")) for view in views}
    shown = [entry for entry in samples if entry.fingerprint in used] or list(samples)
    return {
        "models": models,
        "layers": sum(models.values()),
        "samples": [(entry.name, entry.count, entry.classes) for entry in shown],
        "analyses": [view.run.analysis for view in views],
    }


def _rank(kind: str) -> int:
    return next((_ORDER.index(base) for base in bases_of(kind) if base in _ORDER), len(_ORDER))


def _write(path: Path, text: str) -> None:
    if path.is_dir():
        raise ReportError(
            f"Cannot write the report to {path}: it is a folder; name a file, such as {path / 'report.html'}."
        )
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        reason = error.strerror or str(error)
        raise ReportError(
            f"Cannot write the report to {path}: {reason}; choose a file in a folder you can write to."
        ) from error
