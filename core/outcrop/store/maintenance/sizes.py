"""How large a study is: what it holds, and what that takes."""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import zarr

from outcrop.capture.source import bytes_per_sample
from outcrop.store.ledger import read_record
from outcrop.store.maintenance.objects import Objects, is_metadata, layer_folders

ACTIVATIONS, RESULTS, DATA, STUDY = "activations", "results", "data", "study"


@dataclass(frozen=True)
class PartSize:
    """What one part of a study takes.

    Attributes:
        part: ``activations``, ``results``, ``data``, or ``study`` for the metadata of the whole.
        group: Node name of the capture or of the data, or the analysis; empty for the study.
        name: Layer or run; empty for what belongs to the whole group.
        logical: Bytes of the values that can be read.
        stored: Bytes in the store.
        files: Number of objects in the store.
    """

    part: str
    group: str
    name: str
    logical: int
    stored: int
    files: int


@dataclass(frozen=True)
class StudySize:
    """What a study takes, part by part.

    Attributes:
        parts: Layers in topological order within their capture, then results, then data.
    """

    parts: tuple[PartSize, ...]

    @property
    def logical(self) -> int:
        """Bytes of all values that can be read."""
        return sum(part.logical for part in self.parts)

    @property
    def stored(self) -> int:
        """Bytes in the store."""
        return sum(part.stored for part in self.parts)

    @property
    def files(self) -> int:
        """Number of objects in the store."""
        return sum(part.files for part in self.parts)

    def groups(self) -> tuple[PartSize, ...]:
        """Return one entry for each capture, analysis and data set, the largest first."""
        collected: dict[tuple[str, str], list[PartSize]] = defaultdict(list)
        for part in self.parts:
            collected[part.part, part.group].append(part)
        found = [
            PartSize(
                part, group, "", sum(one.logical for one in of), sum(one.stored for one in of), sum(o.files for o in of)
            )
            for (part, group), of in collected.items()
        ]
        return tuple(sorted(found, key=lambda size: -size.stored))


def study_size(root: zarr.Group) -> StudySize:
    """Return what a study takes. Cost: one listing, and one small read for every array that is no activation."""
    objects = Objects(root)
    gathered: dict[tuple[str, str, str], dict[str, int]] = defaultdict(dict)
    for key, size in objects.sizes().items():
        gathered[_place(key)][key] = size
    folders: dict[str, set[str]] = defaultdict(set)
    for part, node, folder in gathered:
        if part == ACTIVATIONS:
            folders[node].add(folder)
    layers = {node: _layers(root, node, names) for node, names in folders.items()}
    parts = []
    for (part, group, folder), sizes in sorted(gathered.items(), key=lambda item: _rank(item[0], layers)):
        name, logical = folder, 0
        if part == ACTIVATIONS and folder:
            name, logical = layers[group].get(folder, (folder, 0))
        elif part in (RESULTS, DATA):
            logical = sum(_array_bytes(objects, sizes))
        parts.append(PartSize(part, group, name, logical, sum(sizes.values()), len(sizes)))
    return StudySize(tuple(parts))


def _place(key: str) -> tuple[str, str, str]:
    """Return the part, group and name that an object belongs to."""
    part, *path = key.split("/")[:-1] or [STUDY]
    if part not in (ACTIVATIONS, RESULTS, DATA) or not path:
        return STUDY, "", ""
    # The ids of the samples belong to the capture as a whole, as labels belong to the data.
    named = len(path) > 1 and part != DATA and path[1] != "sample"
    return part, path[0], path[1] if named else ""


def _layers(root: zarr.Group, node: str, folders: Iterable[str]) -> dict[str, tuple[str, int]]:
    """Return name and readable bytes of a capture's layers, by folder, in topological order."""
    group = root.get(f"{ACTIVATIONS}/{node}")
    record = read_record(group) if isinstance(group, zarr.Group) else None
    if record is None:
        return {}
    readable = record.readable()
    return {
        folder: (layer.name, bytes_per_sample(layer) * readable.get(layer.name, 0))
        for folder, layer in layer_folders(record, folders).items()
    }


def _rank(place: tuple[str, str, str], layers: Mapping[str, Mapping[str, object]]) -> tuple[int, str, int, str]:
    part, group, folder = place
    position = list(layers.get(group, {})).index(folder) + 1 if folder in layers.get(group, {}) else 0
    return (ACTIVATIONS, RESULTS, DATA, STUDY).index(part), group, position, folder


def _array_bytes(objects: Objects, sizes: Mapping[str, int]) -> Iterator[int]:
    """Yield the bytes of the arrays among some objects; of text, what is stored."""
    for key in filter(is_metadata, sizes):
        described = json.loads(objects.read(key) or b"{}")
        if described.get("node_type") != "array":
            continue
        if described["data_type"] == "string":
            below = key.removesuffix("zarr.json")
            yield sum(size for other, size in sizes.items() if other.startswith(below) and other != key)
        else:
            yield math.prod(described["shape"]) * np.dtype(described["data_type"]).itemsize
