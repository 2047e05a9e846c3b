"""Write activations into a study, layer by layer while the network runs, and continue what was interrupted."""

import errno
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.storage import LocalStore, MemoryStore

from outcrop.errors import InputError, OutcropError, StudyError
from outcrop.models.model import Layer
from outcrop.progress import Progress
from outcrop.store.layout import is_present, layer_id, strings
from outcrop.store.ledger import CaptureIdentity, CaptureRecord, read_record, write_record
from outcrop.store.writing.chunking import plan_chunking
from outcrop.store.writing.codec import ChunkCodec, Compression
from outcrop.store.writing.entries import EntryWriter, SourceOf
from outcrop.store.writing.thread import unwritten


def write_capture(
    root: zarr.Group,
    identity: CaptureIdentity,
    source_of: SourceOf,
    layers: Sequence[Layer],
    sample_ids: Sequence[str],
    *,
    batch_size: int,
    compression: Compression,
    progress: Progress,
    on_layout: Callable[[], None],
    attributes: Callable[[Layer], Mapping[str, Any]] = lambda _: {},
) -> str:
    """Store layers, continuing where an earlier call stopped, and return the node name.

    Every batch adds chunks to the shards of every layer. The ledger is renewed, atomically, once they are written; a
    call that is killed loses the batch in flight, and the next continues after the last recorded one, at the recorded
    batch size, and ends with the same bytes as a call that was not killed.

    Args:
        root: Of the study.
        identity: Of the capture.
        source_of: Where the values of layers come from.
        layers: As they are stored.
        sample_ids: Of all samples.
        batch_size: Samples of a group of the source.
        compression: Of chunks that are not yet there.
        progress: Where to report.
        on_layout: Called once all arrays are there, still empty.
        attributes: What to say of a layer in its array.

    Raises:
        InputError: A layer has no values, or its shape differs between batches.
        StudyError: The disk is full, or the study was taken away meanwhile.
    """
    for layer in layers:
        if 0 in layer.shape:
            raise InputError(
                f"Layer {layer.name!r} of {identity.model!r} has no values: its shape per sample is {layer.shape}. "
                "Leave it out of the selection."
            )
    capture = root.require_group(f"activations/{identity.node}")
    _sweep(capture)
    record = read_record(capture) or _begin(capture, identity, sample_ids)
    known = {layer.name for layer in record.layers}
    fresh = tuple(layer for layer in layers if layer.name not in known)
    try:
        if fresh:
            batch = min(batch_size, record.samples)
            _create_arrays(capture, fresh, record.samples, batch, compression, attributes)
            record = record.with_layers(fresh, batch, compression)
            write_record(capture, record)
            on_layout()
        wanted = {layer.name for layer in layers}
        for index, entry in enumerate(record.ledger):
            if entry.readable < record.samples and wanted.intersection(entry.layers):
                record = EntryWriter(capture, record, index).write(source_of, progress)
    except OSError as error:
        meant = _plain(error, identity, capture)
        if meant is None:
            raise
        raise meant from error
    return identity.node


def check_resumable(root: zarr.Group, identity: CaptureIdentity) -> None:
    """Check that a study holds a capture with exactly this identity, to be continued.

    Raises:
        StudyError: It holds none of this model, or only ones of something else; tells both fingerprints.
    """
    parent = root.get("activations")
    groups = dict(parent.groups()) if isinstance(parent, zarr.Group) else {}
    records = {node: record for node, group in groups.items() if (record := read_record(group)) is not None}
    if identity.node in records:
        return
    named = {node: record.identity for node, record in records.items() if record.identity.model == identity.model}
    if not named:
        raise StudyError(
            f"There is no capture of {identity.model!r} to resume; the study holds "
            f"{', '.join(records) or 'none'}. Capture without resuming to begin one."
        )
    told = "; ".join(
        f"{node} has {', '.join(f'{field} {there}, now {here}' for field, (here, there) in differences.items())}"
        for node, differences in ((node, identity.differences(other)) for node, other in named.items())
    )
    raise StudyError(
        f"The capture of {identity.model!r} cannot be resumed, because what it was made from has changed: {told}. "
        "Restore it to what it was, or capture without resuming to begin another."
    )


def _begin(capture: zarr.Group, identity: CaptureIdentity, sample_ids: Sequence[str]) -> CaptureRecord:
    coordinate = capture.create_array(
        "sample",
        shape=(len(sample_ids),),
        dtype=np.dtypes.StringDType(),
        chunks=(max(1, len(sample_ids)),),
        dimension_names=("sample",),
        overwrite=True,
    )
    coordinate[:] = strings(list(sample_ids))
    record = CaptureRecord(identity=identity, samples=len(sample_ids))
    write_record(capture, record)
    return record


def _create_arrays(
    capture: zarr.Group,
    layers: Sequence[Layer],
    samples: int,
    batch: int,
    compression: Compression,
    attributes: Callable[[Layer], Mapping[str, Any]],
) -> None:
    chunkings = plan_chunking(layers, samples=samples, batch=batch, local=isinstance(capture.store, LocalStore))
    nodes: dict[str, Any] = {}
    alike: dict[Any, Any] = {}
    for layer in layers:
        chunking, dtype = chunkings[layer.name], stored_type(layer)
        form = (layer.shape, layer.dims, dtype, chunking)
        if form not in alike:
            # Made once for all layers of a form, and in memory, from where its metadata is taken.
            alike[form] = zarr.create_array(
                MemoryStore(),
                shape=(samples, *layer.shape),
                chunks=(chunking.chunk, *layer.shape),
                shards=(chunking.shard, *layer.shape),
                dtype=dtype,
                fill_value=unwritten(dtype),
                dimension_names=("sample", *layer.dims),
                compressors=ChunkCodec(dtype, compression).zarr_codecs,
                # One file a shard, and no folders around it.
                chunk_key_encoding={"name": "default", "separator": "."},
            ).metadata
        described = {"layer": layer.name, "kind": layer.kind, "index": layer.index, "operation": layer.operation}
        said = {"long_name": f"activations of {layer.name}", "layer": layer.name, **attributes(layer)}
        nodes[layer_id(layer.name)] = replace(capture.metadata, attributes=described)
        nodes[f"{layer_id(layer.name)}/values"] = alike[form].update_attributes(said)
    # All at once: one after the other, hundreds of layers take seconds, and over a network minutes.
    for _ in capture.create_hierarchy(nodes, overwrite=True):
        pass


def stored_type(layer: Layer) -> np.dtype[Any]:
    """Return the type on disk: numpy has no bfloat16, and float32 holds all of its values."""
    return np.dtype("float32" if layer.dtype == "bfloat16" else layer.dtype)


def _sweep(capture: zarr.Group) -> None:
    """Remove the files that a killed process left half-written; whoever writes has the study to himself."""
    if isinstance(capture.store, LocalStore):
        folder = capture.store.root
        for place in (folder, folder / "activations", folder / capture.path):
            for file in place.glob("*.partial"):
                file.unlink()
        for file in (folder / capture.path).rglob("*.partial"):
            file.unlink()


def _plain(error: OSError, identity: CaptureIdentity, capture: zarr.Group) -> StudyError | None:
    """Return what an error of the file system means for the capture; None where it is not about the study."""
    if isinstance(error, OutcropError):
        return None
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StudyError(
            f"The disk is full: the capture of {identity.model!r} stopped. What it had committed is kept; "
            "make room and run it again to continue."
        )
    if error.errno == errno.ENOENT and _is_of(capture, error):
        return StudyError(
            f"The study was taken away while {identity.model!r} was captured: {error.filename} is gone. "
            "Run the capture again."
        )
    return None


def _is_of(capture: zarr.Group, error: OSError) -> bool:
    """Return whether what is gone is a part of the study, and not a file of the data or the network."""
    if isinstance(capture.store, LocalStore):
        return Path(str(error.filename)).is_relative_to(capture.store.root)
    return not is_present(capture)
