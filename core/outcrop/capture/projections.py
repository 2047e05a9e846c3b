"""A random projection of the features of a layer, which keeps inner products up to a known error."""

import math
import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from outcrop.capture.random_bits import random_words
from outcrop.capture.reduction import Reduction, check_shape, summing_type, torch_type
from outcrop.models.model import Layer

if TYPE_CHECKING:
    import torch
    from torch import Tensor

ENTRIES = 4
"""Most entries of a column."""

KEPT_BYTES = 512 << 20
"""Bytes of matrices that are kept for the next batch: those of all layers of a DenseNet-121 take 283 MB."""

_STREAM = 2


@dataclass(frozen=True)
class RandomProjection(Reduction):
    r"""All features of a sample, flattened, times a sparse random matrix: any layer becomes (feature) of one width.

    The matrix S (dimension, feature) is the sparse embedding of Kane and Nelson (2014, arXiv:1012.1577, section 1.1,
    block construction): the rows are cut into s = min(4, dimension) blocks, and each column has one entry in each,
    at a random row and with a random sign, of size 1 / sqrt(s). It depends on the seed and the number of features only.

    Inner products are kept on average, ``E <S a, S b> = <a, b>``, and norms with them. The variance is::

        Var <S a, S b> = c sum_{i<j} (a_i b_j + a_j b_i)^2 <= c (|a|^2 |b|^2 + <a, b>^2),

        c = (1 / s^2) sum over blocks of 1 / (rows of the block), which is 1 / dimension where s divides it,

    so for a linear kernel the error of an entry of the Gram matrix is at most ``sqrt(2 / dimension) |a| |b|`` in the
    root of the mean square. Features of one layer that are captured with one seed in two models are projected alike.

    Cost: s multiplications a feature. Memory: 8 s bytes a feature for the matrix (13 s on a GPU), kept up to 512 MB for
    the sizes of layers used last. Layers of no more features than the dimension are left as they are. Half precision
    is summed and kept in float32, integers in float64.

    Attributes:
        dimension: Number of features that are left.
        seed: Of the matrix.
    """

    dimension: int
    seed: int = 0

    @property
    def description(self) -> str:
        """Return ``projection:<dimension>,seed=<seed>``."""
        return f"projection:{self.dimension},seed={self.seed}"

    def reduced(self, layer: Layer) -> Layer:
        """Return the layer as one row of features."""
        if math.prod(layer.shape) <= self.dimension:
            return layer
        return replace(layer, shape=(self.dimension,), dims=("feature",), dtype=summing_type(layer.dtype))

    def apply(self, layer: Layer, values: "Tensor") -> "Tensor":
        """Return the projections (sample, feature)."""
        if math.prod(layer.shape) <= self.dimension:
            return values
        check_shape(layer, values)
        features = values.flatten(1).to(torch_type(summing_type(layer.dtype)))
        return (multiply if values.device.type == "cpu" else multiply_by_gathering)(self, features)

    def details(self, layer: Layer) -> dict[str, Any]:
        """Return the number of entries of a column, and where they come from."""
        if math.prod(layer.shape) <= self.dimension:
            return {}
        return {
            "projection_features": math.prod(layer.shape),
            "projection_dimension": self.dimension,
            "projection_seed": self.seed,
            "projection_entries": len(blocks(self.dimension)),
            "projection_matrix": "sparse embedding, one entry a block (arXiv:1012.1577), Philox4x64",
        }

    def matrix(self, features: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the rows and the signs (feature, entry) of the matrix, whose entries are these signs over sqrt(s).

        Word ``feature * entries + entry`` of the generator gives the sign with its lowest bit and, with its upper half
        as a fraction of the block, the row.
        """
        sizes = np.asarray(blocks(self.dimension), dtype=np.uint64)
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
        words = random_words(features * len(sizes), seed=self.seed, stream=_STREAM).reshape(features, len(sizes))
        rows = (((words >> np.uint64(32)) * sizes) >> np.uint64(32)).astype(np.int64) + starts
        return rows, 1 - 2 * (words & np.uint64(1)).astype(np.int64)


def blocks(dimension: int) -> list[int]:
    """Return the number of rows of each block: as equal as can be."""
    count = min(ENTRIES, dimension)
    return [dimension // count + (index < dimension % count) for index in range(count)]


def multiply(projection: RandomProjection, features: "Tensor") -> "Tensor":
    """Return the projections (sample, feature) of features on the CPU."""
    return (_sparse(projection, features.shape[1], features.dtype) @ features.T).T.contiguous()


def multiply_by_gathering(projection: RandomProjection, features: "Tensor") -> "Tensor":
    """Return the projections (sample, feature) on any device, as sums of gathered features.

    Sums of a dense array have one order, so that a capture that is resumed on a GPU ends with the bytes that it would
    have had; sparse products there promise no such thing. Memory: about one copy of the features.
    """
    import torch

    parts = [
        (features[:, columns] * weights).masked_fill_(filling, 0).sum(-1)
        for columns, weights, filling in _gathering(projection, features.shape[1], features.dtype, features.device)
    ]
    return torch.cat(parts, dim=1)


def _by_row(projection: RandomProjection, features: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[Any]]:
    """Return where each row starts in what follows, and column and weight of all entries, by row and then column."""
    rows, signs = projection.matrix(features)
    flat, entries = rows.ravel(), rows.shape[1]
    narrow = flat.astype(np.uint16) if projection.dimension <= 1 << 16 else flat  # sorted by radix
    order = np.argsort(narrow, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(flat, minlength=projection.dimension))])
    return starts, order // entries, signs.ravel()[order] / math.sqrt(entries)


class _Kept:
    """What was made last, up to a number of bytes; the oldest goes first.

    A network has as many matrices as sizes of layers, from tens of them to hundreds: a limit on their number would
    either not bound the memory, or have all of them made again for every batch.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = Lock()
        self._found: OrderedDict[tuple[object, ...], tuple[Any, int]] = OrderedDict()

    def get(self, key: tuple[object, ...], make: Callable[[], tuple[Any, int]]) -> Any:
        """Return what is kept under a key, or what ``make`` returns beside its bytes."""
        with self._lock:
            if key in self._found:
                self._found.move_to_end(key)
                return self._found[key][0]
        made, size = make()
        with self._lock:
            self._found[key] = made, size
            while sum(size for _, size in self._found.values()) > self._limit:
                self._found.popitem(last=False)
        return made


_KEPT = _Kept(KEPT_BYTES)


def _sparse(projection: RandomProjection, features: int, dtype: "torch.dtype") -> "Tensor":
    """Return the matrix (dimension, feature) in compressed sparse rows."""
    matrix: Tensor = _KEPT.get((projection, features, dtype), lambda: _make_sparse(projection, features, dtype))
    return matrix


def _make_sparse(projection: RandomProjection, features: int, dtype: "torch.dtype") -> tuple["Tensor", int]:
    import torch

    starts, columns, weights = _by_row(projection, features)
    with warnings.catch_warnings():
        # torch says that sparse matrices are in beta; what it computes here is compared with dense ones in the tests.
        warnings.simplefilter("ignore", UserWarning)
        parts = (
            torch.from_numpy(starts.astype(np.int32)),
            torch.from_numpy(columns.astype(np.int32)),
            torch.from_numpy(weights).to(dtype),
        )
        matrix = torch.sparse_csr_tensor(*parts, (projection.dimension, features), check_invariants=False)
    return matrix, sum(part.nbytes for part in parts)


def _gathering(
    projection: RandomProjection, features: int, dtype: "torch.dtype", device: "torch.device"
) -> list[tuple["Tensor", "Tensor", "Tensor"]]:
    """Return columns and weights (row, entry) of each block of rows, and which entries only fill up short rows."""
    key = (projection, features, dtype, device)
    found: list[tuple[Tensor, Tensor, Tensor]] = _KEPT.get(
        key, lambda: _make_gathering(projection, features, dtype, device)
    )
    return found


def _make_gathering(
    projection: RandomProjection, features: int, dtype: "torch.dtype", device: "torch.device"
) -> tuple[list[tuple["Tensor", "Tensor", "Tensor"]], int]:
    import torch

    starts, columns, weights = _by_row(projection, features)
    found, first = [], 0
    for rows in blocks(projection.dimension):
        begin = starts[first : first + rows, None]
        counts = starts[first + 1 : first + rows + 1, None] - begin
        entry = np.arange(counts.max())
        real = entry < counts
        place = np.where(real, begin + entry, 0)
        found.append(
            (
                torch.from_numpy(columns[place]).to(device),
                torch.from_numpy(weights[place]).to(device, dtype),
                torch.from_numpy(~real).to(device),
            )
        )
        first += rows
    return found, sum(part.nbytes for parts in found for part in parts)
