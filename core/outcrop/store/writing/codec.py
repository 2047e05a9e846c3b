"""Chunks and shards as zarr stores them: each chunk with its checksum, behind them the index that finds them.

The format is zarr's sharding codec with the index at the end. Written here and not by zarr because a shard grows chunk
by chunk in a file, while zarr encodes whole shards in memory.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import google_crc32c
import numcodecs  # type: ignore[import-untyped] # ships no types
import numpy as np
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec

from outcrop.errors import ParameterError

Compression = Literal["none", "zstd", "lz4"]
COMPRESSIONS: tuple[Compression, ...] = get_args(Compression)

CHECKSUM_BYTES = 4
MISSING = int(np.iinfo(np.uint64).max)
"""Where a chunk begins that a shard lacks."""

_LEVEL = 3
_BLOSC_HEADER = 16  # the length of what follows stands in its last four bytes


@dataclass(frozen=True)
class ChunkCodec:
    """How one chunk of an array becomes bytes.

    Args:
        dtype: Of the values.
        compression: ``none``, ``zstd`` or ``lz4``; the latter two with shuffled bytes, through Blosc.

    Raises:
        ParameterError: The compression is unknown.
    """

    dtype: np.dtype[Any]
    compression: Compression = "none"

    def __post_init__(self) -> None:
        if self.compression not in COMPRESSIONS:
            raise ParameterError(f"Unknown compression {self.compression!r}; expected {', '.join(COMPRESSIONS)}.")

    @property
    def zarr_codecs(self) -> list[Any]:
        """The same as codecs of zarr, for the metadata of an array."""
        if self.compression == "none":
            return [Crc32cCodec()]
        blosc = BloscCodec(
            typesize=self.dtype.itemsize, cname=self.compression, clevel=_LEVEL, shuffle="shuffle", blocksize=0
        )
        return [blosc, Crc32cCodec()]

    @cached_property
    def _blosc(self) -> Any:
        return numcodecs.Blosc(cname=self.compression, clevel=_LEVEL, shuffle=numcodecs.Blosc.SHUFFLE, blocksize=0)

    def encode(self, values: NDArray[Any]) -> list[Any]:
        """Return the bytes of one chunk, in pieces that follow each other: content and checksum."""
        content = values.reshape(-1) if self.compression == "none" else self._blosc.encode(values.reshape(-1))
        # Little-endian machines only: zarr's default codec keeps their order of bytes.
        return [content, checksum(content)]

    def stored_sizes(self, stored: Any, count: int, chunk_bytes: int) -> list[int] | None:
        """Return the sizes of the first chunks in a file that holds them one after the other.

        Args:
            stored: The file, opened to read.
            count: How many chunks it should hold.
            chunk_bytes: Bytes of a chunk in memory.

        Returns:
            Bytes of each chunk with its checksum; None where the file is too short.
        """
        length = stored.seek(0, 2)
        if self.compression == "none":
            size = chunk_bytes + CHECKSUM_BYTES
            return [size] * count if length >= size * count else None
        sizes: list[int] = []
        offset = 0
        for _ in range(count):
            if offset + _BLOSC_HEADER > length:
                return None
            stored.seek(offset)
            size = struct.unpack("<I", stored.read(_BLOSC_HEADER)[-4:])[0] + CHECKSUM_BYTES
            sizes.append(size)
            offset += size
        return sizes if offset <= length else None


def checksum(content: Any) -> bytes:
    """Return the CRC-32C of bytes, as zarr appends it."""
    view = content.view(np.uint8) if isinstance(content, np.ndarray) else content
    return struct.pack("<I", google_crc32c.value(view))


def shard_index(sizes: Sequence[int], chunks: int) -> bytes:
    """Return the index of a shard: offset and length of each chunk, then the checksum of the index.

    Args:
        sizes: Bytes of the chunks that are there, which follow each other from the beginning of the shard.
        chunks: Chunks that a whole shard has; the last shard of an array may lack some.
    """
    index = np.full((chunks, 2), MISSING, dtype="<u8")
    index[: len(sizes), 0] = np.concatenate([[0], np.cumsum(sizes[:-1], dtype=np.uint64)]) if sizes else []
    index[: len(sizes), 1] = sizes
    content = index.tobytes()
    return content + checksum(content)


def index_bytes(chunks: int) -> int:
    """Return the bytes that the index of a shard takes."""
    return 16 * chunks + CHECKSUM_BYTES
