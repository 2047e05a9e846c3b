"""One file on its way over HTTP, as pooch calls it: what came survives a cut, and the rest is asked for."""

import hashlib
import os
import re
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import requests

from outcrop.errors import ModelNotFoundError, ZooError
from outcrop.progress import Advance, Progress, silent

ATTEMPTS = 3
"""Attempts in a row that bring nothing new, before giving up; any byte that comes starts the count anew."""

_PAUSE = 1.0  # seconds after the first of them, twice as many after the second, ...
_TIMEOUT = 30.0  # seconds without a byte
_CHUNK = 1 << 18
_PASSING = {408, 425, 429}  # of the 4xx, what a server says that may answer later


class _CutError(Exception):
    """The connection ended too early, or the server would not go on; another attempt may help."""


class Transfer:
    """A downloader for :func:`pooch.retrieve` that goes on where an earlier one stopped.

    Args:
        partial: Where bytes are collected; what lies there is the beginning of the file.
        size: Bytes of the file; None takes what the server says.
        checked: Whether the caller compares a hash at the end. If not, it goes on only where the server's tag
            (``ETag``) shows that the file is still the same.
        progress: Told of bytes.
        pause: Seconds to wait after an attempt that brought nothing.

    Attributes:
        sha256: Of the whole file, once it has come.
    """

    def __init__(
        self,
        partial: Path,
        *,
        size: int | None = None,
        checked: bool = True,
        progress: Progress = silent,
        pause: float = _PAUSE,
    ) -> None:
        self.sha256: str | None = None
        self._partial, self._size, self._checked, self._pause = partial, size, checked, pause
        self._progress = progress
        self._same: str | None = None
        self._shown = 0

    def __call__(self, url: str, output_file: str, pooch: Any, check_only: bool = False) -> None:  # noqa: ARG002 - pooch's
        """Fetch ``url`` and move it to ``output_file`` once it is whole.

        Raises:
            ModelNotFoundError: It cannot be had, or not now.
            ZooError: It is longer or shorter than it should be.
        """
        idle = 0
        with ExitStack() as stack:
            show = self._display(stack, url)
            while True:
                before = self._have()
                try:
                    self._attempt(url, show)
                    break
                except (_CutError, requests.RequestException) as error:
                    idle = 0 if self._have() > before else idle + 1
                    if idle == ATTEMPTS or _is_final(error):
                        raise self._given_up(url, error) from error
                    time.sleep(self._pause * idle)
        with self._partial.open("rb") as file:
            self.sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        os.replace(self._partial, output_file)

    def _attempt(self, url: str, show: Callable[[int], None]) -> None:
        have = self._have()
        if self._size is not None and have >= self._size:
            if have == self._size:
                return
            have = 0
        if not self._checked and self._same is None:
            have = 0
        # Compressed on the way, bytes could not be counted.
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
            if self._same is not None:
                headers["If-Range"] = self._same
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                self._partial.unlink(missing_ok=True)
                raise _CutError("it does not go on from where it stopped")
            response.raise_for_status()
            start = self._start(response, have)
            self._settle_size(url, response, start)
            with self._partial.open("r+b" if start else "wb") as file:
                file.seek(start)
                show(start)
                self._receive(url, response, file, show)
        if self._have() < (self._size or 0):
            raise _CutError("the connection ended early")

    def _start(self, response: Any, have: int) -> int:
        """Return the position in the file at which an answer begins."""
        if response.status_code != requests.codes.partial_content:
            return 0
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if match is None or int(match[1]) != have:
            self._partial.unlink(missing_ok=True)
            raise _CutError("it sent another part than the one asked for")
        return have

    def _settle_size(self, url: str, response: Any, start: int) -> None:
        """Hold the length that a server states against the one expected, before a byte is written.

        Raises:
            ZooError: They differ, or there is none.
        """
        tag = response.headers.get("ETag", "")
        self._same = tag if tag.startswith('"') else None
        stated = response.headers.get("Content-Length")
        plain = response.headers.get("Content-Encoding", "identity") == "identity"
        total = start + int(stated) if stated is not None and stated.isdecimal() and plain else None
        if self._size is None:
            if total is None:
                raise ZooError(
                    f"The server does not say how long {url} is, so half of it could pass for all; fetch it by other "
                    "means and add the file."
                )
            self._size = total
        elif total not in (None, self._size):
            raise ZooError(
                f"The file at {url} is {total} bytes long; expected {self._size}. Ask the card's author for a new "
                "card, or check whether the network wants you to log in first."
            )

    def _receive(self, url: str, response: Any, file: Any, show: Callable[[int], None]) -> None:
        for chunk in response.iter_content(_CHUNK):
            file.write(chunk)
            if file.tell() > (self._size or 0):
                file.truncate(0)
                raise ZooError(
                    f"The server sends more than the {self._size} bytes that {url} should have; what came was removed. "
                    "Ask the card's author for a new card."
                )
            show(file.tell())

    def _have(self) -> int:
        return self._partial.stat().st_size if self._partial.exists() else 0

    def _display(self, stack: ExitStack, url: str) -> Callable[[int], None]:
        """Return what is told how many bytes there are; the display opens once their number is known."""
        advance: Advance | None = None

        def show(have: int) -> None:
            nonlocal advance
            if advance is None:
                name = url.partition("?")[0].rpartition("/")[2] or url
                advance = stack.enter_context(self._progress(f"Fetching {name}", self._size or 0, unit="bytes"))
            advance(have - self._shown)
            self._shown = have

        return show

    def _given_up(self, url: str, error: Exception) -> ModelNotFoundError:
        have = self._have()
        reason = _reason(error)
        if _is_final(error) or not have:
            return ModelNotFoundError(f"{url} could not be fetched: {reason}. Check the address and the network.")
        return ModelNotFoundError(
            f"{url} could not be fetched: {reason}. {have} of {self._size} bytes are kept in {self._partial}; the same "
            "command goes on from there."
        )


def _is_final(error: Exception) -> bool:
    """Return whether a server would answer the same again."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        status = error.response.status_code
        return 400 <= status < 500 and status not in _PASSING
    return isinstance(
        error, requests.TooManyRedirects | requests.exceptions.InvalidSchema | requests.exceptions.InvalidURL
    )


def _reason(error: Exception) -> str:
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server answers {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.Timeout):
        return f"nothing came for {_TIMEOUT:.0f} seconds"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection ended early"
    if isinstance(error, requests.ConnectionError):
        return "there is no connection to the server"
    return str(error)
