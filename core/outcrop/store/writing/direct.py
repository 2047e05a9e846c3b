"""Write files past the page cache, where the system can.

What nobody reads next is of no use in the cache, and filling its pages takes the processor several times as long as
handing the same bytes to the disk: time that the network would need.
"""

import errno
import mmap
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

BLOCK = 4096
"""What direct writes begin and end at, in the file and in memory: the page, of which any disk's sector is a part."""

SMALLEST = 1 << 20
"""Less is left to the system, which gathers many small writes into few: a direct one waits for the disk."""

_ROOM = 8 << 20


class DirectWriter:
    """Writes bytes into files, one call after another; by the page cache where the file system allows nothing else.

    Args:
        smallest: Bytes below which a write goes through the page cache.
        room: Bytes that are handed to the disk at a time, a multiple of a block; allocated once.
    """

    def __init__(self, *, smallest: int = SMALLEST, room: int = _ROOM) -> None:
        assert room % BLOCK == 0
        self._smallest = smallest if hasattr(os, "O_DIRECT") else None
        self._size = room
        self._room: mmap.mmap | None = None

    def write(self, path: Path, offset: int, pieces: Sequence[Any]) -> None:
        """Write pieces one behind the other, from an offset that is not beyond the end of the file.

        Up to a block of zeros may follow what was written; whoever wrote last cuts them off.

        Raises:
            OSError: As writing does.
        """
        views = [np.frombuffer(memoryview(piece).cast("B"), dtype=np.uint8) for piece in pieces]
        if self._smallest is not None and sum(map(len, views)) >= self._smallest:
            try:
                self._write_directly(path, offset, views)
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                    raise
                self._smallest = None  # some file systems refuse when opening, others when writing
            else:
                return
        _write_through_cache(path, offset, views)

    def _write_directly(self, path: Path, offset: int, views: Sequence[np.ndarray[Any, np.dtype[np.uint8]]]) -> None:
        if self._room is None:
            self._room = mmap.mmap(-1, self._size)  # begins at a page
        room = np.frombuffer(self._room, dtype=np.uint8)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_DIRECT, 0o666)
        try:
            position, filled = offset - offset % BLOCK, offset % BLOCK
            if filled:
                # The block that the write begins in is written anew, with what stands in it; behind the end, zeros.
                room[:filled] = 0
                os.preadv(descriptor, [memoryview(self._room)[:BLOCK]], position)
            for view in views:
                taken = 0
                while taken < len(view):
                    count = min(len(view) - taken, self._size - filled)
                    room[filled : filled + count] = view[taken : taken + count]
                    taken, filled = taken + count, filled + count
                    if filled == self._size:
                        _write_all(descriptor, memoryview(self._room), position)
                        position, filled = position + filled, 0
            if filled:
                end = -(-filled // BLOCK) * BLOCK
                room[filled:end] = 0
                _write_all(descriptor, memoryview(self._room)[:end], position)
        finally:
            os.close(descriptor)


def _write_through_cache(path: Path, offset: int, views: Sequence[np.ndarray[Any, np.dtype[np.uint8]]]) -> None:
    flags = os.O_WRONLY | os.O_CREAT | getattr(os, "O_BINARY", 0)
    with open(os.open(path, flags, 0o666), "wb") as stored:  # as open() would make it, not executable
        stored.seek(offset)
        for view in views:
            stored.write(view.data)


def _write_all(descriptor: int, content: memoryview, position: int) -> None:
    while content:
        written = os.pwrite(descriptor, content, position)
        content, position = content[written:], position + written
