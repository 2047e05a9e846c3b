"""What a capture will take, before it begins: layers, files, bytes, memory and time. Nothing is written."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from outcrop.capture.source import LiveSource, bytes_per_sample, forward_batch_size
from outcrop.models.model import Layer, Model
from outcrop.store.layout import is_remote
from outcrop.store.planning.space import free_bytes, stored_samples
from outcrop.store.writing.chunking import REMOTE_BUDGET, plan_chunking
from outcrop.store.writing.shards import shard_bytes
from outcrop.store.writing.thread import WRITE_BUDGET

if TYPE_CHECKING:
    from torch import Tensor

    from outcrop.capture.reduction import Reduction
    from outcrop.data.dataset import Data

MEASURED_SAMPLES = 16
"""Samples of the batch that is timed."""


@dataclass(frozen=True)
class LayerForecast:
    """What one layer takes.

    Attributes:
        model: Name.
        layer: As it is stored.
        bytes_per_sample: Of its values.
        stored_bytes: Of all samples in the store, with checksums, uncompressed.
        chunks: Number of chunks, each of which is read as a whole.
        shards: Number of files.
        chunk_samples: Samples of a chunk.
        shard_samples: Samples of a file.
        present: Samples that the study already holds.
    """

    model: str
    layer: Layer
    bytes_per_sample: int
    stored_bytes: int
    chunks: int
    shards: int
    chunk_samples: int
    shard_samples: int
    present: int


@dataclass(frozen=True)
class Timing:
    """One warm batch through the chosen layers of a model.

    Attributes:
        model: Name.
        samples: Samples of the batch.
        forward: Seconds a sample, of the forward pass and of copying the values out of it.
        reading: Seconds a sample, of reading and preprocessing; done while the network computes.
        device: Where the network ran.
        threads: Threads of torch.
    """

    model: str
    samples: int
    forward: float
    reading: float
    device: str
    threads: int

    @property
    def rate(self) -> float:
        """Samples a second, where the slower of the two decides."""
        return 1 / max(self.forward, self.reading, 1e-9)


@dataclass(frozen=True)
class Forecast:
    """What a capture of several models takes.

    Attributes:
        samples: Number of samples.
        layers: Of all models.
        timings: One for each model.
        free: Bytes that are free where the study is or will be; None for a URL, or where no study is named.
        memory: Bytes of values that outcrop holds at most, beside the networks.
    """

    samples: int
    layers: tuple[LayerForecast, ...]
    timings: tuple[Timing, ...]
    free: int | None
    memory: int

    @property
    def stored_bytes(self) -> int:
        """Bytes of all layers in the store."""
        return sum(layer.stored_bytes for layer in self.layers)

    @property
    def present_bytes(self) -> int:
        """Bytes of values that the study already holds."""
        return sum(layer.bytes_per_sample * layer.present for layer in self.layers)

    @property
    def needed_bytes(self) -> int:
        """Bytes that are still to be written."""
        return max(0, self.stored_bytes - self.present_bytes)

    @property
    def files(self) -> int:
        """Number of files that hold values."""
        return sum(layer.shards for layer in self.layers)

    @property
    def fits(self) -> bool:
        """Whether what is to be written fits on the disk."""
        return self.free is None or self.needed_bytes <= self.free

    @property
    def seconds(self) -> float:
        """Seconds that the forward passes will take, for the samples that are not yet stored."""
        return sum(self._left(timing.model) / timing.rate for timing in self.timings)

    def _left(self, model: str) -> int:
        return self.samples - min((layer.present for layer in self.layers if layer.model == model), default=0)


def forecast(
    chosen: "Sequence[tuple[Model, Sequence[Layer]]]",
    data: "Data",
    *,
    location: str | None = None,
    batch_size: int = 64,
    reduction: "Reduction | None" = None,
) -> Forecast:
    """Return what a capture of some layers of models over data takes.

    Args:
        chosen: Models, and their layers as they are computed.
        data: What they see.
        location: Of the study, which need not be there yet.
        batch_size: Samples of a forward pass.
        reduction: What is made of the values of each layer.

    Raises:
        StudyError: Something else than a study is there.
        InputError: The samples do not fit a model.
    """
    found: list[LayerForecast] = []
    memory = 0
    for model, layers in chosen:
        stored = tuple(layers if reduction is None else map(reduction.reduced, layers))
        present: dict[str, int] = {}
        if location is not None:
            description = "none" if reduction is None else reduction.description
            present = stored_samples(location, model, stored, data, batch_size=batch_size, reduction=description)
        found += _layers(model, stored, len(data), batch_size, location, present)
        memory = max(memory, _memory(model, stored, min(batch_size, len(data)), location))
    timings = [
        measure(model, tuple(layers), data, batch_size=batch_size, reduction=reduction) for model, layers in chosen
    ]
    free = None if location is None else free_bytes(location)
    return Forecast(len(data), tuple(found), tuple(timings), free, memory)


def measure(
    model: Model,
    layers: tuple[Layer, ...],
    data: "Data",
    *,
    batch_size: int = 64,
    reduction: "Reduction | None" = None,
) -> Timing:
    """Return the time of a small batch through layers of a model, after one that has warmed it up.

    Raises:
        InputError: The samples do not fit the model.
    """
    import torch

    count = model.batch_size or min(batch_size, len(data), MEASURED_SAMPLES)
    order = np.arange(min(count, len(data)), dtype=np.int64)
    source = LiveSource(model, layers, data, reduction=reduction)

    def take(_: Layer, values: "Tensor") -> None:
        values.to("cpu", copy=True)

    forward = reading = math.inf
    for _ in range(2):
        began = time.perf_counter()
        for _, visit in source.groups(order, count):
            read = time.perf_counter()
            visit(take)
            forward, reading = time.perf_counter() - read, read - began
    samples = len(order)
    return Timing(model.name, samples, forward / samples, reading / samples, model.device, torch.get_num_threads())


def _layers(
    model: Model,
    layers: Sequence[Layer],
    samples: int,
    batch_size: int,
    location: str | None,
    present: dict[str, int],
) -> list[LayerForecast]:
    local = location is None or not is_remote(location)
    chunkings = plan_chunking(layers, samples=samples, batch=min(batch_size, samples), local=local)
    found = []
    for layer in layers:
        chunking, size = chunkings[layer.name], bytes_per_sample(layer)
        chunks, shards = math.ceil(samples / chunking.chunk), math.ceil(samples / chunking.shard)
        # The index of a shard has a place for every chunk that it could hold.
        index = shards * shard_bytes(chunking.shard // chunking.chunk, 0) - shards * 4 * (
            chunking.shard // chunking.chunk
        )
        stored = chunks * (chunking.chunk * size + 4) + index
        found.append(
            LayerForecast(
                model.name,
                layer,
                size,
                stored,
                chunks,
                shards,
                chunking.chunk,
                chunking.shard,
                present.get(layer.name, 0),
            )
        )
    return found


def _memory(model: Model, layers: Sequence[Layer], batch: int, location: str | None) -> int:
    """Return the bytes of values that wait: to be gathered into a batch, to be written, and for a shard to be whole."""
    size = sum(map(bytes_per_sample, layers))
    gathered = size * batch if forward_batch_size(model, batch) < batch else 0
    shards = REMOTE_BUDGET if location is not None and is_remote(location) else 0
    return min(WRITE_BUDGET, 2 * size * batch) + gathered + shards
