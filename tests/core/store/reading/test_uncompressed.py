"""Single samples out of uncompressed shards: the same values as zarr's, few bytes, and no damage that passes."""

from collections.abc import Sequence
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec, ShardingCodec
from zarr.storage import MemoryStore

from outcrop.store.reading import uncompressed
from outcrop.store.reading.uncompressed import UncompressedShards

SAMPLES, CHUNK, SHARD = 50, 4, 16


def stored(
    path: Any, values: np.ndarray, codecs: Sequence[Any] = (), *, chunk: int = CHUNK, index: str = "end"
) -> "zarr.Array[Any]":
    """Write values as zarr itself does, in shards of whole samples."""
    inner = [*codecs, Crc32cCodec()] if codecs is not None else []
    array = zarr.create_array(
        path, shape=values.shape, dtype=values.dtype, chunks=(chunk, *values.shape[1:]),
        shards={"shape": (SHARD, *values.shape[1:]), "index_location": index},  # type: ignore[arg-type] # as documented
        compressors=inner, fill_value=0,
    )  # fmt: skip
    array[:] = values
    return array


def some(shape: tuple[int, ...] = (3, 2), dtype: str = "f4") -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 200, size=(SAMPLES, *shape)).astype(dtype)


def reader(array: "zarr.Array[Any]") -> UncompressedShards:
    found = UncompressedShards.of(array)
    assert found is not None
    return found


@pytest.mark.parametrize("shape", [(), (5,), (3, 2)])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i8", "u1", "?", "c8"])
def test_samples_are_those_that_zarr_reads(tmp_path: Path, shape: tuple[int, ...], dtype: str) -> None:
    values = some(shape, dtype)
    alone = reader(stored(tmp_path, values))
    rng = np.random.default_rng(0)
    for _ in range(12):  # first with checksums, then without
        shard = int(rng.integers(0, 1 + (SAMPLES - 1) // SHARD))
        places = np.arange(shard * SHARD, min((shard + 1) * SHARD, SAMPLES))
        chosen = np.sort(rng.choice(places, rng.integers(1, 21)))
        found = alone.read(chosen)
        assert found.dtype == values.dtype
        np.testing.assert_array_equal(found, values[chosen])


def test_a_chunk_is_read_whole_once_and_samples_alone_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = some((8192,))
    sizes: list[int] = []
    fill = uncompressed._fill

    def counting(file: FileIO, room: memoryview, offset: int) -> None:
        sizes.append(room.nbytes)
        fill(file, room, offset)

    alone = reader(stored(tmp_path, values))
    monkeypatch.setattr(uncompressed, "_fill", counting)
    chosen = np.array([1, 9])
    row = 4 * 8192
    alone.read(chosen)
    assert sizes == [16 * SHARD // CHUNK + 4, CHUNK * row + 4, CHUNK * row + 4]
    sizes.clear()
    np.testing.assert_array_equal(alone.read(chosen), values[chosen])
    assert sizes == [row, row]
    sizes.clear()
    np.testing.assert_array_equal(alone.read(np.array([8, 9, 10])), values[[8, 9, 10]])
    assert sizes == [CHUNK * row + 4], "most of a chunk is read in one piece"


def test_what_is_stored_otherwise_is_left_to_zarr(tmp_path: Path) -> None:
    values = some((3,))
    assert UncompressedShards.of(stored(MemoryStore(), values)) is None
    assert UncompressedShards.of(stored(tmp_path / "packed", values, [BloscCodec()])) is None
    assert UncompressedShards.of(stored(tmp_path / "first", values, index="start")) is None
    plain = zarr.create_array(tmp_path / "plain", shape=(4, 3), chunks=(2, 3), dtype="f4")
    assert UncompressedShards.of(plain) is None
    columns = zarr.create_array(
        tmp_path / "columns", shape=(4, 4), chunks=(2, 2), shards=(4, 4), dtype="f4", compressors=[Crc32cCodec()]
    )
    assert isinstance(columns.metadata.codecs[0], ShardingCodec)  # type: ignore[union-attr] # of format 3
    assert UncompressedShards.of(columns) is None


def damaged(tmp_path: Path, change: Any) -> UncompressedShards:
    alone = reader(stored(tmp_path, some((8192,))))
    file = tmp_path / "c" / "0" / "0"
    file.write_bytes(change(file.read_bytes()))
    return alone


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda content: content[:20], "it has 20 bytes, fewer than its index"),
        (lambda content: content[:1000], "the checksum does not match"),
        (lambda content: content[:-9] + b"\x07" + content[-8:], "the checksum does not match"),
        (lambda content: b"\x07" + content[1:], "the checksum does not match"),
    ],
    ids=["tiny", "short", "index", "chunk"],
)
def test_damage_is_found(tmp_path: Path, change: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        damaged(tmp_path, change).read(np.array([0, 2]))


def test_a_file_that_shrinks_after_its_index_was_read_is_cut_short(tmp_path: Path) -> None:
    alone = reader(stored(tmp_path, some((8192,))))
    alone.read(np.array([0, 13]))
    file = tmp_path / "c" / "0" / "0"
    file.write_bytes(file.read_bytes()[:10_000])
    with pytest.raises(ValueError, match="it is cut short"):
        alone.read(np.array([0, 13]))


def test_a_chunk_that_was_never_written_is_no_value(tmp_path: Path) -> None:
    values = some((3,))
    values[4:8] = 0  # zarr leaves out what equals the fill value
    alone = reader(stored(tmp_path, values))
    with pytest.raises(ValueError, match="a chunk is not there"):
        alone.read(np.array([3, 5]))


def test_no_values_at_all_need_no_file(tmp_path: Path) -> None:
    alone = reader(stored(tmp_path, some((3,))))
    alone._row_shape, alone._row_bytes = (0,), 0
    assert alone.read(np.array([1, 2])).shape == (2, 0)
