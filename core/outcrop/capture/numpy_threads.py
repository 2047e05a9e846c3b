"""Hold numpy's products to as many threads as torch's have, which are set apart from them."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock
from typing import Any

# Of the kind that one thread may take twice: a generator left open may be collected, and end its context, meanwhile.
_lock = RLock()
_limits: list[int] = []
_before: list[tuple[Any, int]] = []


@contextmanager
def numpy_threads(limit: int) -> Iterator[None]:
    """Let the BLAS of numpy and scipy run on so many threads at most, in the whole process; contexts may overlap.

    Of several limits the least holds; the last one to end brings back what was before the first.
    """
    with _lock:
        if not _limits:
            from threadpoolctl import ThreadpoolController

            libraries = ThreadpoolController().select(user_api="blas").lib_controllers
            _before[:] = [(library, library.num_threads) for library in libraries]
        _limits.append(limit)
        _apply()
    try:
        yield
    finally:
        with _lock:
            _limits.remove(limit)
            _apply()


def numpy_has_one_thread() -> bool:
    """Return whether a context holds numpy's products to one thread."""
    return 1 in _limits


def _apply() -> None:
    for library, usual in _before:
        library.set_num_threads(min([usual, *_limits]))
