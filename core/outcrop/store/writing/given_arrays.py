"""Arrays that were extracted elsewhere, as a source of activations: read group by group, whatever holds them."""

import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outcrop.capture.source import ActivationSource, Visit
from outcrop.errors import InputError
from outcrop.models.kinds import dimension_names
from outcrop.models.model import Layer, LayerKind, Visitor

_HASH_BYTES = 64 << 20
_NUMBERS = "fiub"


class GivenSource(ActivationSource):
    """Values (sample, ...) in arrays: of numpy (memory maps too), torch, dask or xarray, of zarr or HDF5.

    Only the samples of one group are in memory at a time.

    Args:
        name: Of the model.
        layers: What the arrays hold.
        arrays: By layer name.
    """

    def __init__(self, name: str, layers: Sequence[Layer], arrays: Mapping[str, Any]) -> None:
        self.name = name
        self.layers = tuple(layers)
        self._arrays = arrays

    def groups(self, order: NDArray[np.int64], group_size: int) -> Iterator[tuple[NDArray[np.int64], Visit]]:
        """Yield groups of ``group_size`` samples, the last one of what remains."""
        for start in range(0, len(order), group_size):
            chosen = order[start : start + group_size]

            def visit(visitor: Visitor, chosen: NDArray[np.int64] = chosen) -> None:
                import torch

                for layer in self.layers:
                    visitor(layer, torch.from_numpy(read_rows(self._arrays[layer.name], chosen)))

            yield chosen, visit


def read_rows(array: Any, chosen: NDArray[np.int64]) -> NDArray[Any]:
    """Return some samples of an array as a writable numpy array of this machine's byte order."""
    first, last = int(chosen[0]), int(chosen[-1])
    consecutive = len(chosen) == last - first + 1 and bool((np.diff(chosen) == 1).all())
    # A slice is what every kind of array reads without reading more.
    values = _plain(array[first : last + 1]) if consecutive else np.stack([_plain(array[i]) for i in chosen.tolist()])
    return np.array(values, dtype=values.dtype.newbyteorder("="), order="C")


def describe(
    arrays: Mapping[str, Any], *, first_index: int, dims: Sequence[str] | None, kinds: Mapping[str, LayerKind]
) -> tuple[Layer, ...]:
    """Return the layers that arrays hold, in their order.

    Args:
        arrays: (sample, ...), by layer name.
        first_index: Of the first of them among all layers of the model.
        dims: Names of the dimensions after the sample, the same for all; by default an xarray's own, else by number.
        kinds: By layer name; ``other`` where not given.

    Raises:
        InputError: An array holds no numbers, has no dimension of samples, or dims that do not fit it.
    """
    layers = []
    for position, (name, array) in enumerate(arrays.items()):
        shape, dtype = tuple(map(int, array.shape)), _dtype_name(array)
        if not shape or np.dtype(_numpy_name(dtype)).kind not in _NUMBERS:
            raise InputError(
                f"Layer {name!r} has values of type {dtype} and shape {shape}; expected real numbers, one row a sample."
            )
        kind = kinds.get(name, "other")
        layers.append(
            Layer(
                name=name,
                kind=kind,
                index=first_index + position,
                shape=shape[1:],
                dtype=dtype,
                operation="given",
                dims=_dims(name, array, shape, kind, dims),
            )
        )
    return tuple(layers)


def content_digest(arrays: Mapping[str, Any]) -> str:
    """Return a hash of names, shapes, types and values. Cost: one read of all values, some at a time."""
    total = hashlib.sha256()
    for name, array in arrays.items():
        total.update(repr((name, tuple(array.shape), _dtype_name(array))).encode())
        for rows in _windows(array):
            values = read_rows(array, rows)
            total.update(np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<")).data)
    return total.hexdigest()


def rows_digest(array: Any) -> str:
    """Return a hash of the first row, the last one and two between, to tell in no time whether values are others."""
    found = hashlib.sha256(repr((tuple(array.shape), _dtype_name(array))).encode())
    for row in np.unique(np.linspace(0, int(array.shape[0]) - 1, 4).round().astype(np.int64)):
        values = read_rows(array, row[None])
        found.update(np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<")).data)
    return found.hexdigest()


def same_values(array: Any, stored: Any) -> bool:
    """Return whether a stored array holds an array's values. Cost: one read of both."""
    if tuple(array.shape) != tuple(stored.shape) or np.dtype(_numpy_name(_dtype_name(array))) != stored.dtype:
        return False
    return all(
        read_rows(array, rows).tobytes() == np.ascontiguousarray(stored[int(rows[0]) : int(rows[-1]) + 1]).tobytes()
        for rows in _windows(array)
    )


def sample_first(name: str, array: Any) -> Any:
    """Return an xarray with its dimension of samples first; other arrays as they are, lists as arrays.

    Raises:
        InputError: The named dimensions lack ``sample``.
    """
    if not hasattr(array, "shape"):
        return np.asarray(array)
    if not _is_labelled(array):
        return array
    if "sample" not in array.dims:
        raise InputError(
            f"Layer {name!r} has the dimensions {', '.join(map(str, array.dims))}; one of them must be called 'sample'."
        )
    return array.transpose("sample", ...)


def labelled_ids(array: Any) -> tuple[str, ...] | None:
    """Return the sample ids that an xarray carries, or None."""
    if not _is_labelled(array) or "sample" not in array.coords:
        return None
    return tuple(str(one) for one in array.coords["sample"].values.tolist())


def _windows(array: Any) -> Iterator[NDArray[np.int64]]:
    samples = int(array.shape[0])
    row = int(np.prod(array.shape[1:], dtype=np.int64)) * np.dtype(_numpy_name(_dtype_name(array))).itemsize
    step = max(1, _HASH_BYTES // max(1, row))
    for start in range(0, samples, step):
        yield np.arange(start, min(start + step, samples))


def _plain(values: Any) -> NDArray[Any]:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        # numpy has no bfloat16.
        return np.asarray((values.float() if values.dtype == torch.bfloat16 else values).numpy())
    return np.asarray(values)


def _dims(
    name: str, array: Any, shape: tuple[int, ...], kind: LayerKind, dims: Sequence[str] | None
) -> tuple[str, ...]:
    if dims is not None:
        if len(dims) != len(shape) - 1 or "sample" in dims or len(set(dims)) != len(dims):
            raise InputError(
                f"dims names {', '.join(dims) or 'nothing'}; layer {name!r} has {len(shape) - 1} dimensions after the "
                "sample. Give a name of its own for each of them."
            )
        return tuple(dims)
    if _is_labelled(array):
        return tuple(str(dim) for dim in array.dims[1:])
    return dimension_names(shape[1:], kind, "given")


def _is_labelled(array: Any) -> bool:
    return hasattr(array, "dims") and hasattr(array, "coords")


def _dtype_name(array: Any) -> str:
    return str(array.dtype).removeprefix("torch.")


def _numpy_name(dtype: str) -> str:
    return "float32" if dtype == "bfloat16" else dtype
