"""A folder of image files, with or without a subfolder for each class."""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from outcrop.data.content import ContentData, refuse_or_warn
from outcrop.data.dataset import Skipped
from outcrop.data.images import DECODE_ERRORS, decode, readable_extensions, reason_of, thumbnail_of
from outcrop.data.selection import evenly_chosen
from outcrop.data.threads import map_in_threads
from outcrop.errors import DataNotFoundError, DataReadError
from outcrop.progress import Progress, silent

_EXTENSIONS_NAMED = 5
_NOT_THE_USERS = {"__MACOSX"}


class ImageFolder(ContentData):
    """The images of a folder, or one image file.

    Where all images lie in subfolders, those of the first level are the classes, and deeper ones belong to them;
    where images lie in the folder itself, there are no classes and subfolders are searched alike. Hidden files and
    folders are left out. Order is natural: ``img2`` before ``img10``, and so are the classes.

    Every image is read, hashed and decoded once, here, so that a file cut short is found before a long run and not
    in it. A file that changes afterwards is refused by :meth:`read`.

    Args:
        path: The folder, or one image file.
        name: Short name, unique in a study; the folder's by default.
        limit: How many images at most, chosen evenly by class and over each class; others are not read.
        strict: Whether an unreadable image is an error.
        progress: Told of every image checked.

    Raises:
        DataNotFoundError: No image.
        DataReadError: An unreadable image and ``strict``, or no readable one.
    """

    def __init__(
        self,
        path: Path,
        *,
        name: str | None = None,
        limit: int | None = None,
        strict: bool = False,
        progress: Progress = silent,
    ) -> None:
        self.name = name or path.resolve().name or "images"
        self.source = str(path)
        self._root: Path = path if path.is_dir() else path.parent
        files = list(find_images(path)) if path.is_dir() else [path.name]
        if not files:
            raise DataNotFoundError(_nothing_found(path))
        folders = [file.partition("/")[0] if "/" in file else None for file in files]
        all_labels: NDArray[np.int64] | None = None
        if None not in folders:
            # The files are in natural order, hence so are the classes.
            self.classes = tuple(dict.fromkeys(folder for folder in folders if folder is not None))
            positions = {folder: position for position, folder in enumerate(self.classes)}
            all_labels = np.array([positions[str(folder)] for folder in folders], dtype=np.int64)
        kept, digests, self.skipped = self._verify(files, all_labels, limit, progress)
        refuse_or_warn(self.skipped, len(kept) + len(self.skipped), self.name, strict=strict)
        self._files: list[str] = [files[position] for position in kept]
        self._digests = digests
        self.sample_ids = tuple(_printable(file) for file in self._files)
        self.labels = None if all_labels is None else all_labels[kept]

    def _verify(
        self, files: Sequence[str], labels: NDArray[np.int64] | None, limit: int | None, progress: Progress
    ) -> tuple[NDArray[np.int64], list[bytes], tuple[Skipped, ...]]:
        """Return the chosen positions, the digests of their files, and what cannot be read.

        With a limit, unreadable files are replaced by others until enough are readable or none is left.
        """
        checked: dict[int, tuple[bytes, str | None]] = {}
        candidates = np.arange(len(files))
        with progress("checking images", min(limit or len(files), len(files)), unit="images") as advance:
            while True:
                chosen = candidates
                if limit is not None:
                    chosen = candidates[
                        evenly_chosen(len(candidates), limit, None if labels is None else labels[candidates])
                    ]
                new = [int(position) for position in chosen if int(position) not in checked]
                results = map_in_threads(lambda position: self._check(files[position]), new, advance=advance)
                checked.update(zip(new, results, strict=True))
                unreadable = [position for position in new if checked[position][1] is not None]
                candidates = np.setdiff1d(candidates, unreadable)
                if limit is None or not unreadable:
                    break
        chosen = np.array([position for position in chosen if checked[int(position)][1] is None], dtype=np.int64)
        skipped = tuple(
            Skipped(_printable(files[position]), reason)
            for position, (_, reason) in sorted(checked.items())
            if reason is not None
        )
        return chosen, [checked[int(position)][0] for position in chosen], skipped

    def _check(self, file: str) -> tuple[bytes, str | None]:
        try:
            content = (self._root / file).read_bytes()
            decode(content, at_least=1)
        except DECODE_ERRORS as error:
            return b"", reason_of(error)
        return hashlib.sha256(content).digest(), None

    def _content(self, index: int) -> bytes:
        path = self._root / self._files[index]
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataReadError(f"Image {path} cannot be read any more: {reason_of(error)}.") from error
        if hashlib.sha256(content).digest() != self._digests[index]:
            raise DataReadError(f"Image {path} has changed since the folder was read; load the data again.")
        return content

    def read(self, index: int) -> Image.Image:
        return decode(self._content(index))

    def digest(self, index: int) -> bytes:
        return self._digests[index]

    def thumbnail(self, index: int, size: int = 48) -> NDArray[np.uint8]:
        return thumbnail_of(decode(self._content(index), at_least=size), size)


def find_images(folder: Path) -> Iterator[str]:
    """Yield the images in a folder and below, relative to it and with ``/``, in natural order.

    Links are followed, but not round in circles.

    Raises:
        DataReadError: A folder cannot be listed.
    """
    try:
        files = [file for file in _files_below(folder) if _is_image(file)]
    except OSError as error:
        raise DataReadError(f"Folder {error.filename!r} cannot be listed: {error.strerror}.") from error
    yield from sorted(files, key=natural_order)


def natural_order(path: str) -> tuple[object, ...]:
    """Return a sort key, folder by folder: numbers by value, before letters; ``img.png`` before ``img2.png``."""
    steps = os.path.splitext(path)[0].split("/")
    return (
        tuple(
            tuple((not run.isdecimal(), int(run) if run.isdecimal() else run) for run in _runs(step)) for step in steps
        ),
        path,
    )


def _runs(text: str) -> list[str]:
    # Runs of other text and of digits alternate, so that like is compared with like.
    return [part for part in re.split(r"([0-9]+)", text.casefold()) if part]


def _files_below(folder: Path, prefix: str = "", above: tuple[str, ...] = ()) -> Iterator[str]:
    here = os.path.realpath(folder)
    if here in above:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name in _NOT_THE_USERS:
                continue
            if entry.is_dir():
                yield from _files_below(folder / entry.name, f"{prefix}{entry.name}/", (*above, here))
            elif entry.is_file() or entry.is_symlink():
                # A link to nothing is named among the unreadable.
                yield prefix + entry.name


def _is_image(file: str) -> bool:
    return os.path.splitext(file)[1].lower() in readable_extensions()


def _printable(file: str) -> str:
    # A name that is not valid Unicode could not be stored.
    return os.fsencode(file).decode("utf-8", "backslashreplace")


def _nothing_found(folder: Path) -> str:
    files = list(_files_below(folder))
    ends = Counter(os.path.splitext(file)[1].lower() or "without extension" for file in files)
    named = ", ".join(
        f"{count} {end}"
        for end, count in sorted(ends.items(), key=lambda item: (-item[1], item[0]))[:_EXTENSIONS_NAMED]
    )
    found = f"{len(files)} file{'s' * (len(files) != 1)} ({named})" if files else "no file"
    return (
        f"Folder {str(folder)!r} holds no images: found {found}; expected images (.jpg, .png, .webp, .tif, ...) in it, "
        f"or in one subfolder for each class."
    )
