"""What of a study is to be copied: chosen by globs, with the data that it refers to."""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

import zarr

from outcrop.errors import AnalysisNotFoundError, LayerNotFoundError, ModelNotFoundError, did_you_mean
from outcrop.models.model import Layer
from outcrop.store.layout import child_names
from outcrop.store.ledger import CaptureRecord, read_record
from outcrop.store.maintenance.objects import layer_folders
from outcrop.store.maintenance.stamps import stamp_of


@dataclass(frozen=True)
class CapturePart:
    """Some layers of a capture.

    Attributes:
        path: Of the capture in the study.
        record: Of the whole capture.
        layers: Chosen layers by the names of their groups, all of them stored for all samples.
    """

    path: str
    record: CaptureRecord
    layers: Mapping[str, Layer]


@dataclass(frozen=True)
class Contents:
    """A part of what a study holds.

    Attributes:
        captures: With the chosen layers.
        results: Group names of analysis and run.
        data: Node names of all data that those refer to.
        left_out: Why something that was asked for is not among them, by path.
    """

    captures: tuple[CapturePart, ...]
    results: tuple[tuple[str, str], ...]
    data: tuple[str, ...]
    left_out: Mapping[str, str]


def contents_of(
    root: zarr.Group, *, captures: str | None = None, layers: str | None = None, results: str | None = None
) -> Contents:
    """Return what is chosen of a study: all of it where nothing is said, else only what is said.

    Args:
        root: Of the study.
        captures: Glob of model names or nodes; all where only ``layers`` is given.
        layers: Glob of layer names.
        results: Glob of ``ANALYSIS`` or ``ANALYSIS/RUN``.

    Raises:
        ModelNotFoundError: No capture matches.
        LayerNotFoundError: No layer matches.
        AnalysisNotFoundError: No result matches.
    """
    everything = captures is None and layers is None and results is None
    left_out: dict[str, str] = {}
    parts: tuple[CapturePart, ...] = ()
    runs: dict[tuple[str, str], str] = {}
    if everything or captures is not None or layers is not None:
        parts = _captures(root, captures, layers, left_out)
    if everything or results is not None:
        runs = _results(root, results)
    data = dict.fromkeys([*(part.record.identity.data for part in parts), *runs.values()])
    stored = set(child_names(root, "data"))
    if everything:
        data |= dict.fromkeys(node for node in sorted(stored) if _complete(root, node))
    return Contents(parts, tuple(runs), tuple(node for node in data if node in stored), left_out)


def _captures(
    root: zarr.Group, captures: str | None, layers: str | None, left_out: dict[str, str]
) -> tuple[CapturePart, ...]:
    parts = []
    known: set[str] = set()
    matched, offered = False, set()
    for node in child_names(root, "activations"):
        path = f"activations/{node}"
        group = root.get(path)
        record = read_record(group) if isinstance(group, zarr.Group) else None
        if record is None:
            continue
        known.add(record.identity.model)
        if captures is not None and not any(fnmatchcase(name, captures) for name in (record.identity.model, node)):
            continue
        matched = True
        readable = record.readable()
        chosen = {}
        for folder, layer in layer_folders(record, child_names(root, path)).items():
            offered.add(layer.name)
            if layers is not None and not fnmatchcase(layer.name, layers):
                continue
            if readable.get(layer.name, 0) < record.samples:
                left_out[f"{path}/{folder}"] = (
                    f"unfinished: {readable.get(layer.name, 0)} of {record.samples} samples are stored"
                )
            else:
                chosen[folder] = layer
        if chosen:
            parts.append(CapturePart(path, record, chosen))
    if captures is not None and not matched:
        raise ModelNotFoundError(
            f"The study holds no capture {captures!r}.{did_you_mean(captures, known)} "
            f"It holds {', '.join(sorted(known)) or 'none'}."
        )
    if layers is not None and not any(fnmatchcase(name, layers) for name in offered):
        raise LayerNotFoundError(f"The study holds no layer {layers!r} to copy.{did_you_mean(layers, offered)}")
    return tuple(parts)


def _results(root: zarr.Group, results: str | None) -> dict[tuple[str, str], str]:
    """Return the node names of the data by the chosen results."""
    chosen: dict[tuple[str, str], str] = {}
    known = set()
    for analysis in child_names(root, "results"):
        for run in child_names(root, f"results/{analysis}"):
            stamp = stamp_of(root.get(f"results/{analysis}/{run}"))
            if stamp is None:
                continue
            known.add(stamp["analysis"])
            names = (stamp["analysis"], f"{stamp['analysis']}/{stamp['run_id']}")
            if results is None or any(fnmatchcase(name, results) for name in names):
                chosen[analysis, run] = stamp["data"]["node"]
    if results is not None and not chosen:
        raise AnalysisNotFoundError(
            f"The study holds no result {results!r}.{did_you_mean(results, known)} "
            f"It holds {', '.join(sorted(known)) or 'none'}."
        )
    return chosen


def _complete(root: zarr.Group, node: str) -> bool:
    group = root.get(f"data/{node}")
    return isinstance(group, zarr.Group) and bool(group.attrs.get("complete"))
