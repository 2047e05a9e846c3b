"""Files that are there whole or not at all."""

import hashlib
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from outcrop.errors import ZooError
from outcrop_zoo.files import sha256, write_atomically


@contextmanager
def _largest_file(size: int) -> Iterator[None]:
    """Let the system refuse to write more, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_is_written_into_a_new_folder(tmp_path: Path) -> None:
    path = tmp_path / "new" / "net.onnx"
    write_atomically(path, b"content")
    assert path.read_bytes() == b"content"
    assert [one.name for one in path.parent.iterdir()] == ["net.onnx"]
    assert sha256(path) == hashlib.sha256(b"content").hexdigest()


def test_a_full_disk_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"before")
    with (
        pytest.raises(ZooError, match=r"net.onnx could not be written \(File too large\); what was there is untouched"),
        _largest_file(1000),
    ):
        write_atomically(path, bytes(2000))
    assert path.read_bytes() == b"before"
    assert [one.name for one in tmp_path.iterdir()] == ["net.onnx"]


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ZooError, match=r"could not be written \(Not a directory\).* Make room, or choose another fold"):
        write_atomically(tmp_path / "file" / "folder" / "net.onnx", b"")
