"""Stream the layers of several models, in step, through accumulators."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from outcrop.capture.accumulator import Accumulator
from outcrop.capture.numpy_threads import numpy_threads
from outcrop.capture.parallel import all_reduce, side_by_side, visit_together
from outcrop.capture.source import ActivationSource
from outcrop.errors import AnalysisError
from outcrop.models.model import Layer
from outcrop.progress import Progress, silent


def stream(
    sources: Sequence[ActivationSource],
    accumulators: Sequence[Accumulator],
    *,
    order: Callable[[int], NDArray[np.int64]],
    batch_size: int,
    progress: Progress = silent,
) -> None:
    """Feed accumulators until none needs another pass.

    Accumulators take every group of samples from all sources before the next group, so that they can compare models
    while holding one group only. Models that have nothing in common may run at the same time, where all accumulators
    are of the kind that allows it.

    Args:
        sources: One per model.
        accumulators: What the values are reduced to.
        order: Sample order of a pass, by its index.
        batch_size: Samples of a group; the last group has what remains.
        progress: Where to report.

    Raises:
        AnalysisError: An accumulator asks for groups of another size.
    """
    for accumulator in accumulators:
        if accumulator.group_size not in (None, batch_size):
            raise AnalysisError(
                f"{type(accumulator).__name__} takes groups of {accumulator.group_size} samples; "
                f"the stream was asked for {batch_size}. Ask for the same number."
            )
    passes = 0
    wanting = list(accumulators)
    import torch

    with numpy_threads(torch.get_num_threads()):
        while wanting:
            _one_pass(sources, wanting, order(passes), passes, batch_size, progress)
            passes += 1
            wanting = [accumulator for accumulator in wanting if accumulator.needs_pass()]


def _one_pass(
    sources: Sequence[ActivationSource],
    accumulators: Sequence[Accumulator],
    order: NDArray[np.int64],
    index: int,
    batch_size: int,
    progress: Progress,
) -> None:
    names = ", ".join(source.name for source in sources)
    for accumulator in accumulators:
        accumulator.begin_pass(index)
    with progress(f"{names} (pass {index + 1})" if index else names, len(order) * len(sources)) as advance:
        visited, at_once = side_by_side(sources, accumulators, batch_size)
        streams = [source.groups(order, batch_size) for source in visited]
        try:
            if at_once > 1 and all_reduce(accumulators):
                visit_together(visited, streams, accumulators, at_once=at_once, advance=advance)
                return
            for together in zip(*streams, strict=True):
                for source, (sample_index, visit) in zip(sources, together, strict=True):
                    visit(_feeder(source.name, sample_index, accumulators))
                    advance(len(sample_index))
                for accumulator in accumulators:
                    accumulator.end_batch()
        finally:
            # Closing ends the threads that prefetch batches, also when an accumulator raises.
            for groups in streams:
                close = getattr(groups, "close", None)
                if close is not None:
                    close()


def _feeder(
    model: str, sample_index: NDArray[np.int64], accumulators: Sequence[Accumulator]
) -> "Callable[[Layer, object], None]":
    def feed(layer: Layer, values: object) -> None:
        for accumulator in accumulators:
            accumulator.update(model, layer, sample_index, values)  # type: ignore[arg-type] # a Tensor, unnamed here to spare the import

    return feed
