"""A lease on an object store: an object that exists while somebody writes, and that expires if he dies."""

import json
import os
import socket
import time
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Event
from typing import Any, Protocol

from zarr.abc.store import Store
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import FsspecStore, ObjectStore

KEY = ".outcrop-lock"
DURATION = 120.0
"""Seconds after which a lease that was not renewed may be taken over; clocks must agree to a fraction of it."""

Holder = dict[str, Any]


def this_writer() -> Holder:
    """Return who is writing, for those who wait."""
    return {
        "process": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }


class Lease:
    """One writer's claim on a study in a store that is not a local folder.

    The object is created under the condition that it does not exist, and replaced under the condition that it has not
    changed, where the store can say so (all that obstore opens); elsewhere it is read back after it is written.

    Args:
        store: Of the study.
        duration: Seconds.
    """

    def __init__(self, store: Store, *, duration: float = DURATION) -> None:
        self._object: _LeaseObject = _ObstoreObject(store) if isinstance(store, ObjectStore) else _ZarrObject(store)
        self._duration = duration
        self._token = uuid.uuid4().hex
        self._holder: Holder = {}
        self._stop = Event()
        self._thread: ThreadPoolExecutor | None = None
        self._renewing: Future[bool] | None = None

    def acquire(self) -> Holder | None:
        """Take the lease, and return None; or return who has it."""
        self._holder = this_writer()
        if not self._object.create(self._content()):
            found = self._object.read()
            if found is None:
                return {}  # given back this moment; whoever asks again may get it
            holder, tag = found
            expired = time.time() - holder.get("renewed", 0.0) > holder.get("duration", self._duration)
            if not expired or not self._object.replace(self._content(), tag):
                return holder
        self._stop = Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="outcrop-lease")
        self._renewing = self._thread.submit(self._renew)
        return None

    def release(self) -> str | None:
        """Give the lease back; return why it had been lost, or None."""
        assert self._thread is not None
        assert self._renewing is not None
        self._stop.set()
        self._thread.shutdown(wait=True)
        error = self._renewing.exception()
        found = self._object.read()
        if found is not None and found[0].get("token") == self._token:
            self._object.delete()
            return None
        return f"its lock could not be renewed: {error}" if error else "its lock had expired and was taken over"

    def _renew(self) -> bool:
        """Renew until asked to stop; return whether the lease was still there."""
        while not self._stop.wait(self._duration / 4):
            found = self._object.read()
            if found is None or found[0].get("token") != self._token:
                return False
            if not self._object.replace(self._content(), found[1]):
                return False
        return True

    def _content(self) -> bytes:
        claim = {"token": self._token, "renewed": time.time(), "duration": self._duration}
        return json.dumps(self._holder | claim).encode()


class _LeaseObject(Protocol):
    def create(self, content: bytes) -> bool: ...

    def read(self) -> tuple[Holder, Any] | None: ...

    def replace(self, content: bytes, tag: Any) -> bool: ...

    def delete(self) -> None: ...


class _ObstoreObject:
    """With conditional writes."""

    def __init__(self, store: "ObjectStore[Any]") -> None:
        self._store = store.store

    def create(self, content: bytes) -> bool:
        import obstore

        try:
            obstore.put(self._store, KEY, content, mode="create")
        except obstore.exceptions.AlreadyExistsError:
            return False
        return True

    def read(self) -> tuple[Holder, Any] | None:
        import obstore

        try:
            found = obstore.get(self._store, KEY)
        except FileNotFoundError:
            return None
        # Some stores tell versions by an etag, others by a number.
        tag = {name: value for name, value in found.meta.items() if name in ("e_tag", "version") and value}
        return _parse(bytes(found.bytes())), tag

    def replace(self, content: bytes, tag: Any) -> bool:
        import obstore

        try:
            obstore.put(self._store, KEY, content, mode=tag)
        except (obstore.exceptions.PreconditionError, FileNotFoundError):
            return False
        except (obstore.exceptions.NotSupportedError, NotImplementedError):
            obstore.put(self._store, KEY, content)
        return True

    def delete(self) -> None:
        import obstore

        obstore.delete(self._store, KEY)


class _ZarrObject:
    """With what every zarr store can: what was written is read back."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def create(self, content: bytes) -> bool:
        if isinstance(self._store, FsspecStore):
            path = f"{self._store.path.rstrip('/')}/{KEY}"
            try:
                # File systems that cannot write conditionally ignore the mode or look before they write.
                sync(self._store.fs._pipe_file(path, content, mode="create"))
            except FileExistsError:
                return False
        else:
            sync(self._store.set_if_not_exists(KEY, default_buffer_prototype().buffer.from_bytes(content)))
        return self._is(content)

    def read(self) -> tuple[Holder, str] | None:
        found = sync(self._store.get(KEY, default_buffer_prototype()))
        if found is None:
            return None
        content = found.to_bytes()
        return _parse(content), content.decode(errors="replace")

    def replace(self, content: bytes, tag: str) -> bool:
        found = self.read()
        if found is None or found[1] != tag:
            return False
        sync(self._store.set(KEY, default_buffer_prototype().buffer.from_bytes(content)))
        return self._is(content)

    def delete(self) -> None:
        sync(self._store.delete(KEY))

    def _is(self, content: bytes) -> bool:
        found = self.read()
        return found is not None and found[1].encode() == content


def _parse(content: bytes) -> Holder:
    try:
        found = json.loads(content)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {}
