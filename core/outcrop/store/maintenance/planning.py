"""What would go from a study: what nobody reads, and what its owner names."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import zarr

from outcrop.errors import AnalysisNotFoundError, LayerNotFoundError, ModelNotFoundError, did_you_mean
from outcrop.store.ledger import CaptureRecord, read_record
from outcrop.store.maintenance.objects import Objects, layer_folders
from outcrop.store.maintenance.stamps import stamp_of

_PART, _TEMPORARY = ".part", ".partial"


@dataclass(frozen=True)
class Removal:
    """Something that goes, or would go.

    Attributes:
        path: Group or object in the study.
        reason: Why.
        stored: Bytes in the store.
        files: Number of objects.
        layer: Name of the layer that it is, where it is one of a capture that stays.
        is_group: Whether it is all that lies below its path, and not a single object.
    """

    path: str
    reason: str
    stored: int
    files: int
    layer: str | None = None
    is_group: bool = True


def plan_pruning(
    root: zarr.Group,
    *,
    captures: str | None = None,
    layers: str | None = None,
    results: str | None = None,
    unfinished: bool = False,
    superseded: bool = False,
) -> tuple[Removal, ...]:
    """Return what would go.

    Always: temporary files of killed writers, results and data that were never finished, captures and layers that
    no ledger knows, data that no capture and no result refers to. And, by option:

    Args:
        root: Of the study.
        captures: Glob of model names or nodes; these captures go, or some of their layers.
        layers: Glob of layer names, in all captures or those that ``captures`` names.
        results: Glob of ``ANALYSIS`` or ``ANALYSIS/RUN``.
        unfinished: Whether layers go that are not stored for all samples; without it they can still be continued.
        superseded: Whether results go that a later version of their analysis has computed again.

    Raises:
        ModelNotFoundError: No capture matches.
        LayerNotFoundError: No layer matches.
        AnalysisNotFoundError: No result matches.
    """
    return _Plan(root, captures, layers, results, unfinished, superseded).removals()


class _Plan:
    def __init__(
        self,
        root: zarr.Group,
        captures: str | None,
        layers: str | None,
        results: str | None,
        unfinished: bool,
        superseded: bool,
    ) -> None:
        self._root = root
        self._captures, self._layers, self._results = captures, layers, results
        self._unfinished, self._superseded = unfinished, superseded
        self._sizes = Objects(root).sizes()
        self._used: set[str] = set()

    def removals(self) -> tuple[Removal, ...]:
        # Data last: it stays where what remains refers to it.
        found = [*self._of_captures(), *self._of_results(), *self._of_data()]
        groups = [f"{removal.path}/" for removal in found]
        temporary = [key for key in self._sizes if key.endswith(_TEMPORARY)]
        found += [
            Removal(key, "temporary file of a killed writer", self._sizes[key], 1, is_group=False)
            for key in temporary
            if not any(key.startswith(group) for group in groups)
        ]
        return tuple(found)

    def _of_captures(self) -> Iterator[Removal]:
        records = {node: self._record(node) for node in self._folders("activations")}
        named = {
            node
            for node, record in records.items()
            if self._captures is not None
            and record is not None
            and (fnmatchcase(record.identity.model, self._captures) or fnmatchcase(node, self._captures))
        }
        known = {record.identity.model for record in records.values() if record is not None}
        if self._captures is not None and not named:
            raise ModelNotFoundError(
                f"The study holds no capture {self._captures!r}.{did_you_mean(self._captures, known)} "
                f"It holds {', '.join(sorted(known)) or 'none'}."
            )
        matched = False
        for node, record in records.items():
            path = f"activations/{node}"
            if record is None or not record.layers:
                yield self._removal(path, "a capture of which nothing was stored")
                continue
            chosen = node in named if self._captures is not None else self._layers is not None
            if chosen and self._layers is None:
                yield self._removal(path, "named")
                continue
            going = dict(self._of_layers(record, chosen))
            matched |= "named" in going.values()
            if len(going) == len(record.layers):
                yield self._removal(path, " and ".join(dict.fromkeys(going.values())))
                continue
            self._used.add(record.identity.data)
            folders = layer_folders(record, self._folders(path))
            for folder, layer in folders.items():
                if layer.name in going:
                    yield self._removal(f"{path}/{folder}", going[layer.name], layer.name)
            yield from self._strays(path, record, {folder: layer.name for folder, layer in folders.items()}, going)
        if self._layers is not None and not matched:
            names = {layer.name for record in records.values() if record is not None for layer in record.layers}
            raise LayerNotFoundError(
                f"The study holds no layer {self._layers!r}{' in these captures' if named else ''}."
                f"{did_you_mean(self._layers, names)}"
            )

    def _of_layers(self, record: CaptureRecord, chosen: bool) -> Iterator[tuple[str, str]]:
        readable = record.readable()
        for layer in record.layers:
            if chosen and self._layers is not None and fnmatchcase(layer.name, self._layers):
                yield layer.name, "named"
            elif self._unfinished and readable.get(layer.name, 0) < record.samples:
                yield layer.name, f"unfinished: {readable.get(layer.name, 0)} of {record.samples} samples"

    def _strays(
        self, path: str, record: CaptureRecord, layers: dict[str, str], going: dict[str, str]
    ) -> Iterator[Removal]:
        """Yield what no entry of a ledger speaks of: layers, and parts of shards of layers that are whole."""
        readable = record.readable()
        for folder in self._folders(path):
            if folder != "sample" and folder not in layers:
                yield self._removal(f"{path}/{folder}", "a layer that the ledger does not know")
        for folder, name in layers.items():
            if name not in going and readable.get(name, 0) == record.samples:
                for key in self._below(f"{path}/{folder}"):
                    if key.endswith(_PART):
                        yield Removal(key, "part of a shard of a finished layer", self._sizes[key], 1, is_group=False)

    def _of_results(self) -> Iterator[Removal]:
        stamps: dict[str, dict[str, Any]] = {}
        for analysis in self._folders("results"):
            for run in self._folders(f"results/{analysis}"):
                path = f"results/{analysis}/{run}"
                stamp = stamp_of(self._root.get(path))
                if stamp is None:
                    yield self._removal(path, "a result that was never finished")
                else:
                    stamps[path] = stamp
        named = {
            path
            for path, stamp in stamps.items()
            if self._results is not None
            and any(
                fnmatchcase(name, self._results)
                for name in (stamp["analysis"], f"{stamp['analysis']}/{stamp['run_id']}")
            )
        }
        if self._results is not None and not named:
            known = sorted({stamp["analysis"] for stamp in stamps.values()})
            raise AnalysisNotFoundError(
                f"The study holds no result {self._results!r}.{did_you_mean(self._results, known)} "
                f"It holds {', '.join(known) or 'none'}."
            )
        old = _superseded({path: stamp for path, stamp in stamps.items() if path not in named})
        for path, stamp in stamps.items():
            if path in named:
                yield self._removal(path, "named")
            elif self._superseded and path in old:
                yield self._removal(path, f"superseded by {old[path]}")
            else:
                self._used.add(stamp["data"]["node"])

    def _of_data(self) -> Iterator[Removal]:
        for node in self._folders("data"):
            path = f"data/{node}"
            group = self._root.get(path)
            if not isinstance(group, zarr.Group) or not group.attrs.get("complete"):
                yield self._removal(path, "data that was never finished")
            elif node not in self._used:
                yield self._removal(path, "data that nothing refers to")

    def _record(self, node: str) -> CaptureRecord | None:
        group = self._root.get(f"activations/{node}")
        return read_record(group) if isinstance(group, zarr.Group) else None

    def _folders(self, path: str) -> list[str]:
        start = len(path) + 1
        return sorted({key[start:].split("/")[0] for key in self._below(path) if "/" in key[start:]})

    def _below(self, path: str) -> list[str]:
        return [key for key in self._sizes if key.startswith(f"{path}/")]

    def _removal(self, path: str, reason: str, layer: str | None = None) -> Removal:
        keys = self._below(path)
        return Removal(path, reason, sum(self._sizes[key] for key in keys), len(keys), layer)


def _superseded(stamps: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Return, for each result that a later version has computed again, that version's run."""
    newest: dict[str, str] = {}
    questions = {path: _question(stamp) for path, stamp in stamps.items()}
    for path in sorted(stamps, key=lambda path: str(stamps[path]["finished"])):
        newest[questions[path]] = path
    needed = {f"{name}/{run}" for path in newest.values() for name, run in stamps[path]["requires"].items()}
    return {
        path: f"run {stamps[newest[question]]['run_id']} of version {stamps[newest[question]]['version']}"
        for path, question in questions.items()
        if newest[question] != path and f"{stamps[path]['analysis']}/{stamps[path]['run_id']}" not in needed
    }


def _question(stamp: dict[str, Any]) -> str:
    """Return what was asked, whatever version of the analysis answered."""
    asked = {name: stamp[name] for name in ("analysis", "parameters", "layers", "models", "data", "seed")}
    return json.dumps(asked, sort_keys=True)
