"""Run several models at the same time, or layers of a stored one, each on a share of the processor's cores.

A model alone on all cores loses time wherever its threads wait for one another: at every small operation, in Python,
and while values are read. Models side by side do not wait, nor do layers that need nothing of one another. What
accumulators take, they take on one thread and in the same order as ever.
"""

import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from threading import Event
from typing import Any, NamedTuple, TypeGuard

import numpy as np
from numpy.typing import NDArray

from outcrop.capture.accumulator import Accumulator, ReducingAccumulator
from outcrop.capture.allocation import kept_memory
from outcrop.capture.numpy_threads import numpy_threads
from outcrop.capture.source import FORWARD_BYTES, ActivationSource, Visit, bytes_per_sample
from outcrop.errors import AnalysisError
from outcrop.models.model import Layer

MOST_AT_ONCE = 4
"""Models, or parts of one, that run at the same time, each of which holds a batch of activations."""

BUDGET = 1 << 29
"""Bytes that reduced layers may hold until it is their turn."""

AHEAD = 2
"""Groups that a model may be ahead of what accumulators have taken."""

LARGEST_KEPT = 20 << 20
"""Bytes from which a tensor's memory is given back at once: of several networks', few large ones are used again."""

IMBALANCE = 1.25
"""How much more than its share of the work the largest model may be, as the others' cores would wait for it."""

Groups = Iterator[tuple[NDArray[np.int64], Visit]]


class _Reduced(NamedTuple):
    """What one model has given for one group: the samples, and for each layer one result for each accumulator."""

    sample_index: NDArray[np.int64]
    layers: list[tuple[Layer, list[Any]]]


def sources_at_once(sources: Sequence[ActivationSource], accumulators: Sequence[Accumulator], group_size: int) -> int:
    """Return how many sources to run at the same time; 1 where one after the other is right, or faster.

    Args:
        sources: One per model, or the parts of one.
        accumulators: All that are fed.
        group_size: Samples of a group.
    """
    if len(sources) < 2 or not all_reduce(accumulators) or not _apart(sources) or not _plain_surroundings():
        return 1
    import torch

    count = min(len(sources), torch.get_num_threads(), MOST_AT_ONCE)
    held = sum(
        accumulator.reduced_bytes(layer, group_size)
        for accumulator in accumulators
        for source in sources
        for layer in source.layers
    )
    work = [sum(map(bytes_per_sample, source.layers)) for source in sources]
    # What one network alone is allowed, several share.
    largest = sorted((max(map(bytes_per_sample, source.layers), default=0) for source in sources), reverse=True)
    while count > 1 and group_size * sum(largest[:count]) > FORWARD_BYTES:
        count -= 1
    return 1 if (AHEAD + 1) * held > BUDGET or count * max(work) > IMBALANCE * sum(work) else count


def side_by_side(
    sources: Sequence[ActivationSource], accumulators: Sequence[Accumulator], group_size: int
) -> tuple[Sequence[ActivationSource], int]:
    """Return the sources to visit, and how many of them at the same time; one model is split where it can be.

    Args:
        sources: One per model.
        accumulators: All that are fed.
        group_size: Samples of a group.
    """
    import torch

    if len(sources) == 1:
        parts = sources[0].split(min(torch.get_num_threads(), MOST_AT_ONCE))
        at_once = sources_at_once(parts, accumulators, group_size)
        if at_once > 1:
            return parts, at_once
    return sources, sources_at_once(sources, accumulators, group_size)


def all_reduce(accumulators: Sequence[Accumulator]) -> TypeGuard[Sequence[ReducingAccumulator]]:
    """Return whether accumulators can be fed while other models run."""
    return all(isinstance(accumulator, ReducingAccumulator) for accumulator in accumulators)


def _apart(sources: Sequence[ActivationSource]) -> bool:
    """Return whether no source uses what another one does."""
    used = [source.uses() for source in sources]
    known = [parts for parts in used if parts is not None]
    return len(known) == len(used) and len(frozenset().union(*known)) == sum(map(len, known))


def _plain_surroundings() -> bool:
    """Return whether what surrounds the calling thread changes nothing that other threads would not see."""
    import torch
    from torch.overrides import _get_current_function_mode
    from torch.utils._python_dispatch import _get_current_dispatch_mode

    modes = (_get_current_function_mode(), _get_current_dispatch_mode())  # type: ignore[no-untyped-call] # torch's are untyped
    # Autocast and modes are each thread's own. The precision of products is the whole process's, and Gram matrices
    # raise it for as long as they are made: a network beside them would run at another precision each time.
    lowered = torch.is_autocast_enabled("cpu") or torch.get_float32_matmul_precision() != "highest"
    return not lowered and modes == (None, None)


def visit_together(
    sources: Sequence[ActivationSource],
    streams: Sequence[Groups],
    accumulators: Sequence[ReducingAccumulator],
    *,
    at_once: int,
    advance: Callable[[int], None],
) -> None:
    """Feed accumulators with all groups of all sources, some of these at a time.

    Args:
        sources: One per model, or the parts of one.
        streams: Their groups.
        accumulators: What the values are reduced to.
        at_once: How many run at the same time.
        advance: Called with the number of samples that models have seen, each for itself.

    Raises:
        AnalysisError: A model gives fewer groups than the others.
    """
    models = len({source.name for source in sources})
    with (
        kept_memory(largest=LARGEST_KEPT),
        _reducers(at_once) as pool,
        closing(_rounds(sources, streams, accumulators, pool)) as rounds,
    ):
        for together in rounds:
            for source, (sample_index, layers) in zip(sources, together, strict=True):
                for layer, reduced in layers:
                    for accumulator, one in zip(accumulators, reduced, strict=True):
                        accumulator.take(source.name, layer, sample_index, one)
            for accumulator in accumulators:
                accumulator.end_batch()
            advance(models * len(together[0].sample_index))


def _rounds(
    sources: Sequence[ActivationSource],
    streams: Sequence[Groups],
    accumulators: Sequence[ReducingAccumulator],
    pool: ThreadPoolExecutor,
) -> Generator[tuple[_Reduced, ...]]:
    """Yield what all models have given for one group after the other, while the next groups are under way."""
    ready: list[deque[_Reduced | None]] = [deque() for _ in sources]
    running: dict[Future[_Reduced | None], int] = {}
    stop = Event()
    try:
        while True:
            for place, (source, groups) in enumerate(zip(sources, streams, strict=True)):
                # One task of a model at a time: its groups come one after the other.
                if place not in running.values() and len(ready[place]) < AHEAD and None not in ready[place]:
                    running[pool.submit(_reduce_group, source, groups, accumulators, stop)] = place
            if all(ready):
                first = [results.popleft() for results in ready]
                together = tuple(one for one in first if one is not None)
                if len(together) == len(first):
                    yield together
                    continue
                if together:
                    ended = sources[first.index(None)].name
                    raise AnalysisError(
                        f"Model {ended!r} gave fewer groups of samples than the others; all models must be given the "
                        "same samples."
                    )
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                found = future.result()
                ready[running.pop(future)].append(found)
    finally:
        stop.set()
        _wait_for_running(running)


class _Stopped(BaseException):
    """Ends a forward pass whose values nobody waits for; no Exception, so that a network does not swallow it."""


def _reduce_group(
    source: ActivationSource, groups: Groups, accumulators: Sequence[ReducingAccumulator], stop: Event
) -> _Reduced | None:
    """Return what one model gives for its next group; None where there is none."""
    following = next(groups, None)
    if following is None:
        return None
    sample_index, visit = following
    layers: list[tuple[Layer, list[Any]]] = []

    def reduce(layer: Layer, values: Any) -> None:
        if stop.is_set():
            raise _Stopped
        layers.append((layer, [one.reduce(source.name, layer, sample_index, values) for one in accumulators]))

    visit(reduce)
    return _Reduced(sample_index, layers)


def _wait_for_running(futures: Iterable[Future[Any]]) -> None:
    """Cancel what has not begun and wait for the rest; what threads are in cannot be closed before.

    An impatient user's second interrupt is raised afterwards.
    """
    begun = [future for future in futures if not future.cancel()]
    try:
        wait(begun)
    except KeyboardInterrupt:
        wait(begun)
        raise


@contextmanager
def _reducers(at_once: int) -> Generator[ThreadPoolExecutor]:
    """Give some threads, each of which has its share of what one operation runs on."""
    import torch

    from outcrop.models.module_hooks import uncompiled

    threads = torch.get_num_threads()
    share = max(1, threads // at_once)
    pool = ThreadPoolExecutor(at_once, "outcrop-model", initializer=torch.set_num_threads, initargs=(share,))
    compiler = "torch._dynamo" in sys.modules
    # Every visit sets and resets for the whole process what is compiled: this one comes first and goes last.
    with uncompiled(), numpy_threads(share):
        try:
            # The calling thread works while the others do. Set last, since later threads take over what was set last.
            torch.set_num_threads(1)
            yield pool
        finally:
            try:
                pool.shutdown(cancel_futures=True)
            finally:
                torch.set_num_threads(threads)
                if not compiler and "torch._dynamo" in sys.modules:
                    # A network has imported it, and what visits that overlap have reset may be what another one set.
                    torch.compiler.set_stance("default")
