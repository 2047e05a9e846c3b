"""The shards of one layer while they are written: a file beside the final one, or memory where there are no files."""

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import zarr
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import LocalStore

from outcrop.store.writing.chunking import Chunking
from outcrop.store.writing.codec import ChunkCodec, index_bytes, shard_index
from outcrop.store.writing.direct import DirectWriter

PART = ".part"
"""Ending of a shard that is being filled."""


class LayerShards(ABC):
    """The shards of one array, filled from its first sample to its last.

    Chunks are handed over in order. A shard becomes readable by :meth:`seal`, once all of its chunks are there.

    Args:
        array: Sharded along its first dimension only.
        codec: Of its chunks.

    Attributes:
        eager: Whether a shard is sealed as soon as it is full, and what is not in a whole shard is lost with the
            process.
    """

    eager: bool

    def __init__(self, array: "zarr.Array[Any]", codec: ChunkCodec) -> None:
        assert array.shards is not None
        self.codec = codec
        self.chunking = Chunking(array.chunks[0], array.shards[0])
        self.samples: int = array.shape[0]
        self.row_shape: tuple[int, ...] = array.shape[1:]
        self.chunk_bytes = self.chunking.chunk * math.prod(self.row_shape) * array.dtype.itemsize
        self._per_shard = self.chunking.shard // self.chunking.chunk
        self._dimensions = array.ndim
        self._sizes: dict[int, list[int]] = {}

    def append(self, start: int, chunks: Sequence[Sequence[Any]]) -> None:
        """Add chunks, all of one shard.

        Args:
            start: First sample; a multiple of the chunk.
            chunks: For each, what :meth:`ChunkCodec.encode` returns.
        """
        sizes = self._sizes.setdefault(start // self.chunking.shard, [])
        self._append(start // self.chunking.shard, sum(sizes), [piece for chunk in chunks for piece in chunk])
        sizes.extend(sum(memoryview(piece).nbytes for piece in chunk) for chunk in chunks)
        if self.eager and len(sizes) == self._per_shard:
            self.seal(start - start % self.chunking.shard + self.chunking.shard)

    def seal(self, samples: int) -> None:
        """Make the shards readable that so many leading samples fill."""
        for shard in sorted(self._sizes):
            if min((shard + 1) * self.chunking.shard, self.samples) <= samples:
                self._close(shard)

    def readable(self, samples: int) -> int:
        """Return how many of so many leading samples stand in whole shards."""
        return samples if samples == self.samples else samples - samples % self.chunking.shard

    @abstractmethod
    def restore(self, samples: int, sealed: int) -> int:
        """Prepare to continue after so many leading samples, and return after how many that is possible.

        Args:
            samples: Leading samples that were handed over.
            sealed: Leading samples whose shards are known to be sealed.
        """

    @abstractmethod
    def publish(self, samples: int, sealed: int) -> int:
        """Make readable what was handed over, where an interrupted writer can, and return how many samples are.

        Args:
            samples: Leading samples that count.
            sealed: Leading samples whose shards are known to be sealed.
        """

    @abstractmethod
    def _append(self, shard: int, offset: int, pieces: Sequence[Any]) -> None: ...

    @abstractmethod
    def _finish(self, shard: int, end: int, index: bytes) -> None: ...

    def _close(self, shard: int) -> None:
        sizes = self._sizes.pop(shard)
        self._finish(shard, sum(sizes), shard_index(sizes, self._per_shard))

    def _name(self, shard: int) -> str:
        return ".".join(["c", str(shard), *["0"] * (self._dimensions - 1)])


class LocalShards(LayerShards):
    """Shards in files: a chunk that was handed over is safe from the end of the process.

    Args:
        array: Sharded along its first dimension only.
        codec: Of its chunks.
        writer: Of files; one may serve any number of layers, one after the other.
    """

    eager = False

    def __init__(self, array: "zarr.Array[Any]", codec: ChunkCodec, writer: DirectWriter) -> None:
        super().__init__(array, codec)
        store = array.store
        assert isinstance(store, LocalStore)
        self._folder = store.root / array.path
        self._writer = writer

    def restore(self, samples: int, sealed: int) -> int:
        """Seal what is whole, cut what was written beyond the samples, and take away what belongs to neither."""
        self._sizes.clear()
        there = {file.name for file in self._folder.iterdir()}
        whole = min(sealed, samples) // self.chunking.shard
        # All that are sealed, unless the power failed before the disk had taken note of their names.
        shard = next((shard for shard in range(whole) if self._name(shard) not in there), whole)
        while shard * self.chunking.shard < samples:
            missing = self._restore_shard(shard, min(samples, (shard + 1) * self.chunking.shard))
            if missing:
                samples = shard * self.chunking.shard
                break
            shard += 1
        self._sweep()
        return samples

    def publish(self, samples: int, sealed: int) -> int:
        """Seal the shard in flight as far as it has come; :meth:`restore` opens it again."""
        possible = self.restore(samples, sealed)
        for shard in sorted(self._sizes):
            self._close(shard)
        return possible

    def _restore_shard(self, shard: int, end: int) -> bool:
        """Bring a shard to the state in which it holds samples up to ``end``; return whether that is not possible."""
        first = shard * self.chunking.shard
        whole = end == min(first + self.chunking.shard, self.samples)
        final, part = self._final(shard), self._part(shard)
        if whole and final.exists() and not part.exists():
            return False
        if not part.exists() and final.exists():
            os.replace(final, part)  # sealed when the writer was interrupted, or ahead of another layer
        if not part.exists():
            return True
        count = math.ceil((end - first) / self.chunking.chunk)
        with part.open("r+b") as stored:
            sizes = self.codec.stored_sizes(stored, count, self.chunk_bytes)
            if sizes is None:
                return True
            stored.truncate(sum(sizes))
        self._sizes[shard] = sizes
        if whole:
            self.seal(end)
        return False

    def _sweep(self) -> None:
        """Remove parts that hold no sample that counts, and files that a killed zarr left."""
        kept = {self._part(shard).name for shard in self._sizes}
        for file in self._folder.iterdir():
            if (file.name.endswith(PART) and file.name not in kept) or file.name.endswith(".partial"):
                file.unlink()

    def _append(self, shard: int, offset: int, pieces: Sequence[Any]) -> None:
        # Opened anew each time: hundreds of layers would exceed the number of files that a process may hold open.
        self._writer.write(self._part(shard), offset, pieces)

    def _finish(self, shard: int, end: int, index: bytes) -> None:
        part = self._part(shard)
        with part.open("r+b") as stored:
            stored.seek(end)
            stored.write(index)
            stored.truncate()
            stored.flush()
            os.fsync(stored.fileno())
            if hasattr(os, "posix_fadvise"):
                # What nobody reads next would fill the memory with pages.
                os.posix_fadvise(stored.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        os.replace(part, self._final(shard))

    def _final(self, shard: int) -> Path:
        return self._folder / self._name(shard)

    def _part(self, shard: int) -> Path:
        return self._folder / (self._name(shard) + PART)


class ObjectShards(LayerShards):
    """Shards in any store that takes objects whole: held in memory until they are sealed."""

    eager = True

    def __init__(self, array: "zarr.Array[Any]", codec: ChunkCodec) -> None:
        super().__init__(array, codec)
        self._store = array.store
        self._path = array.path
        self._held: dict[int, bytearray] = {}

    def restore(self, samples: int, sealed: int) -> int:
        """Return the samples in whole shards: what memory held is gone."""
        self._sizes.clear()
        self._held.clear()
        return min(sealed, self.readable(samples))

    def publish(self, samples: int, sealed: int) -> int:
        """Return the samples in whole shards."""
        return self.restore(samples, sealed)

    def _append(self, shard: int, offset: int, pieces: Sequence[Any]) -> None:
        held = self._held.setdefault(shard, bytearray())
        del held[offset:]
        for piece in pieces:
            held += memoryview(piece).cast("B")

    def _finish(self, shard: int, end: int, index: bytes) -> None:
        content = self._held.pop(shard)
        assert len(content) == end
        content += index  # in place: a copy of a shard is tens of MB
        buffer = default_buffer_prototype().buffer.from_bytes(content)
        sync(self._store.set(f"{self._path}/{self._name(shard)}", buffer))


def layer_shards(array: "zarr.Array[Any]", codec: ChunkCodec, writer: DirectWriter | None = None) -> LayerShards:
    """Return the shards of an array, as its store allows."""
    if isinstance(array.store, LocalStore):
        return LocalShards(array, codec, writer or DirectWriter())
    return ObjectShards(array, codec)


def shard_bytes(chunks: int, chunk_bytes: int) -> int:
    """Return the bytes of a whole uncompressed shard on disk."""
    return chunks * (chunk_bytes + 4) + index_bytes(chunks)
