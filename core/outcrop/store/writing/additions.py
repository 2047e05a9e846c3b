"""Take activations that were extracted elsewhere into a study, where they are a capture like any other."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numpy.typing import NDArray

from outcrop.data.dataset import Data
from outcrop.errors import DataNotFoundError, InputError, ParameterError, StudyError, did_you_mean
from outcrop.models.model import LAYER_KINDS, Layer, LayerKind
from outcrop.store.dataset import write_data
from outcrop.store.layout import layer_array
from outcrop.store.ledger import CaptureIdentity
from outcrop.store.reading.activations import Capture
from outcrop.store.writing.captures import write_capture
from outcrop.store.writing.codec import Compression
from outcrop.store.writing.given_arrays import (
    GivenSource,
    content_digest,
    describe,
    labelled_ids,
    rows_digest,
    same_values,
    sample_first,
)

if TYPE_CHECKING:
    from outcrop.store.study import Study

_SHOWN = 3
_ROWS = "added_rows_sha256"
"""Attribute of an array: hash of a few of the rows that it is made of, by which a continued addition is known."""


def add_activations(
    study: "Study",
    values: Any,
    *,
    model: str,
    data: "Data | str | Sequence[Any] | NDArray[Any]",
    layer: str | None = None,
    fingerprint: str | None = None,
    dims: Sequence[str] | None = None,
    kinds: Mapping[str, LayerKind] | None = None,
    preprocessing: str = "unknown",
    reduction: str = "none",
    source: str = "",
    batch_size: int = 256,
    compression: Compression = "none",
) -> Capture:
    """Store activations that were extracted elsewhere, and return them as a capture like any other.

    Values are read some samples at a time, so a dask array or a memory map may exceed the memory.

    Args:
        study: Where they are stored.
        values: An array (sample, ...) of numpy, torch, dask, xarray, zarr or HDF5, or several by layer name.
        model: Name that they go by, as in ``study.activations[model]``.
        data: What the model saw: data, the name of data that the study holds, or the ids of the samples. An xarray
            that carries sample ids must carry these.
        layer: Name of the layer, for a single array.
        fingerprint: What tells this state of the model from others; layers with the same one join one capture. By
            default a hash of the values, at the cost of reading them once more.
        dims: Names of the dimensions after the sample; by default an xarray's own, else by their number.
        kinds: Kinds by layer name, such as ``block``; ``other`` where not given.
        preprocessing: What the samples went through, in words.
        reduction: What the values went through, in words.
        source: Where they come from, in words.
        batch_size: Samples that are read and written at a time.
        compression: ``none``, ``zstd`` or ``lz4``.

    Raises:
        InputError: Values that are no numbers, no name of model or layer, an unknown kind, or samples that are not
            those of the data.
        DataNotFoundError: The study holds no data of that name.
        ParameterError: The batch size is below 1.
        DataReadError: A sample id occurs twice.
        StudyError: The study was opened to read, or holds other values of a layer under the same fingerprint.
        StudyLockedError: Another process is writing to it.
    """
    if batch_size < 1:
        raise ParameterError(f"The batch size is {batch_size}; expected at least 1.")
    arrays = _by_layer(values, layer)
    _check_words(model, arrays, kinds or {})
    with study.writing():
        node, data_fingerprint, ids = _samples(study, data)
        for name, array in arrays.items():
            _check_samples(name, array, ids)
        identity = CaptureIdentity(
            model=model,
            model_source=f"added:{source or model}",
            model_fingerprint=fingerprint or f"content:{content_digest(arrays)}",
            data=node,
            data_fingerprint=data_fingerprint,
            preprocessing=preprocessing,
            device="unknown",
            mode="given",
            reduction=reduction,
        )
        layers = _layers(study, identity, arrays, dims, kinds or {})
        try:
            write_capture(
                study.root,
                identity,
                lambda stored: GivenSource(model, stored, arrays),
                layers,
                ids,
                batch_size=batch_size,
                compression=compression,
                progress=study.progress,
                on_layout=study.refresh,
                attributes=lambda one: {_ROWS: rows_digest(arrays[one.name])},
            )
        finally:
            study.refresh()
    return study.activations[identity.node]


class GivenSamples(Data):
    """Samples of which nothing is known but their ids.

    Args:
        sample_ids: Unique.

    Raises:
        DataReadError: An id occurs twice.
        DataNotFoundError: There is none.
    """

    name, source = "samples", "given"

    def __init__(self, sample_ids: Sequence[Any]) -> None:
        from outcrop.data.content import checked_ids, refuse_empty

        refuse_empty(len(sample_ids), self.name)
        self.sample_ids = checked_ids([str(one) for one in sample_ids], len(sample_ids), self.name)

    @property
    def fingerprint(self) -> str:
        """Return a hash of the ids in their order."""
        return hashlib.sha256(repr(tuple(self.sample_ids)).encode()).hexdigest()

    def read(self, index: int) -> Mapping[str, NDArray[Any]]:  # noqa: ARG002 - every sample is alike
        """Return no input: only the id is known."""
        return {}


def _by_layer(values: Any, layer: str | None) -> dict[str, Any]:
    """Return arrays (sample, ...) by layer name."""
    named = values if isinstance(values, Mapping) else {layer: values}
    if (layer is None) != isinstance(values, Mapping) or not named:
        raise InputError("Give one array and layer='NAME', or a mapping from layer names to arrays and no layer.")
    return {str(name): sample_first(str(name), array) for name, array in named.items()}


def _check_words(model: str, arrays: Mapping[str, Any], kinds: Mapping[str, LayerKind]) -> None:
    """Refuse what no ledger could be read with."""
    if not model or "" in arrays:
        raise InputError(f"The {'layer' if model else 'model'} has an empty name; give it one.")
    for name, kind in kinds.items():
        if name not in arrays:
            raise InputError(f"kinds names a layer {name!r} that is not given.{did_you_mean(name, arrays)}")
        if kind not in LAYER_KINDS:
            raise InputError(f"Layer {name!r} has the unknown kind {kind!r}; expected one of {', '.join(LAYER_KINDS)}.")


def _samples(study: "Study", data: "Data | str | Sequence[Any] | NDArray[Any]") -> tuple[str, str, tuple[str, ...]]:
    """Return node name, fingerprint and sample ids of data, stored in the study where they are not yet."""
    if isinstance(data, str):
        stored = study.data
        names = {node: str(tree.attrs["name"]) for node, tree in stored.children.items()}
        found = [node for node, name in names.items() if data in (node, name)]
        if len(found) != 1:
            options = sorted({*names, *names.values()})
            many = (
                f"{len(found)} data sets {data!r}; name one of {', '.join(found)}." if found else f"no data {data!r}."
            )
            raise DataNotFoundError(
                f"The study holds {many}{did_you_mean(data, options) if not found else ''} "
                "Give the data, or sample ids, to add some."
            )
        tree = stored[found[0]]
        return (
            found[0],
            str(tree.attrs["fingerprint"]),
            tuple(str(one) for one in tree.to_dataset()["sample"].values.tolist()),
        )
    samples = data if isinstance(data, Data) else GivenSamples(np.asarray(data).tolist())
    return write_data(study.root, samples, study.progress), samples.fingerprint, tuple(map(str, samples.sample_ids))


def _check_samples(layer: str, array: Any, ids: Sequence[str]) -> None:
    if not array.shape or int(array.shape[0]) != len(ids):
        rows = f"{array.shape[0]} rows" if array.shape else "a single number"
        raise InputError(f"Layer {layer!r} has {rows}; the data has {len(ids)} samples. Give one row a sample.")
    own = labelled_ids(array)
    if own is None or own == tuple(ids):
        return
    missing = [one for one in own if one not in set(ids)]
    if missing:
        raise InputError(
            f"Layer {layer!r} has samples that the data does not have: {', '.join(map(repr, missing[:_SHOWN]))}"
            f"{f' and {len(missing) - _SHOWN} more' if len(missing) > _SHOWN else ''}. "
            "Give the data that the values were computed on."
        )
    raise InputError(
        f"Layer {layer!r} has the samples of the data in another order; give values.sel(sample=data.sample_ids)."
    )


def _layers(
    study: "Study",
    identity: CaptureIdentity,
    arrays: Mapping[str, Any],
    dims: Sequence[str] | None,
    kinds: Mapping[str, LayerKind],
) -> tuple[Layer, ...]:
    """Return the layers that are to be stored; those that the study has under the same fingerprint must be equal."""
    known = next((capture for capture in study.activations.captures() if capture.node == identity.node), None)
    if known is None:
        return describe(arrays, first_index=0, dims=dims, kinds=kinds)
    by_name = {layer.name: layer for layer in known.layers}
    first = 1 + max(layer.index for layer in known.layers)
    described = describe(
        {name: array for name, array in arrays.items() if name not in by_name},
        first_index=first,
        dims=dims,
        kinds=kinds,
    )
    old = tuple(by_name[name] for name in arrays if name in by_name)
    for layer in old:
        _check_equal(known, layer, arrays[layer.name])
    return (*old, *described)


def _check_equal(capture: Capture, layer: Layer, array: Any) -> None:
    stored: zarr.Array[Any] = layer_array(capture.group, layer.name)
    if tuple(array.shape) == tuple(stored.shape) and capture.committed(layer.name) < capture.samples:
        same = stored.attrs.get(_ROWS) == rows_digest(array)  # the others are to be continued
    else:
        same = same_values(array, stored)
    if not same:
        raise StudyError(
            f"The study holds other values of layer {layer.name!r} of {capture.model!r} under the fingerprint "
            f"{capture.identity.model_fingerprint!r}. Give what has changed another fingerprint, or remove the old: "
            f"outcrop study prune --capture {capture.node!r} --layers {layer.name!r}."
        )
