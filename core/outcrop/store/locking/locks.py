"""One writer at a time: a lock file beside a study on disk, a lease in an object store, and a lock in memory."""

import contextlib
import json
import os
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from zarr.abc.store import Store
from zarr.storage import FsspecStore, LocalStore, MemoryStore

from outcrop.errors import StudyError, StudyLockedError
from outcrop.store.locking.leases import Holder, Lease, this_writer

_POLL = 0.5
"""Seconds between attempts."""


def write_lock(store: Store, place: str) -> "WriteLock":
    """Return the lock of a study, as its store allows.

    Args:
        store: Of the study.
        place: The same for messages.
    """
    if isinstance(store, LocalStore):
        return FileWriteLock(store.root, place)
    key = _memory_key(store)
    return LeaseWriteLock(store, place) if key is None else MemoryWriteLock(key, place)


class WriteLock(ABC):
    """The right to write to a study; a thread that has it may take it again.

    Args:
        place: Of the study, for messages.
    """

    def __init__(self, place: str) -> None:
        self.place = place
        self._owner: int | None = None
        self._depth = 0

    @contextlib.contextmanager
    def held(self, wait: float = 0) -> Iterator[None]:
        """Hold the lock.

        Args:
            wait: Seconds to wait for another writer.

        Raises:
            StudyLockedError: Another writer has it, or took it over when it expired.
            StudyError: It cannot be made.
        """
        if self._owner != threading.get_ident():
            self._acquire(wait)
            self._owner = threading.get_ident()
        self._depth += 1
        lost: str | None = None
        try:
            yield
        finally:
            self._depth -= 1
            if self._depth == 0:
                self._owner = None
                lost = self._release()
        # Not in place of an error on the way.
        if lost is not None:
            raise StudyLockedError(
                f"While {self.place} was written, {lost}; another process may have written to it meanwhile. "
                "Run it again: what was not committed is written anew."
            )

    def _acquire(self, wait: float) -> None:
        give_up = time.monotonic() + wait
        while (holder := self._try()) is not None:
            if time.monotonic() >= give_up:
                raise StudyLockedError(
                    f"{_named(holder)} is writing to {self.place}; wait for it to finish, or write to another study."
                )
            time.sleep(min(_POLL, max(0.0, give_up - time.monotonic())))

    @abstractmethod
    def _try(self) -> Holder | None:
        """Take the lock and return None, or return who has it."""

    @abstractmethod
    def _release(self) -> str | None:
        """Give the lock back; return why it had been lost, or None."""


class FileWriteLock(WriteLock):
    """A locked file beside the study, ``.NAME.lock``; the system lets go of it when a process dies.

    Args:
        folder: The study.
        place: The same for messages.
    """

    def __init__(self, folder: Path, place: str) -> None:
        super().__init__(place)
        folder = folder.resolve()
        self._path = folder.with_name(f".{folder.name}.lock")
        self._lock = FileLock(self._path, timeout=0)

    def _try(self) -> Holder | None:
        # Before the attempt: older versions of filelock empty the file.
        holder = self._read()
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            return holder
        except OSError as error:
            raise StudyError(
                f"The study {self.place} cannot be locked: {error.strerror or error}: {self._path}. "
                "A study is written where its folder's parent can be written."
            ) from error
        self._note()
        return None

    def _release(self) -> None:
        self._lock.release()

    def _note(self) -> None:
        """Write down who has the lock; a courtesy to those who wait."""
        with contextlib.suppress(OSError):
            if self._path.read_bytes()[:1] in (b"", b"{"):  # else a marker of filelock's own
                self._path.write_text(json.dumps(this_writer()))

    def _read(self) -> Holder:
        with contextlib.suppress(OSError, ValueError):
            found = json.loads(self._path.read_bytes())
            if isinstance(found, dict):
                return found
        return {}


class LeaseWriteLock(WriteLock):
    """An object in the store of the study.

    Args:
        store: Of the study.
        place: The same for messages.
    """

    def __init__(self, store: Store, place: str) -> None:
        super().__init__(place)
        self._lease = Lease(store)

    def _try(self) -> Holder | None:
        return self._lease.acquire()

    def _release(self) -> str | None:
        return self._lease.release()


class MemoryWriteLock(WriteLock):
    """A lock among the threads of this process, for a study that no other process sees.

    Args:
        key: Of the memory that holds the study.
        place: The same for messages.
    """

    _holders: dict[str, Holder] = {}  # noqa: RUF012 - one for the process, by intent
    _guard = threading.Lock()

    def __init__(self, key: str, place: str) -> None:
        super().__init__(place)
        self._key = key

    def _try(self) -> Holder | None:
        with self._guard:
            holder = self._holders.get(self._key)
            if holder is None:
                self._holders[self._key] = this_writer() | {"thread": threading.current_thread().name}
            return holder

    def _release(self) -> None:
        with self._guard:
            del self._holders[self._key]


def _memory_key(store: Store) -> str | None:
    """Return what tells one study in the memory of this process from another; None for other stores."""
    if isinstance(store, MemoryStore):
        return f"dict {id(store._store_dict)}"
    if isinstance(store, FsspecStore):
        inner: Any = getattr(store.fs, "sync_fs", store.fs)
        return f"memory {store.path.rstrip('/')}" if inner.protocol == "memory" else None
    # What cannot take a lock object away again, such as a zip file, is written by one process.
    return None if store.supports_deletes else f"store {id(store)}"


def _named(holder: Holder) -> str:
    if "thread" in holder:
        return f"Another thread ({holder['thread']}, since {holder['since']})"
    if "process" in holder:
        if holder["process"] == os.getpid() and holder["host"] == socket.gethostname():
            return f"Another part of this process (since {holder['since']})"
        return f"Another process ({holder['process']} on {holder['host']}, since {holder['since']})"
    return "Another process"
