"""Samples as batches for a model, decoded ahead on a few threads."""

from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from threading import Event, Lock
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from outcrop.data.dataset import Batch, Data
from outcrop.data.selection import checked_positions
from outcrop.data.threads import worker_count
from outcrop.errors import InputError, ParameterError

if TYPE_CHECKING:
    from outcrop.models.model import InputSpec, Model

_adding = Lock()
_turns: WeakKeyDictionary[Data, Lock] = WeakKeyDictionary()

Inputs = dict[str, torch.Tensor]
Unstacked = dict[str, torch.Tensor | NDArray[Any]]
"""One sample by input name; arrays may be the data's own memory, which only stacking copies."""


def batches(data: Data, model: "Model", *, batch_size: int, order: NDArray[np.int64] | None = None) -> Iterator[Batch]:
    """Return all samples, or those of ``order``, as batches that fit a model; the last may be smaller.

    Images go through the model's preprocessing, whatever their size; arrays become tensors of the type that the
    input has; of named arrays the model's inputs are taken and others left out. While one batch is in use the next
    is prepared, no more; closing the iterator ends all threads.

    Args:
        data: The samples.
        model: What they are for.
        batch_size: Samples a batch.
        order: Positions in the data; may repeat and leave out.

    Raises:
        ParameterError: A batch size below 1, or a position that does not exist. Raised here.
        InputError: Samples do not fit the model, or one another. Raised by the iterator, as the next two are.
        DataReadError: A sample cannot be read.
    """
    if batch_size < 1:
        raise ParameterError(f"The batch size is {batch_size}; expected at least 1.")
    positions = np.arange(len(data)) if order is None else np.asarray(order)
    if positions.ndim != 1 or (positions.size and positions.dtype.kind not in "iu"):
        raise ParameterError(
            f"The order of samples is {positions.dtype} of shape {positions.shape}; expected a list of positions."
        )
    return _generate(data, model, batch_size, checked_positions(positions, len(data), f"data {data.name!r}"))


def _generate(data: Data, model: "Model", batch_size: int, order: NDArray[np.int64]) -> Iterator[Batch]:
    workers = worker_count() if data.concurrent else 1
    # Batches of one sample are prepared further ahead, so that all threads have work.
    ahead = max(1, -(-2 * workers // batch_size))
    stop = Event()
    pending: deque[Future[Batch]] = deque()
    latest: Inputs = {}
    pool = ThreadPoolExecutor(workers, thread_name_prefix="outcrop-data")
    try:
        for start in range(0, len(order), batch_size):
            group = order[start : start + batch_size]
            parts = np.array_split(group, min(workers, len(group)))
            prepared = [pool.submit(_prepare, data, model, part, stop) for part in parts]
            # Starts behind its parts, so that it waits for none that has no thread.
            pending.append(pool.submit(_collect, data, model, group, prepared, _rooms(latest, len(group))))
            if len(pending) > ahead:
                batch = pending.popleft().result()
                latest = {name: values.new_empty((0, *values.shape[1:])) for name, values in batch.inputs.items()}
                yield batch
        while pending:
            yield pending.popleft().result()
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


def _prepare(data: Data, model: "Model", positions: NDArray[np.int64], stop: Event) -> list[Unstacked]:
    samples: list[Unstacked] = []
    for position in map(int, positions):
        if stop.is_set():
            break
        with _turn_to_read(data):
            sample = data.read(position)
        samples.append(_inputs(sample, data, position, model))
    return samples


def _turn_to_read(data: Data) -> AbstractContextManager[object]:
    """Return what several streams of one data set hold while they read, where it is read by one thread at a time."""
    if data.concurrent:
        return nullcontext()
    with _adding:
        return _turns.setdefault(data, Lock())


def _rooms(latest: Inputs, count: int) -> Inputs:
    """Return memory for a batch like the latest one.

    Taken by the thread that uses batches, as most C libraries give memory of threads that end, or of any but the
    first, back to the system each time.
    """
    return {name: values.new_empty((count, *values.shape[1:])) for name, values in latest.items()}


def _collect(
    data: Data, model: "Model", group: NDArray[np.int64], futures: list[Future[list[Unstacked]]], rooms: Inputs
) -> Batch:
    samples = [sample for future in futures for sample in future.result()]
    specs = {spec.name: spec for spec in model.inputs}
    stacked: Inputs = {}
    for name, first in samples[0].items():
        values = [sample[name] for sample in samples]
        for position, value in zip(group.tolist(), values, strict=True):
            if value.shape != first.shape:
                raise InputError(
                    f"Samples of data {data.name!r} differ in shape and cannot be one batch: "
                    f"{data.sample_ids[int(group[0])]!r} is {tuple(first.shape)}, "
                    f"{data.sample_ids[position]!r} is {tuple(value.shape)}. "
                    f"Bring them to one shape (resize, crop, pad), or use a batch size of 1."
                )
        stacked[name] = _stack(values, rooms.get(name)).to(_dtype(specs[name]))
    model.check_inputs(stacked)
    return Batch(group, stacked)


def _stack(values: "list[torch.Tensor | NDArray[Any]]", room: torch.Tensor | None) -> torch.Tensor:
    """Return samples of one shape as one tensor, in the room where it has their form."""
    if room is not None and room.shape != (len(values), *values[0].shape):
        room = None
    if isinstance(values[0], torch.Tensor):
        fits = room is not None and room.dtype == values[0].dtype
        with torch.no_grad():
            return torch.stack(values, out=room if fits else None)  # type: ignore[arg-type] # all of them are
    if room is not None and room.dtype != torch.bfloat16 and room.numpy().dtype == values[0].dtype:
        np.stack(values, out=room.numpy())
        return room
    return torch.from_numpy(np.stack(values))


def _inputs(sample: Any, data: Data, position: int, model: "Model") -> Unstacked:
    """Return one sample by input name, without the sample dimension."""
    if isinstance(sample, Image.Image):
        if model.preprocessing is None:
            raise InputError(
                f"Sample {data.sample_ids[position]!r} of data {data.name!r} is an image, and model {model.name!r} has "
                f"no preprocessing of images; give it arrays of floats (sample, channel, y, x), prepared as it expects."
            )
        spec = model.inputs[0]
        return {spec.name: model.preprocessing.transform(sample).to(_dtype(spec))}
    if not isinstance(sample, Mapping):
        return {model.inputs[0].name: _array(sample, model.inputs[0], data, position)}
    missing = [spec.name for spec in model.inputs if spec.name not in sample]
    if missing:
        raise InputError(
            f"Model {model.name!r} takes {', '.join(spec.name for spec in model.inputs)}; "
            f"data {data.name!r} offers {', '.join(sample)}, without {', '.join(missing)}."
        )
    return {spec.name: _array(sample[spec.name], spec, data, position) for spec in model.inputs}


def _array(array: NDArray[Any], spec: "InputSpec", data: Data, position: int) -> NDArray[Any]:
    """Return an array in the type of an input, or in float32 for one that numpy lacks; its own memory where it can."""
    dtype = _dtype(spec)
    if array.dtype.kind == "f" and not dtype.is_floating_point:
        raise InputError(
            f"Input {spec.name!r} takes {spec.dtype}; sample {data.sample_ids[position]!r} of data {data.name!r} is "
            f"{array.dtype}, which would lose its fractions. Convert it first, if they are whole numbers."
        )
    through = np.dtype(np.float32) if dtype is torch.bfloat16 else np.dtype(spec.dtype)
    # What overflows becomes infinite and is counted later, by layer.
    with np.errstate(over="ignore"):
        return np.asarray(array, dtype=through)


def _dtype(spec: "InputSpec") -> torch.dtype:
    dtype = getattr(torch, spec.dtype, None)
    if not isinstance(dtype, torch.dtype):
        raise InputError(f"Input {spec.name!r} takes {spec.dtype!r}; expected a numeric type such as 'float32'.")
    return dtype
