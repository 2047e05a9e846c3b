"""Write activations into a study, one chunk of every layer per batch, and continue what was interrupted."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

from outcrop.capture.source import LiveSource, bytes_per_sample
from outcrop.errors import InputError
from outcrop.models.model import Layer, Model
from outcrop.progress import Progress
from outcrop.store.layout import escape, strings
from outcrop.store.ledger import CaptureIdentity, CaptureRecord, identify, read_record, write_record

if TYPE_CHECKING:
    from torch import Tensor

    from outcrop.data.dataset import Data

WRITE_BUDGET = 1 << 29
"""Bytes of one batch's selected layers, which wait in memory to be written."""


def write_capture(
    root: zarr.Group,
    model: Model,
    layers: Sequence[Layer],
    data: "Data",
    *,
    batch_size: int,
    progress: Progress,
    on_layout: Callable[[], None],
) -> str:
    """Store layers of a model over data, continuing where an earlier call stopped, and return the node name.

    Each batch is one chunk of every layer's array. The ledger is renewed, atomically, once all layers of a batch
    are on disk; a call that is killed loses the batch in flight, and the next continues after the last
    recorded one, at the recorded batch size. ``on_layout`` is called once all arrays are there, still empty.

    Raises:
        InputError: The samples do not fit the model, or a layer's shape differs between batches.
    """
    identity = identify(model, data)
    capture = root.require_group(f"activations/{identity.node}")
    record = read_record(capture) or _begin(capture, identity, data)
    known = {layer.name for layer in record.layers}
    fresh = tuple(layer for layer in layers if layer.name not in known)
    if fresh:
        record = _add_layers(capture, record, fresh, batch_size)
        on_layout()
    wanted = {layer.name for layer in layers}
    for index, entry in enumerate(record.ledger):
        if entry.samples < record.samples and wanted.intersection(entry.layers):
            record = _write_entry(capture, record, index, model, data, progress)
    return identity.node


def _begin(capture: zarr.Group, identity: CaptureIdentity, data: "Data") -> CaptureRecord:
    coordinate = capture.create_array(
        "sample",
        shape=(len(data),),
        dtype=np.dtypes.StringDType(),
        chunks=(max(1, len(data)),),
        dimension_names=("sample",),
        overwrite=True,
    )
    coordinate[:] = strings(list(data.sample_ids))
    record = CaptureRecord(identity=identity, samples=len(data))
    write_record(capture, record)
    return record


def _add_layers(
    capture: zarr.Group, record: CaptureRecord, layers: tuple[Layer, ...], batch_size: int
) -> CaptureRecord:
    """Create the arrays of new layers, then their entry in the ledger."""
    fitting = max(1, WRITE_BUDGET // max(1, sum(bytes_per_sample(layer) for layer in layers)))
    batch = min(batch_size, fitting)
    for layer in layers:
        group = capture.require_group(escape(layer.name))
        group.attrs.update(
            {"layer": layer.name, "kind": layer.kind, "index": layer.index, "operation": layer.operation}
        )
        group.create_array(
            "values",
            shape=(record.samples, *layer.shape),
            chunks=(max(1, min(batch, record.samples)), *layer.shape),
            dtype=_stored_type(layer),
            fill_value=_unwritten(_stored_type(layer)),
            dimension_names=("sample", *layer.dims),
            compressors=None,
            overwrite=True,
            attributes={"long_name": f"activations of {layer.name}", "layer": layer.name},
        )
    record = record.with_layers(layers, batch)
    write_record(capture, record)
    return record


def _write_entry(
    capture: zarr.Group, record: CaptureRecord, index: int, model: Model, data: "Data", progress: Progress
) -> CaptureRecord:
    entry = record.ledger[index]
    names = set(entry.layers)
    layers = tuple(layer for layer in record.layers if layer.name in names)
    arrays = {layer.name: layer_array(capture, layer.name) for layer in layers}
    source = LiveSource(model, layers, data)
    with (
        progress(f"{model.name}: {len(layers)} layers", record.samples - entry.samples) as advance,
        # One writer: the file system is the bottleneck, and one batch at a time bounds what waits in memory.
        ThreadPoolExecutor(1, thread_name_prefix="outcrop-write") as writer,
    ):
        for chosen, visit in source.groups(np.arange(entry.samples, record.samples), entry.batch_size):
            window = slice(int(chosen[0]), int(chosen[-1]) + 1)
            writes: list[Future[None]] = []

            def keep(
                layer: Layer, values: "Tensor", window: slice = window, writes: list[Future[None]] = writes
            ) -> None:
                found = tuple(values.shape[1:])
                if found != layer.shape:
                    raise InputError(
                        f"Layer {layer.name!r} of {model.name!r} gave values of shape {found} per sample; "
                        f"its array has {layer.shape}. Pad the samples to one size, or leave the layer out."
                    )
                writes.append(writer.submit(_store, arrays[layer.name], window, _to_numpy(values)))

            visit(keep)
            for pending in writes:
                pending.result()
            record = record.with_commit(index, window.stop)
            write_record(capture, record)
            advance(len(chosen))
    return record


def _stored_type(layer: Layer) -> np.dtype[Any]:
    """Return the type on disk: numpy has no bfloat16, and float32 holds all of its values."""
    return np.dtype("float32" if layer.dtype == "bfloat16" else layer.dtype)


def _unwritten(dtype: np.dtype[Any]) -> Any:
    """Return what stands where nothing was written; it must not look like a unit that is silent."""
    if dtype.kind in "fc":
        return dtype.type(np.nan)
    return np.iinfo(dtype).min if dtype.kind == "i" else np.iinfo(dtype).max if dtype.kind == "u" else False


def layer_array(capture: zarr.Group, layer: str) -> "zarr.Array[Any]":
    """Return the array of a layer's values (sample, ...)."""
    array = capture[f"{escape(layer)}/values"]
    assert isinstance(array, zarr.Array)
    return array


def _store(array: "zarr.Array[Any]", window: slice, values: np.ndarray[Any, Any]) -> None:
    array[window] = values


def _to_numpy(values: "Tensor") -> np.ndarray[Any, Any]:
    """Return a copy: the tensor is the network's own, and the next operation may overwrite it."""
    import torch

    own = values.detach().to("cpu", copy=True)
    made: np.ndarray[Any, Any] = (own.float() if own.dtype == torch.bfloat16 else own).contiguous().numpy()
    return made
