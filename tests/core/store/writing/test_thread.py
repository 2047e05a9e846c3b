"""Writing beside the network: memory stays bounded, errors come through, and nobody is left waiting."""

import signal
import time
from collections.abc import Mapping
from pathlib import Path
from threading import Event, Thread, main_thread
from typing import Any

import numpy as np
import pytest
import torch
import zarr

from outcrop.store.writing.buffers import BufferPool
from outcrop.store.writing.codec import ChunkCodec
from outcrop.store.writing.shards import LayerShards, LocalShards, layer_shards
from outcrop.store.writing.thread import ShardWriter, unwritten

FLOAT = np.dtype("float32")
MEGABYTE = 1 << 20


class Ledger:
    """Remembers what was committed, as the ledger does."""

    def __init__(self) -> None:
        self.samples: list[int] = []
        self.non_finite: Mapping[str, int] = {}

    def __call__(self, samples: int, non_finite: Mapping[str, int]) -> None:
        self.samples.append(samples)
        self.non_finite = non_finite


def make_shards(folder: Path, *, samples: int, width: int, chunk: int, shard: int) -> LayerShards:
    array = zarr.create_array(
        folder,
        name="values",
        shape=(samples, width),
        chunks=(chunk, width),
        shards=(shard, width),
        dtype=FLOAT,
        compressors=ChunkCodec(FLOAT).zarr_codecs,
        fill_value=unwritten(FLOAT),
        chunk_key_encoding={"name": "default", "separator": "."},
    )
    return layer_shards(array, ChunkCodec(FLOAT))


def test_buffers_are_used_again_and_those_of_other_sizes_make_room() -> None:
    pool = BufferPool(MEGABYTE)
    first = pool.take(MEGABYTE // 2)
    pool.give(first)
    assert pool.take(MEGABYTE // 2 - 100) is first
    pool.give(first)
    assert len(pool.take(MEGABYTE)) == MEGABYTE


def test_whoever_asks_for_more_than_the_budget_waits_for_all_other_buffers() -> None:
    pool = BufferPool(MEGABYTE)
    small = pool.take(1000)
    taken = Event()

    def take() -> None:
        pool.take(8 * MEGABYTE)
        taken.set()

    waiting = Thread(target=take, daemon=True)
    waiting.start()
    assert not taken.wait(0.05)
    pool.give(small)
    assert taken.wait(10)


def test_values_larger_than_the_budget_are_written_in_pieces(tmp_path: Path) -> None:
    shards = make_shards(tmp_path, samples=24, width=1000, chunk=2, shard=16)
    values = torch.randn(24, 1000)
    values[3, 5] = torch.nan
    ledger = Ledger()
    with ShardWriter({"a": shards}, ledger, budget=20_000) as writer:
        for start in (0, 16):
            writer.put("a", start, values[start : start + 16].T.contiguous().T, FLOAT)
            writer.commit(min(24, start + 16))
    shards.seal(24)
    assert ledger.samples == [16, 24]
    assert ledger.non_finite == {"a": 1}
    stored: Any = zarr.open_array(tmp_path, path="values", mode="r")[:]
    assert np.array_equal(stored, values.numpy(), equal_nan=True)


def test_an_error_while_writing_reaches_who_waits_for_memory_and_nothing_more_is_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = make_shards(tmp_path, samples=64, width=1000, chunk=1, shard=8)
    append = LocalShards._append

    def failing(self: LocalShards, shard: int, offset: int, pieces: Any) -> None:
        if shard == 2:
            time.sleep(0.05)  # until the budget is used up
            raise OSError(5, "Input/output error")
        append(self, shard, offset, pieces)

    monkeypatch.setattr(LocalShards, "_append", failing)
    ledger = Ledger()

    def write() -> None:
        with ShardWriter({"a": shards}, ledger, budget=20_000) as writer:
            for start in range(0, 64, 8):
                writer.put("a", start, torch.zeros(8, 1000), FLOAT)
                writer.commit(start + 8)

    with pytest.raises(OSError, match="Input/output error"):
        write()
    assert ledger.samples == [8, 16]


def test_what_was_put_before_an_error_elsewhere_still_counts(tmp_path: Path) -> None:
    shards = make_shards(tmp_path, samples=16, width=10, chunk=1, shard=8)
    ledger = Ledger()

    def write() -> None:
        with ShardWriter({"a": shards}, ledger) as writer:
            writer.put("a", 0, torch.zeros(8, 10), FLOAT)
            writer.commit(8)
            raise ValueError("of the network")

    with pytest.raises(ValueError, match="of the network"):
        write()
    assert ledger.samples == [8]


def test_who_interrupts_again_while_the_last_batches_are_written_waits_for_the_one_in_hand() -> None:
    leaving = Event()
    committed = []

    def commit(samples: int, _: Mapping[str, int]) -> None:
        leaving.wait(10)
        time.sleep(0.1)
        signal.pthread_kill(main_thread().ident or 0, signal.SIGINT)
        time.sleep(0.2)
        committed.append(samples)

    def write() -> None:
        with ShardWriter({}, commit) as writer:
            writer.commit(8)
            writer.commit(16)
            leaving.set()

    with pytest.raises(KeyboardInterrupt):
        write()
    assert committed == [8]
