"""The objects (files, where the study is a folder) that a study consists of, by key, in any store."""

import asyncio
from collections.abc import Iterable

import zarr
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from outcrop.models.model import Layer
from outcrop.store.layout import escape, layer_id
from outcrop.store.ledger import CaptureRecord

METADATA = "zarr.json"
"""Name of the object that makes a zarr group or array of a prefix."""

_AT_ONCE = 32


class Objects:
    """Reads, writes and removes objects below the root of a study.

    Args:
        root: Of the study; keys are relative to it.
    """

    def __init__(self, root: zarr.Group) -> None:
        self._store = root.store
        self._prefix = f"{root.path}/" if root.path else ""

    def sizes(self, prefix: str = "") -> dict[str, int]:
        """Return the bytes of every object below a prefix, by key, in order."""
        return dict(sorted(sync(self._sizes(prefix)).items()))

    def read(self, key: str) -> bytes | None:
        """Return an object's content, or None where there is none."""
        found = sync(self._store.get(self._prefix + key, default_buffer_prototype()))
        return None if found is None else found.to_bytes()

    def write(self, key: str, content: bytes) -> None:
        """Store an object; it is there as a whole or not at all."""
        sync(self._store.set(self._prefix + key, default_buffer_prototype().buffer.from_bytes(content)))

    def remove(self, keys: Iterable[str]) -> None:
        """Remove objects one after the other, in the order given."""
        for key in keys:
            sync(self._store.delete(self._prefix + key))

    def remove_below(self, prefix: str) -> None:
        """Remove everything below a prefix, and the folder that it is on a disk."""
        sync(self._store.delete_dir(self._prefix + prefix))

    async def _sizes(self, prefix: str) -> dict[str, int]:
        limit = asyncio.Semaphore(_AT_ONCE)
        # With a slash at the end, or an object store lists the neighbours whose names begin alike.
        place = f"{self._prefix}{prefix}".rstrip("/")
        keys = [key async for key in self._store.list_prefix(f"{place}/" if place else "")]

        async def size(key: str) -> tuple[str, int] | None:
            async with limit:
                try:
                    return key.removeprefix(self._prefix), await self._store.getsize(key)
                except FileNotFoundError:
                    return None  # a writer's temporary file, gone since it was listed

        return dict(found for found in await asyncio.gather(*map(size, keys)) if found is not None)


def metadata_first(keys: Iterable[str]) -> list[str]:
    """Return the metadata objects among keys, from the top down: removed in this order, nothing is seen by half."""
    return sorted((key for key in keys if is_metadata(key)), key=lambda key: (key.count("/"), key))


def is_metadata(key: str) -> bool:
    """Return whether an object makes a group or an array of its prefix."""
    return key.rpartition("/")[2] == METADATA


def layer_folders(record: CaptureRecord, folders: Iterable[str]) -> dict[str, Layer]:
    """Return the layers of a capture by the names of their groups, in topological order.

    Args:
        record: Of the capture.
        folders: Names of the groups that are there.
    """
    there = set(folders)
    return {
        layer_id(layer.name) if layer_id(layer.name) in there else escape(layer.name): layer for layer in record.layers
    }
