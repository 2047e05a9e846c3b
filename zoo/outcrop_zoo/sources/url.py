"""Files from the web: continued after a cut, compared with their sha256, and put in place only when they are whole."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pooch
from filelock import FileLock

from outcrop.errors import OutcropError, ZooError
from outcrop.progress import Progress, silent
from outcrop_zoo.files import sha256 as file_sha256
from outcrop_zoo.sources.transfer import Transfer


def fetch(
    url: str, target: Path, *, sha256: str | None = None, size: int | None = None, progress: Progress = silent
) -> Path:
    """Return the path of a file of the web, which is fetched unless it is there already.

    What has come is kept in ``TARGET.part`` until all of it is there and has the right hash; only then does it take
    the name of the target, in one step. A fetch that was cut or killed goes on where it stopped, where the server
    allows it. A file of the target's name stays untouched until the new one is whole.

    Args:
        url: http or https.
        target: Where the file goes; its folder is made.
        sha256: Of the file, in hexadecimal. Without it the file is fetched anew each time, and only its length is
            compared with what the server says.
        size: Bytes of the file.
        progress: Told of bytes.

    Raises:
        ModelNotFoundError: The server does not answer, does not have the file, or was cut off again and again.
        ZooError: The file at the address is another one, or the disk is full or refuses.
    """
    # Before anything is written: a cache that is there for reading only serves what it holds.
    if sha256 is not None and target.is_file() and file_sha256(target) == sha256:
        return target
    try:
        return _fetch(url, target, sha256, size, progress)
    except OutcropError:
        raise
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ZooError(
            f"{url} could not be kept in {target.parent} ({reason}). Make room there, or let OUTCROP_CACHE name "
            "another folder; the same command goes on with what came."
        ) from error


def _fetch(url: str, target: Path, sha256: str | None, size: int | None, progress: Progress) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_name(target.name + ".lock")):
        partial = target.with_name(target.name + ".part")
        if sha256 is None:
            # What came of an unknown file another time may belong to another version of it.
            partial.unlink(missing_ok=True)
            target.unlink(missing_ok=True)
        elif target.is_file() and file_sha256(target) == sha256:  # by another process meanwhile
            return target
        continued = partial.exists()
        try:
            _retrieve(url, target, sha256, Transfer(partial, size=size, checked=sha256 is not None, progress=progress))
        except ZooError:
            if not continued or partial.exists():
                raise
            # The beginning may have been that of another version: once more, from the start.
            _retrieve(url, target, sha256, Transfer(partial, size=size, progress=progress))
    return target


def _retrieve(url: str, target: Path, sha256: str | None, transfer: Transfer) -> None:
    """Have pooch fetch, compare and move a file.

    Raises:
        ModelNotFoundError: It could not be fetched.
        ZooError: Its hash is another one; what came is removed.
    """
    try:
        with _quiet():
            pooch.retrieve(
                url,
                known_hash=None if sha256 is None else f"sha256:{sha256}",
                fname=target.name,
                path=target.parent,
                downloader=transfer,
            )
    except OutcropError:
        raise
    except ValueError as error:  # pooch's, of a wrong hash
        raise ZooError(
            f"The file at {url} is not the one on its card: sha256 {transfer.sha256}, expected {sha256}. What came was "
            "removed; ask the card's author for a new card, or check the network for a proxy that changes files."
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep pooch from announcing what the progress bar shows."""
    logger = pooch.get_logger()
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)
