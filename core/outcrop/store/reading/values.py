"""Read the values of one stored layer: shard by shard, with an error that says what is damaged and what is not."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.core.sync import sync
from zarr.storage import LocalStore

from outcrop.errors import StudyError
from outcrop.store.reading.uncompressed import UncompressedShards

if TYPE_CHECKING:
    import dask.array

TASK_BYTES = 64 << 20
"""What one task of a lazy array reads, where shards are smaller."""

# What zarr and its codecs raise on bytes that are cut short, overwritten, or no longer there.
_DAMAGE = (ValueError, RuntimeError, KeyError, IndexError, EOFError, OSError)


class LayerValues:
    """The values of one layer (sample, ...), read when they are indexed; dask takes it for an array.

    Args:
        array: As stored.
        layer: Name of the layer.
        model: Name of the model.
        place: Of the study, for messages.
        samples: How many leading samples are stored.
        positions: (sample,), ascending, of those that are wanted; all by default.
    """

    def __init__(
        self,
        array: "zarr.Array[Any]",
        *,
        layer: str,
        model: str,
        place: str,
        samples: int,
        positions: NDArray[np.int64] | None = None,
    ) -> None:
        self._array = array
        self._layer, self._model, self._place = layer, model, place
        self._samples = samples
        self._positions = positions
        self.dtype: np.dtype[Any] = array.dtype
        self.shape = (samples if positions is None else len(positions), *array.shape[1:])
        self.ndim = array.ndim
        self._shard: int = (array.shards or array.chunks)[0]
        self._alone = UncompressedShards.of(array)

    @property
    def reads_samples_alone(self) -> bool:
        """Whether scattered samples cost about what they hold, and not the chunks that they lie in."""
        return self._alone is not None

    def __getitem__(self, index: Any) -> NDArray[Any]:
        index = index if isinstance(index, tuple) else (index,)
        first, rest = index[0], index[1:]
        if not all(isinstance(one, slice | int | np.integer) for one in rest):
            found = self[first]
            return np.asarray(found[rest] if isinstance(first, int | np.integer) else found[(slice(None), *rest)])
        if isinstance(first, int | np.integer):
            one: NDArray[Any] = self.rows(self._chosen(np.array([first])), rest)[0]
            return one
        return self.rows(self._chosen(first), rest)

    def rows(self, chosen: NDArray[np.int64], rest: tuple[Any, ...] = ()) -> NDArray[Any]:
        """Return the values of some samples, in ascending order of position.

        Args:
            chosen: (sample,), ascending positions.
            rest: Index of the other dimensions.

        Raises:
            StudyError: Some of them are damaged or missing.
        """
        ends = np.flatnonzero(np.diff(chosen // self._shard)) + 1
        parts = [self._of_shard(part, rest) for part in np.split(chosen, ends)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def lazy(self) -> "dask.array.Array":
        """Return it as a dask array whose chunks are read by one task each: whole shards, tens of MB."""
        import dask.array
        from dask.base import tokenize

        row = max(1, math.prod(self.shape[1:]) * self.dtype.itemsize)
        together = self._shard * max(1, TASK_BYTES // (self._shard * row))
        positions = self._positions
        if positions is None:
            sizes = [min(together, self.shape[0] - start) for start in range(0, self.shape[0], together)]
        else:
            sizes = np.unique(positions // together, return_counts=True)[1].tolist()
        token = tokenize(str(self._array.store), self._array.path, self._samples, positions)
        chunks = (tuple(sizes) or (0,), *((size,) for size in self.shape[1:]))
        lazy: dask.array.Array = dask.array.from_array(  # type: ignore[no-untyped-call] # dask has no types
            self, chunks=chunks, name=f"{self._layer}-{token}", asarray=True, inline_array=True
        )
        return lazy

    def _chosen(self, index: Any) -> NDArray[np.int64]:
        chosen = np.arange(self.shape[0])[index] if self._positions is None else self._positions[index]
        return np.asarray(chosen, dtype=np.int64)

    def _of_shard(self, chosen: NDArray[np.int64], rest: tuple[Any, ...]) -> NDArray[Any]:
        if not len(chosen):
            return np.empty((0, *self._array.shape[1:]), dtype=self.dtype)[(slice(None), *rest)]
        if self._is_missing(int(chosen[0]) // self._shard):
            raise self._error(chosen, "is missing")
        try:
            return self._read(chosen, rest)
        except _DAMAGE as error:
            raise self._error(self._damaged(chosen), f"is damaged ({_reason(error)})") from error

    def _read(self, chosen: NDArray[np.int64], rest: tuple[Any, ...]) -> NDArray[Any]:
        step = int(chosen[1] - chosen[0]) if len(chosen) > 1 else 1
        if (
            step > 0
            and int(chosen[-1]) - int(chosen[0]) == step * (len(chosen) - 1)
            and bool((np.diff(chosen) == step).all())
        ):
            return np.asarray(self._array[(slice(int(chosen[0]), int(chosen[-1]) + 1, step), *rest)])
        found = np.asarray(self._array.oindex[chosen]) if self._alone is None else self._alone.read(chosen)
        return np.asarray(found[(slice(None), *rest)])

    def _damaged(self, chosen: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return those of some samples of one shard whose chunk cannot be read."""
        chunk = self._array.chunks[0]
        damaged = []
        for part in np.split(chosen, np.flatnonzero(np.diff(chosen // chunk)) + 1):
            try:
                self._read(part, ())
            except _DAMAGE:
                damaged.append(part)
        return np.concatenate(damaged) if damaged else chosen

    def _is_missing(self, shard: int) -> bool:
        """Return whether a file is gone, which zarr would take for values that were never written."""
        if self._array.shards is None and self.dtype.kind != "f":
            return False  # without shards, zarr leaves out what equals the fill value, which may be a value here
        key = self._key(shard)
        store = self._array.store
        if isinstance(store, LocalStore):
            return not (store.root / key).exists()
        return not sync(store.exists(key))

    def _key(self, shard: int) -> str:
        name = self._array.metadata.encode_chunk_key((shard, *[0] * (self.ndim - 1)))
        return f"{self._array.path}/{name}"

    def _error(self, samples: NDArray[np.int64], what: str) -> StudyError:
        first, last = int(samples[0]), int(samples[-1])
        return StudyError(
            f"Layer {self._layer!r} of {self._model!r} cannot be read for samples {first} to {last} of {self._samples}:"
            f" {self._place}/{self._key(first // self._shard)} {what}. Other samples and layers can be read; "
            "to have these again, remove the layer from the study and capture it again."
        )


def _reason(error: BaseException) -> str:
    said = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
    return "its checksum does not match" if "checksum" in said else said
