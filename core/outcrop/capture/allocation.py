"""Keep freed memory at hand while a network runs again and again.

The C library asks the system for every large tensor anew and returns it at once: each activation costs page faults,
for convolutional networks on a CPU a third of a forward pass. While memory is kept, a tensor takes the place of an
earlier one; afterwards what is free goes back to the system.
"""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import RLock
from typing import Any

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -3, -4, -8  # of mallopt, <malloc.h>
_NEVER = (1 << 31) - 1
_USUAL_MMAP_MAX = 65_536
# What glibc itself arrives at once a process has freed a large block (DEFAULT_MMAP_THRESHOLD_MAX, and twice that).
_USUAL_MMAP_THRESHOLD, _USUAL_TRIM_THRESHOLD = 32 << 20, 64 << 20

_CHOSEN_BY_USER = (
    "MALLOC_ARENA_MAX",
    "MALLOC_MMAP_MAX_",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TOP_PAD_",
    "MALLOC_TRIM_THRESHOLD_",
)

# Of the kind that one thread may take twice: a generator left open may be collected, and end its context, meanwhile.
_lock = RLock()
_keeping: list[int | None] = []


@contextmanager
def kept_memory(*, largest: int | None = None) -> Iterator[None]:
    """Let large tensors take the memory of earlier ones; contexts may overlap.

    Holds for the whole process, and changes nothing but speed: on the main thread, what is held at most is what the
    network needs at most. Other threads would have memory of their own each, in pieces of 64 MiB, which large tensors
    fill badly; where they run networks, give a limit: threads that begin afterwards share the main thread's. Does
    nothing where the C library is not glibc, and where the environment says how it is to allocate.

    Args:
        largest: Bytes from which a block is given back at once all the same; of several limits, the least holds.
    """
    libc = _glibc()
    if libc is None:
        yield
        return
    with _lock:
        _keeping.append(largest)
        _tell(libc)
    try:
        yield
    finally:
        with _lock:
            _keeping.remove(largest)
            _tell(libc)
            if not _keeping:
                libc.malloc_trim(0)


def _tell(libc: Any) -> None:
    """Tell the C library what all contexts that are open ask for together."""
    limits = [largest for largest in _keeping if largest is not None]
    keep_all = bool(_keeping) and not limits
    libc.mallopt(_ARENA_MAX, 1 if limits else 0)  # 0: as many as it likes
    libc.mallopt(_MMAP_MAX, 0 if keep_all else _USUAL_MMAP_MAX)
    libc.mallopt(_MMAP_THRESHOLD, min(limits, default=_USUAL_MMAP_THRESHOLD))
    libc.mallopt(_TRIM_THRESHOLD, _NEVER if _keeping else _USUAL_TRIM_THRESHOLD)


@cache
def _glibc() -> Any | None:
    """Return the C library, where it can be told how to allocate and nobody else has told it."""
    if sys.platform != "linux" or any(name in os.environ for name in _CHOSEN_BY_USER):
        return None
    libc = ctypes.CDLL(None)
    told = "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
    return libc if hasattr(libc, "gnu_get_libc_version") and not told else None
