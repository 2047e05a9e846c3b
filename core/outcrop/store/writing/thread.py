"""Write layers on a thread of its own, while the network computes the next ones."""

from collections import Counter, deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from threading import Event
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from outcrop.capture.finite import count_non_finite
from outcrop.store.writing.buffers import BufferPool
from outcrop.store.writing.shards import LayerShards

if TYPE_CHECKING:
    from torch import Tensor

WRITE_BUDGET = 256 << 20
"""Bytes that wait to be written; the network waits where the disk cannot keep up."""

_PIECE_BYTES = 4 << 20
"""What is checked, summed and written at a time: it stays in the processor's cache meanwhile."""


class ShardWriter:
    """Hands the values of layers to their shards, in order, one batch after another; a context manager.

    Values are copied when they are put, in pieces that wait in a bounded pool. What was put counts once the batch is
    committed. After an error in the thread nothing more is written or committed.

    Args:
        shards: By layer name.
        commit: Called on the writing thread once all values of a batch are written: with the number of leading
            samples that are, and the count of values by layer that are not finite, of all batches so far.
        pinned: Whether values come from a GPU.
        budget: Bytes that may wait.
    """

    def __init__(
        self,
        shards: Mapping[str, LayerShards],
        commit: Callable[[int, Mapping[str, int]], None],
        *,
        pinned: bool = False,
        budget: int = WRITE_BUDGET,
    ) -> None:
        self._shards = shards
        self._commit = commit
        self._pool = BufferPool(budget, pinned=pinned)
        self._piece_bytes = min(_PIECE_BYTES, budget // 4)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="outcrop-write")
        self._pending: deque[Future[None]] = deque()
        self._stopped = Event()
        self._non_finite: Counter[str] = Counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        # Also upon an error outside: batches that are committed but not yet written still count.
        interrupted: KeyboardInterrupt | None = None
        while True:
            try:
                # For the tasks, not the thread: Python 3.11 takes a thread for ended whose joining was interrupted.
                wait(self._pending)
                break
            except KeyboardInterrupt as error:
                # Asked again to stop. What is in hand is ended all the same: nobody else may touch its files meanwhile.
                self._stopped.set()
                interrupted = error
        self._thread.shutdown(wait=True)
        if interrupted is not None:
            raise interrupted
        if kind is None:
            self._check(finished=True)

    def put(self, layer: str, start: int, values: "Tensor", dtype: np.dtype[Any]) -> None:
        """Copy the values (sample, ...) of a layer, whose first sample is ``start``, and write them later."""
        import torch

        shards = self._shards[layer]
        chunking = shards.chunking
        for first in range(0, len(values), chunking.shard):
            rows = values[first : first + chunking.shard]
            per_piece = max(1, self._piece_bytes // max(1, shards.chunk_bytes)) * chunking.chunk
            # A batch that begins within a shard ends within it or where it ends.
            for offset in range(0, len(rows), per_piece):
                part = rows[offset : offset + per_piece]
                size = part.numel() * dtype.itemsize
                buffer = self._pool.take(size)
                buffer[:size].view(getattr(torch, dtype.name)).view(part.shape).copy_(part)
                self._submit(self._write, shards, layer, start + first + offset, buffer, len(part), dtype)

    def commit(self, samples: int) -> None:
        """Commit, once it is written, all that was put: so many leading samples of every layer."""
        self._submit(self._commit_batch, samples)

    def _submit(self, task: Callable[..., None], *arguments: Any) -> None:
        self._check()
        self._pending.append(self._thread.submit(task, *arguments))

    def _check(self, *, finished: bool = False) -> None:
        """Raise what the thread has raised."""
        while self._pending and (finished or self._pending[0].done()):
            self._pending.popleft().result()

    def _write(
        self, shards: LayerShards, layer: str, start: int, buffer: "Tensor", samples: int, dtype: np.dtype[Any]
    ) -> None:
        try:
            if self._stopped.is_set():
                return
            shape = (samples, *shards.row_shape)
            size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
            values = buffer.numpy()[:size].view(dtype).reshape(shape)
            self._non_finite[layer] += count_non_finite(values)
            chunk = shards.chunking.chunk
            pieces = [_whole(values[first : first + chunk], chunk) for first in range(0, samples, chunk)]
            shards.append(start, [shards.codec.encode(piece) for piece in pieces])
        except BaseException:
            self._stopped.set()
            raise
        finally:
            self._pool.give(buffer)

    def _commit_batch(self, samples: int) -> None:
        if self._stopped.is_set():
            return
        try:
            self._commit(samples, dict(self._non_finite))
        except BaseException:
            self._stopped.set()
            raise


def unwritten(dtype: np.dtype[Any]) -> Any:
    """Return what stands where nothing was written; it must not look like a unit that is silent."""
    if dtype.kind in "fc":
        return dtype.type(np.nan)
    return np.iinfo(dtype).min if dtype.kind == "i" else np.iinfo(dtype).max if dtype.kind == "u" else False


def _whole(values: np.ndarray[Any, Any], chunk: int) -> np.ndarray[Any, Any]:
    """Return the values of a chunk, filled up where the array ends within it."""
    if len(values) == chunk:
        return values
    filled = np.full((chunk, *values.shape[1:]), unwritten(values.dtype), dtype=values.dtype)
    filled[: len(values)] = values
    return filled
