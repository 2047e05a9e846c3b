"""Read single samples out of uncompressed shards in local files: what lies around them stays on the disk."""

import os
import sys
from io import FileIO
from pathlib import Path
from typing import Any, Self

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec
from zarr.storage import LocalStore

from outcrop.store.writing.codec import CHECKSUM_BYTES, MISSING, checksum, index_bytes

PAGE = 4096
"""Bytes that a disk is read by at least, however short the sample."""


class UncompressedShards:
    """The samples of an array (sample, ...) whose chunks lie as they are in files, each with its checksum.

    zarr reads chunks whole, so a batch in random order costs it some thirty times its size. Here a chunk is read whole
    only the first time, when its checksum is compared; afterwards, samples alone.

    Args:
        array: One that :meth:`of` takes.
    """

    def __init__(self, array: "zarr.Array[Any]") -> None:
        assert array.shards is not None
        assert isinstance(array.store, LocalStore)
        self._folder: Path = array.store.root / array.path
        self._array = array
        self._chunk, self._shard = int(array.chunks[0]), int(array.shards[0])
        self._row_shape = tuple(array.shape[1:])
        self._row_bytes = int(np.prod(self._row_shape, dtype=np.int64)) * array.dtype.itemsize
        self._chunk_bytes = self._chunk * self._row_bytes
        self._compared = np.zeros(-(-array.shape[0] // self._chunk), dtype=bool)
        self._begins: dict[int, NDArray[np.uint64]] = {}

    @classmethod
    def of(cls, array: "zarr.Array[Any]") -> Self | None:
        """Return the reader of an array, or None where it is stored otherwise, or elsewhere."""
        codecs = getattr(array.metadata, "codecs", ())
        sharding = next(iter(codecs), None)  # it is the only one wherever it is used
        if not (
            isinstance(array.store, LocalStore)
            and sys.byteorder == "little"
            and isinstance(sharding, ShardingCodec)
            and [type(codec) for codec in sharding.codecs] == [BytesCodec, Crc32cCodec]
            and [type(codec) for codec in sharding.index_codecs] == [BytesCodec, Crc32cCodec]
            and sharding.index_location.value == "end"
            and array.chunks[1:] == array.shape[1:]
            and array.dtype.kind in "biufc"
            and array.dtype.isnative
        ):
            return None
        return cls(array)

    def read(self, chosen: NDArray[np.int64]) -> NDArray[Any]:
        """Return the values of some samples.

        Args:
            chosen: (sample,), ascending positions, all of one shard.

        Raises:
            OSError: The file cannot be read.
            ValueError: It is cut short, or a chunk differs from its checksum.
        """
        values = np.empty((len(chosen), *self._row_shape), dtype=self._array.dtype)
        if not values.nbytes:
            return values
        rows = values.reshape(len(chosen), -1).view(np.uint8)
        shard = int(chosen[0]) // self._shard
        chunks = chosen // self._chunk
        with self._path(shard).open("rb", buffering=0) as file:
            offsets = self._offsets(file, shard)
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)  # else every sample brings its neighbours
            start = 0
            for end in [*(np.flatnonzero(np.diff(chunks)) + 1).tolist(), len(chosen)]:
                chunk = int(chunks[start])
                offset = int(offsets[chunk % len(offsets)])
                self._read_chunk(file, chunk, offset, chosen[start:end] - chunk * self._chunk, rows[start:end])
                start = end
        return values

    def _read_chunk(
        self, file: FileIO, chunk: int, offset: int, inside: NDArray[np.int64], rows: NDArray[np.uint8]
    ) -> None:
        few = len(inside) * max(self._row_bytes, PAGE) < self._chunk_bytes // 2
        if few and self._compared[chunk]:
            for place, row in zip(inside.tolist(), rows, strict=True):
                _fill(file, row.data, offset + place * self._row_bytes)
            return
        content = np.empty(self._chunk_bytes + CHECKSUM_BYTES, dtype=np.uint8)
        _fill(file, content.data, offset)
        if not self._compared[chunk]:
            _compare(content)
            self._compared[chunk] = True
        rows[:] = content[:-CHECKSUM_BYTES].reshape(self._chunk, self._row_bytes)[inside]

    def _offsets(self, file: FileIO, shard: int) -> NDArray[np.uint64]:
        """Return (chunk,): where each chunk of a shard begins."""
        found = self._begins.get(shard)
        if found is None:
            content = np.empty(index_bytes(self._shard // self._chunk), dtype=np.uint8)
            end = os.fstat(file.fileno()).st_size
            if end < len(content):
                raise ValueError(f"it has {end} bytes, fewer than its index")
            _fill(file, content.data, end - len(content))
            _compare(content)
            found = self._begins[shard] = content[:-CHECKSUM_BYTES].view("<u8").reshape(-1, 2)[:, 0]
        return found

    def _path(self, shard: int) -> Path:
        return self._folder / self._array.metadata.encode_chunk_key((shard, *[0] * len(self._row_shape)))


def _compare(content: NDArray[np.uint8]) -> None:
    if checksum(content[:-CHECKSUM_BYTES]) != content[-CHECKSUM_BYTES:].tobytes():
        raise ValueError("the checksum does not match")


def _fill(file: FileIO, room: memoryview, offset: int) -> None:
    """Fill memory with the bytes of a file from an offset on."""
    if offset == MISSING:
        raise ValueError("a chunk is not there")
    file.seek(offset)
    while room:
        count = file.readinto(room)
        if not count:
            raise ValueError("it is cut short")
        room = room[count:]
