"""Copy captures for some of their samples only: those rows are read, and written as captures of their own."""

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray

from outcrop.capture.source import ActivationSource, Visit
from outcrop.data.selection import evenly_chosen
from outcrop.models.model import Layer
from outcrop.store.layout import escape, read_dataset, write_dataset
from outcrop.store.maintenance.contents import CapturePart, Contents
from outcrop.store.maintenance.transfers import Transfer, transfer
from outcrop.store.reading.activations import StoredSource
from outcrop.store.writing.captures import write_capture

if TYPE_CHECKING:
    from outcrop.store.study import Study
    from outcrop.store.writing.codec import Compression


def copy_samples(study: "Study", destination: "Study", contents: Contents, samples: int) -> Transfer:
    """Copy contents, and of their captures some samples: evenly by class and spaced over each, always the same ones.

    Other samples are other data, so these captures are keyed by data of their own. Results are of all samples
    and copied as they are.
    """
    whole = tuple(part for part in contents.captures if part.record.samples <= samples)
    cut = tuple(part for part in contents.captures if part.record.samples > samples)
    own = {part.record.identity.data for part in cut}
    needed = {part.record.identity.data for part in whole} | _data_of(study, contents)
    data = tuple(node for node in contents.data if node in needed or node not in own)
    rest = Contents(whole, contents.results, data, contents.left_out)
    done = transfer(study.root, destination.root, rest, progress=destination.progress)
    copied = [_copy_part(study, destination, part, samples) for part in cut]
    return Transfer(
        (*done.copied, *(path for path, _ in copied)),
        done.present,
        done.left_out,
        done.stored + sum(s for _, s in copied),
    )


def _data_of(study: "Study", contents: Contents) -> set[str]:
    from outcrop.store.maintenance.stamps import stamp_of

    stamps = [stamp_of(study.root.get(f"results/{analysis}/{run}")) for analysis, run in contents.results]
    return {stamp["data"]["node"] for stamp in stamps if stamp is not None}


def _copy_part(study: "Study", destination: "Study", part: CapturePart, samples: int) -> tuple[str, int]:
    """Write a capture of some samples; return its path and the bytes of its values."""
    group: zarr.Group = study.root[f"data/{part.record.identity.data}"]  # type: ignore[assignment] # a Group
    data = read_dataset(group).load()
    labels = np.asarray(data["label"].values) if "label" in data else None
    positions = evenly_chosen(part.record.samples, samples, labels)
    chosen = data.isel(sample=positions)
    fingerprint = hashlib.sha256(f"{data.attrs['fingerprint']}:{positions.tolist()}".encode()).hexdigest()
    node = f"{escape(str(data.attrs['name']))}-{fingerprint[:8]}"
    _write_data(destination.root, node, chosen.assign_attrs(fingerprint=fingerprint, limit=samples))
    identity = part.record.identity.model_copy(update={"data": node, "data_fingerprint": fingerprint})
    capture = study.activations[part.path.removeprefix("activations/")]
    attributes = {layer.name: dict(_array_of(study, part, folder).attrs) for folder, layer in part.layers.items()}
    entry = part.record.ledger[0]
    compression: Compression = entry.compression
    made = write_capture(
        destination.root,
        identity,
        lambda layers: _Rows(StoredSource(capture, layers), positions),
        tuple(part.layers.values()),
        [str(one) for one in chosen["sample"].values],
        batch_size=entry.batch_size,
        compression=compression,
        progress=destination.progress,
        on_layout=destination.refresh,
        attributes=lambda layer: attributes[layer.name],
    )
    row = sum(_array_of(study, part, folder).nbytes for folder in part.layers) // part.record.samples
    return f"activations/{made}", row * len(positions)


def _array_of(study: "Study", part: CapturePart, folder: str) -> "zarr.Array[Any]":
    array = study.root[f"{part.path}/{folder}/values"]
    assert isinstance(array, zarr.Array)
    return array


def _write_data(root: zarr.Group, node: str, dataset: xr.Dataset) -> None:
    path = f"data/{node}"
    if path in root and root[path].attrs.get("complete"):
        return
    for variable in dataset.variables.values():
        variable.encoding.clear()  # chunks of the whole
    dataset.attrs.pop("complete", None)
    write_dataset(root, path, dataset)
    root.require_group(path).attrs["complete"] = True


class _Rows(ActivationSource):
    """Some samples of another source, in order."""

    def __init__(self, source: ActivationSource, positions: NDArray[np.int64]) -> None:
        self.name = source.name
        self.layers: tuple[Layer, ...] = source.layers
        self._source = source
        self._positions = positions

    def groups(self, order: NDArray[np.int64], group_size: int) -> Iterator[tuple[NDArray[np.int64], Visit]]:
        """Yield groups of ``group_size`` samples, the last one of what remains."""
        groups = self._source.groups(self._positions[order], group_size)
        for start, (_, visit) in zip(range(0, len(order), group_size), groups, strict=True):
            yield order[start : start + group_size], visit
