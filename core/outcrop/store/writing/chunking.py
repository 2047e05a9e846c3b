"""How the samples of a layer are cut into chunks, which are read one by one, and shards, which are files."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from outcrop.capture.source import bytes_per_sample
from outcrop.models.model import Layer

CHUNK_BYTES = 1 << 20
"""What a chunk aims at: a few samples of a large layer, or a whole batch of a small one."""

SHARD_BYTES = 32 << 20
"""What a shard aims at: a layer of a terabyte becomes tens of thousands of files, one of a gigabyte some thirty."""

REMOTE_BUDGET = 512 << 20
"""Bytes of all shards that wait in memory for their last chunk, where a store takes whole objects only."""

REMOTE_SHARD_BYTES = 64 << 20
"""What the largest of them may take: what is in no whole shard is lost with the process."""

_MOST_BATCHES = 1024  # of one shard: each is a chunk at least, which costs the reader some work of its own


@dataclass(frozen=True)
class Chunking:
    """Samples of a chunk and of a shard.

    A chunk divides the batch, and either the batch divides the shard or the shard the batch; so a batch ends where a
    chunk ends, and a shard where a batch or another shard of the same batch ends.

    Attributes:
        chunk: Samples of a chunk.
        shard: Samples of a shard, a multiple of the chunk.
    """

    chunk: int
    shard: int


def choose_chunking(
    row_bytes: int, *, batch: int, samples: int, chunk_bytes: int = CHUNK_BYTES, shard_bytes: int = SHARD_BYTES
) -> Chunking:
    """Return the chunking of a layer.

    Args:
        row_bytes: Bytes of one sample.
        batch: Samples that are written at a time.
        samples: All there are.
        chunk_bytes: Size that a chunk aims at.
        shard_bytes: Size that a shard aims at.
    """
    batch = min(batch, samples)
    row_bytes = max(1, row_bytes)
    divisors = _divisors(batch)
    chunk = _nearest(divisors, chunk_bytes / row_bytes)
    whole_batches = shard_bytes // (row_bytes * batch)
    if whole_batches:
        return Chunking(chunk, batch * min(whole_batches, math.ceil(samples / batch), _MOST_BATCHES))
    return Chunking(chunk, _nearest((size for size in divisors if size % chunk == 0), shard_bytes / row_bytes))


def plan_chunking(layers: Sequence[Layer], *, samples: int, batch: int, local: bool) -> dict[str, Chunking]:
    """Return the chunking of layers that are written together.

    Where a store takes whole objects only, all layers share the samples of a shard, and open shards fit a budget.
    """
    sizes = {layer.name: bytes_per_sample(layer) for layer in layers}
    if local:
        return {name: choose_chunking(size, batch=batch, samples=samples) for name, size in sizes.items()}
    rows = min(batch, samples)
    batches = REMOTE_BUDGET // max(1, sum(sizes.values()) * rows)
    if batches:
        # A few small layers alone would not fill the budget for a long time.
        batches = min(batches, max(1, REMOTE_SHARD_BYTES // max(1, max(sizes.values()) * rows)))
    chunkings = {}
    for name, size in sizes.items():
        found = choose_chunking(size, batch=batch, samples=samples, shard_bytes=1 << 62)
        if batches:
            shard = min(found.shard, rows * batches)
        else:
            # With less than a batch for each, shards end within the batch: only one is held at a time.
            fitting = (
                part for part in _divisors(rows) if part % found.chunk == 0 and part * size <= REMOTE_SHARD_BYTES
            )
            shard = max(fitting, default=found.chunk)
        chunkings[name] = Chunking(found.chunk, shard)
    return chunkings


def _divisors(number: int) -> list[int]:
    return [size for size in range(1, number + 1) if number % size == 0]


def _nearest(sizes: Iterable[int], wanted: float) -> int:
    return min(sizes, key=lambda size: abs(math.log(size / wanted)))
