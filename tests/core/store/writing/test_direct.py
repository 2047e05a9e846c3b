"""Writing past the page cache against plain writing."""

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outcrop.store.writing.direct import BLOCK, DirectWriter

SIZES = st.integers(0, 5 * BLOCK)


def noise(size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8)


@settings(max_examples=60, deadline=None)
@given(writes=st.lists(st.lists(SIZES, max_size=4), max_size=5), smallest=st.integers(0, 2 * BLOCK))
def test_what_is_appended_stands_in_the_file(
    tmp_path_factory: pytest.TempPathFactory, writes: list[list[int]], smallest: int
) -> None:
    # Direct writes of any length, mixed with writes through the cache, by a writer with room for two blocks.
    writer = DirectWriter(smallest=smallest, room=2 * BLOCK)
    file = tmp_path_factory.mktemp("direct") / "file"
    file.touch()
    expected = b""
    for sizes in writes:
        pieces = [noise(size) for size in sizes]
        writer.write(file, len(expected), pieces)
        expected += b"".join(piece.tobytes() for piece in pieces)
    content = file.read_bytes()
    assert content[: len(expected)] == expected
    assert not any(content[len(expected) :])
    assert len(content) - len(expected) < BLOCK


def test_pieces_are_any_contiguous_memory(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(300, 7)).astype(np.float32)
    DirectWriter(smallest=0).write(tmp_path / "file", 0, [values.reshape(-1), b"1234", bytearray(b"56"), b""])
    assert (tmp_path / "file").read_bytes()[: values.nbytes + 6] == values.tobytes() + b"123456"


def test_a_file_that_ends_within_a_block_is_continued(tmp_path: Path) -> None:
    # As it is after a resume has cut what nobody counts.
    file = tmp_path / "file"
    file.write_bytes(noise(3 * BLOCK + 17).tobytes())
    os.truncate(file, BLOCK + 5)
    DirectWriter(smallest=0).write(file, BLOCK + 5, [b"x" * 10])
    assert file.read_bytes()[: BLOCK + 15] == noise(3 * BLOCK + 17).tobytes()[: BLOCK + 5] + b"x" * 10


@pytest.mark.parametrize("smallest", [0, BLOCK])
def test_behind_the_end_stand_zeros_and_nothing_of_an_earlier_file(tmp_path: Path, smallest: int) -> None:
    writer = DirectWriter(smallest=smallest)
    writer.write(tmp_path / "earlier", 0, [b"\xff" * (2 * BLOCK)])
    (tmp_path / "file").write_bytes(b"abc")
    writer.write(tmp_path / "file", 10, [b"xyz"])
    assert (tmp_path / "file").read_bytes().rstrip(b"\0") == b"abc" + b"\0" * 7 + b"xyz"


@pytest.mark.parametrize("step", ["open", "pwrite"])
@pytest.mark.parametrize("code", [errno.EINVAL, errno.EOPNOTSUPP])
def test_a_file_system_that_refuses_is_written_to_through_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, code: int
) -> None:
    refusals: list[int] = []
    function = getattr(os, step)

    def refuse(*arguments: Any, **keywords: Any) -> Any:
        if step == "pwrite" or arguments[1] & getattr(os, "O_DIRECT", 0):
            refusals.append(code)
            raise OSError(code, os.strerror(code))
        return function(*arguments, **keywords)

    monkeypatch.setattr(os, step, refuse)
    writer = DirectWriter(smallest=0)
    for offset in (0, 5000):
        writer.write(tmp_path / "file", offset, [noise(5000)])
    assert (tmp_path / "file").read_bytes() == noise(5000).tobytes() * 2
    assert len(refusals) == 1


def test_other_errors_are_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space left on device"):
        DirectWriter(smallest=0).write(tmp_path / "file", 0, [b"1"])
    with pytest.raises(FileNotFoundError, match="No such file or directory"):
        DirectWriter(smallest=0).write(tmp_path / "none" / "file", 0, [b"1"])


def test_a_system_without_direct_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "O_DIRECT", raising=False)
    DirectWriter(smallest=0).write(tmp_path / "file", 0, [b"12", b"3"])
    assert (tmp_path / "file").read_bytes() == b"123"


def test_a_disk_that_takes_part_of_a_write_gets_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, content, position: write(file, content[:BLOCK], position))
    DirectWriter(smallest=0).write(tmp_path / "file", 0, [noise(3 * BLOCK)])
    assert (tmp_path / "file").read_bytes() == noise(3 * BLOCK).tobytes()
