"""Progress of long work: what a task reports, and a display that shows nothing."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[int], None]


class Progress(Protocol):
    """Opens a task of a known number of steps; the task's ``advance(steps)`` is called as they are done."""

    def __call__(self, description: str, total: int, *, unit: str = "samples") -> AbstractContextManager[Advance]:
        """Return a context manager whose value advances the task."""
        ...


@contextmanager
def silent(description: str, total: int, *, unit: str = "samples") -> Iterator[Advance]:  # noqa: ARG001 - the protocol's
    """Show nothing; the default outside the command line."""
    yield lambda _steps: None
