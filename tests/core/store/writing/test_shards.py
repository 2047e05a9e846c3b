"""The shards that are written here against those that zarr writes itself."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from outcrop.errors import ParameterError
from outcrop.store.writing.chunking import Chunking
from outcrop.store.writing.codec import COMPRESSIONS, ChunkCodec, Compression
from outcrop.store.writing.direct import DirectWriter
from outcrop.store.writing.shards import LayerShards, LocalShards, ObjectShards, layer_shards
from outcrop.store.writing.thread import unwritten


def make_array(store: Any, values: NDArray[Any], chunking: Chunking, codec: ChunkCodec) -> "zarr.Array[Any]":
    return zarr.create_array(
        store,
        name="values",
        shape=values.shape,
        chunks=(chunking.chunk, *values.shape[1:]),
        shards=(chunking.shard, *values.shape[1:]),
        dtype=values.dtype,
        compressors=codec.zarr_codecs,
        fill_value=unwritten(values.dtype),
        chunk_key_encoding={"name": "default", "separator": "."},
    )


def write(shards: LayerShards, values: NDArray[Any], start: int, end: int) -> None:
    """Hand over whole shards, or what there is of them, chunk by chunk."""
    chunk = shards.chunking.chunk
    for first in range(start, end, chunk):
        piece = np.full((chunk, *values.shape[1:]), unwritten(values.dtype), dtype=values.dtype)
        rows = values[first : min(first + chunk, end)]
        piece[: len(rows)] = rows
        shards.append(first, [shards.codec.encode(piece)])


def noise(samples: int, *, width: int = 5, dtype: str = "float32") -> NDArray[Any]:
    return np.random.default_rng(samples).normal(size=(samples, width, 2)).astype(dtype)


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (folder / "values").glob("c.*")}


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64", "uint8", "bool"])
def test_zarr_reads_what_was_written(tmp_path: Path, compression: Compression, dtype: str) -> None:
    values = (noise(26) * 10).astype(dtype)
    codec = ChunkCodec(values.dtype, compression)
    array = make_array(tmp_path, values, Chunking(4, 12), codec)
    shards = layer_shards(array, codec)
    write(shards, values, 0, 26)
    shards.seal(26)
    assert np.array_equal(array[:], values)
    assert np.array_equal(array[7:19], values[7:19])
    assert sorted(content(tmp_path)) == ["c.0.0.0", "c.1.0.0", "c.2.0.0"]


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_the_bytes_are_those_that_zarr_writes(tmp_path: Path, compression: Compression) -> None:
    values = noise(26)
    codec = ChunkCodec(values.dtype, compression)
    theirs = make_array(tmp_path / "theirs", values, Chunking(4, 12), codec)
    theirs[:] = values
    ours = layer_shards(make_array(tmp_path / "ours", values, Chunking(4, 12), codec), codec)
    write(ours, values, 0, 26)
    ours.seal(26)
    # Zarr lays the chunks of a shard out in Morton order; along one dimension that is their own.
    assert content(tmp_path / "ours") == content(tmp_path / "theirs")


@settings(max_examples=40, deadline=None)
@given(
    samples=st.integers(1, 40),
    chunk=st.integers(1, 5),
    per_shard=st.integers(1, 4),
    stop=st.integers(0, 40),
    tail=st.integers(0, 12),
    compression=st.sampled_from(COMPRESSIONS),
    published=st.booleans(),
    direct=st.booleans(),
)
def test_a_writer_that_died_is_continued_to_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory,
    samples: int,
    chunk: int,
    per_shard: int,
    stop: int,
    tail: int,
    compression: Compression,
    published: bool,
    direct: bool,
) -> None:
    values = noise(samples, width=1200 if direct else 5)  # chunks beyond a block, which begin anywhere in one
    chunking = Chunking(chunk, chunk * per_shard)
    codec = ChunkCodec(values.dtype, compression)
    writer = DirectWriter(smallest=0 if direct else 1 << 40)
    folder = tmp_path_factory.mktemp("shards")
    whole = layer_shards(make_array(folder / "whole", values, chunking, codec), codec, writer)
    write(whole, values, 0, samples)
    whole.seal(samples)

    array = make_array(folder / "broken", values, chunking, codec)
    stop = min(samples, stop) if stop >= samples else stop - stop % chunk
    dying = layer_shards(array, codec, writer)
    write(dying, values, 0, stop)
    dying.seal(stop)
    sealed = dying.readable(stop)
    if stop < samples:  # what nobody has counted
        write(dying, values, stop, min(samples, stop + tail))
    if published:
        assert layer_shards(array, codec, writer).publish(stop, sealed) == stop
        assert np.array_equal(array[:stop], values[:stop])
    continuing = layer_shards(array, codec, writer)
    assert continuing.restore(stop, sealed) == stop
    write(continuing, values, stop, samples)
    continuing.seal(samples)
    assert content(folder / "broken") == content(folder / "whole")


def test_a_shard_that_is_gone_is_written_again_from_its_beginning(tmp_path: Path) -> None:
    values = noise(40)
    codec = ChunkCodec(values.dtype)
    array = make_array(tmp_path, values, Chunking(2, 8), codec)
    shards = layer_shards(array, codec)
    write(shards, values, 0, 28)
    shards.seal(28)
    (tmp_path / "values" / "c.3.0.0.part").unlink()
    assert layer_shards(array, codec).restore(28, 24) == 24
    (tmp_path / "values" / "c.2.0.0").unlink()
    assert layer_shards(array, codec).restore(28, 8) == 16


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_part_that_was_cut_is_not_taken_for_whole(tmp_path: Path, compression: Compression, direct: bool) -> None:
    values = noise(40)
    codec = ChunkCodec(values.dtype, compression)
    array = make_array(tmp_path, values, Chunking(2, 8), codec)
    write(layer_shards(array, codec, DirectWriter(smallest=0 if direct else 1 << 40)), values, 0, 6)
    part = tmp_path / "values" / "c.0.0.0.part"
    with part.open("rb") as stored:
        sizes = codec.stored_sizes(stored, 3, 2 * 10 * 4)
    assert sizes is not None
    whole = part.read_bytes()[: sum(sizes)]  # zeros may follow
    for length in (len(whole) - 1, len(whole) // 2, 3, 0):
        part.write_bytes(whole[:length])
        assert layer_shards(array, codec).restore(6, 0) == 0


def test_a_shard_is_a_file_like_any_other(tmp_path: Path) -> None:
    values = noise(16)
    codec = ChunkCodec(values.dtype)
    shards = layer_shards(make_array(tmp_path, values, Chunking(2, 8), codec), codec)
    write(shards, values, 0, 16)
    shards.seal(16)
    (tmp_path / "other").write_bytes(b"")
    assert (tmp_path / "values" / "c.0.0.0").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_sealed_shard_whose_name_was_lost_is_found_in_its_part(tmp_path: Path) -> None:
    values = noise(40)
    codec = ChunkCodec(values.dtype)
    array = make_array(tmp_path, values, Chunking(2, 8), codec)
    shards = layer_shards(array, codec)
    write(shards, values, 0, 28)
    shards.seal(28)
    before = content(tmp_path)
    (tmp_path / "values" / "c.1.0.0").rename(tmp_path / "values" / "c.1.0.0.part")
    assert layer_shards(array, codec).restore(28, 24) == 28
    assert content(tmp_path) == before


def test_going_back_opens_a_sealed_shard_again(tmp_path: Path) -> None:
    values = noise(16)
    codec = ChunkCodec(values.dtype)
    array = make_array(tmp_path, values, Chunking(2, 8), codec)
    shards = layer_shards(array, codec)
    write(shards, values, 0, 16)
    shards.seal(16)
    before = content(tmp_path)
    shards = layer_shards(array, codec)
    assert shards.restore(12, 8) == 12
    assert not (tmp_path / "values" / "c.1.0.0").exists()
    write(shards, values, 12, 16)
    shards.seal(16)
    assert content(tmp_path) == before


def test_restoring_takes_away_what_a_killed_process_left(tmp_path: Path) -> None:
    values = noise(16)
    codec = ChunkCodec(values.dtype)
    array = make_array(tmp_path, values, Chunking(2, 8), codec)
    write(layer_shards(array, codec), values, 0, 4)
    (tmp_path / "values" / "zarr.0123.partial").write_bytes(b"half")
    layer_shards(array, codec).restore(0, 0)
    assert [file.name for file in (tmp_path / "values").iterdir()] == ["zarr.json"]


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_shards_of_other_stores_are_the_same_bytes(tmp_path: Path, compression: Compression) -> None:
    values = noise(26)
    codec = ChunkCodec(values.dtype, compression)
    local = layer_shards(make_array(tmp_path, values, Chunking(4, 12), codec), codec)
    store = zarr.storage.MemoryStore()
    remote = layer_shards(make_array(store, values, Chunking(4, 12), codec), codec)
    assert isinstance(local, LocalShards)
    assert isinstance(remote, ObjectShards)
    for shards in (local, remote):
        write(shards, values, 0, 26)
        shards.seal(26)
    stored = {key: value for key, value in store._store_dict.items() if "/c." in key}
    assert {key.removeprefix("values/"): value.to_bytes() for key, value in stored.items()} == content(tmp_path)


def test_other_stores_hold_no_more_than_the_shards_in_flight() -> None:
    values = noise(64)
    codec = ChunkCodec(values.dtype)
    shards = layer_shards(make_array(zarr.storage.MemoryStore(), values, Chunking(4, 8), codec), codec)
    assert isinstance(shards, ObjectShards)
    held = []
    for start in range(0, 64, 4):
        write(shards, values, start, start + 4)
        held.append(sum(map(len, shards._held.values())))
    assert max(held) <= shards.chunk_bytes + 4
    assert shards.readable(20) == 16


def test_a_flipped_bit_does_not_pass(tmp_path: Path) -> None:
    values = noise(16)
    codec = ChunkCodec(values.dtype)
    array = make_array(tmp_path, values, Chunking(2, 8), codec)
    shards = layer_shards(array, codec)
    write(shards, values, 0, 16)
    shards.seal(16)
    file = tmp_path / "values" / "c.1.0.0"
    damaged = bytearray(file.read_bytes())
    damaged[10] ^= 1
    file.write_bytes(damaged)
    assert np.array_equal(array[:8], values[:8])
    with pytest.raises(ValueError, match="checksum"):
        array[8:10]
    assert np.array_equal(array[10:], values[10:])


def test_an_unknown_compression_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"Unknown compression 'gzip'; expected none, zstd, lz4\."):
        ChunkCodec(np.dtype("float32"), "gzip")  # type: ignore[arg-type]


def test_compression_pays_where_many_units_are_silent(tmp_path: Path) -> None:
    values = np.maximum(noise(64, width=512), 0)
    sizes = {}
    for compression in COMPRESSIONS:
        codec = ChunkCodec(values.dtype, compression)
        shards = layer_shards(make_array(tmp_path / compression, values, Chunking(16, 64), codec), codec)
        write(shards, values, 0, 64)
        shards.seal(64)
        sizes[compression] = sum(map(len, content(tmp_path / compression).values()))
    assert sizes["none"] == math.prod(values.shape) * 4 + 4 * 4 + 4 * 16 + 4
    assert sizes["zstd"] < 0.75 * sizes["none"]
