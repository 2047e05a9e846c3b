"""A function over many positions, on a few threads."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from outcrop.progress import Advance

Value = TypeVar("Value")

MOST_WORKERS = 8
POSITIONS_A_TASK = 64


def worker_count() -> int:
    """Return how many threads may decode at once: one for each core that this process may use, at most eight."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MOST_WORKERS)


def map_in_threads(
    function: Callable[[int], Value], positions: Sequence[int], *, advance: Advance | None = None
) -> list[Value]:
    """Return ``function`` of every position, in their order; the first error in that order is raised."""

    def run(start: int) -> list[Value]:
        return [function(position) for position in positions[start : start + POSITIONS_A_TASK]]

    values: list[Value] = []
    pool = ThreadPoolExecutor(worker_count(), thread_name_prefix="outcrop-read")
    try:
        for part in pool.map(run, range(0, len(positions), POSITIONS_A_TASK)):
            values.extend(part)
            if advance is not None:
                advance(len(part))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return values
