"""Compare what two studies hold under one name, and read what was copied to see that it can be."""

import math
from typing import Any

import numpy as np
import xarray as xr
import zarr

from outcrop.store.layout import child_names, read_dataset
from outcrop.store.maintenance.objects import Objects, is_metadata

_WINDOW_BYTES = 64 << 20
_BROKEN = (ValueError, RuntimeError, OSError)
"""What zarr and its codecs raise on bytes that are not what was written."""


def different_data(first: zarr.Group, second: zarr.Group, path: str) -> str | None:
    """Return how the samples of two studies differ, or None."""
    one, other = _group(first, path), _group(second, path)
    if one.attrs.get("fingerprint") != other.attrs.get("fingerprint"):
        return "other samples"
    ids = [np.asarray(_array(group, "sample")[:]) for group in (one, other)]
    return None if np.array_equal(ids[0], ids[1]) else "other sample ids"


def different_result(first: zarr.Group, second: zarr.Group, path: str) -> str | None:
    """Return how the numbers of two results differ, or None; when and where they were computed does not matter."""
    leaves = [child_names(root, path) for root in (first, second)]
    if leaves[0] != leaves[1]:
        return f"{', '.join(leaves[0]) or 'nothing'} here and {', '.join(leaves[1]) or 'nothing'} there"
    for leaf in leaves[0]:
        one, other = (_dataset(root, f"{path}/{leaf}") for root in (first, second))
        if not one.equals(other):
            return f"other numbers in {leaf}"
    return None


def different_layer(first: zarr.Group, second: zarr.Group, path: str) -> str | None:
    """Return how the values of a layer differ, or None. Cost: both are read once."""
    one, other = (_array(_group(root, path), "values") for root in (first, second))
    if (one.shape, one.dtype) != (other.shape, other.dtype):
        return f"{one.dtype} {one.shape} here and {other.dtype} {other.shape} there"
    step = _window(one)
    for start in range(0, one.shape[0], step):
        values = []
        for place, array in (("here", one), ("there", other)):
            try:
                values.append(np.asarray(array[start : start + step]))
            except _BROKEN as error:
                return f"samples {start} to {min(start + step, one.shape[0]) - 1} cannot be read {place}: {error}"
        if values[0].tobytes() != values[1].tobytes():
            return f"other values in samples {start} to {min(start + step, one.shape[0]) - 1}"
    return None


def unreadable(root: zarr.Group, path: str) -> str | None:
    """Return which samples of a layer cannot be read, or None; all checksums are verified. Cost: one read."""
    array = _array(_group(root, path), "values")
    if array.shards is not None:
        # A missing shard reads as values that were never written.
        there = [key for key in Objects(root).sizes(f"{path}/values") if not is_metadata(key)]
        missing = math.ceil(array.shape[0] / array.shards[0]) - len(there)
        if missing:
            return f"{missing} of its files are missing"
    step = _window(array)
    for start in range(0, array.shape[0], step):
        try:
            array[start : start + step]
        except _BROKEN as error:
            reason = " ".join(str(error).split())
            return f"samples {start} to {min(start + step, array.shape[0]) - 1} are damaged: {reason}"
    return None


def _window(array: "zarr.Array[Any]") -> int:
    """Return how many samples to read at once: whole shards, where they fit."""
    row = math.prod(array.shape[1:]) * array.dtype.itemsize
    unit = (array.shards or array.chunks)[0]
    return max(
        1, min(unit, array.shape[0]) if row * unit > _WINDOW_BYTES else unit * (_WINDOW_BYTES // max(1, row * unit))
    )


def _dataset(root: zarr.Group, path: str) -> xr.Dataset:
    return read_dataset(_group(root, path)).load()


def _group(root: zarr.Group, path: str) -> zarr.Group:
    group: zarr.Group = root[path]  # type: ignore[assignment] # a Group
    return group


def _array(group: zarr.Group, name: str) -> "zarr.Array[Any]":
    array = group[name]
    assert isinstance(array, zarr.Array)
    return array
