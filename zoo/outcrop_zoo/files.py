"""Files that are there whole or not at all, and their hashes."""

import hashlib
import os
from pathlib import Path

from outcrop.errors import ZooError


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file in one step: until all of it is on the disk, what was there stays.

    Raises:
        ZooError: The disk is full, or refuses.
    """
    partial = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_bytes(content)
            os.replace(partial, path)
        finally:
            if partial.is_file():
                partial.unlink()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ZooError(
            f"{path} could not be written ({reason}); what was there is untouched. Make room, or choose another folder."
        ) from error


def sha256(path: Path) -> str:
    """Return the hash of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
