"""The user's own models: add a file, one of the web or an export; remove what was added or built."""

import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from outcrop.errors import ModelNotFoundError, ZooError
from outcrop.progress import Progress, silent
from outcrop_zoo.cards import NAME_PATTERN, Card, FileSource, Parity, UrlSource, write_card
from outcrop_zoo.catalogue import Catalogue
from outcrop_zoo.description import Labels, describe
from outcrop_zoo.entry import Entry
from outcrop_zoo.files import sha256
from outcrop_zoo.folders import download_folder, user_folder, user_folders


def add_file(
    path: Path,
    *,
    name: str | None = None,
    labels: Labels | None = None,
    folder: Path | None = None,
    test: str | None = None,
    origin: str | None = None,
    parity: Parity | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> Entry:
    """Copy an ONNX file into the user's folder with a card made for it.

    The copy takes its name in one step, and the card after it: until then the zoo does not have the model.

    Args:
        path: Of the file, which stays where it is.
        name: Of the model; by default that of the file.
        labels: What the file cannot say of itself.
        folder: Where both go; by default the first of the user's.
        test: Data on which accuracy is measured and stated.
        origin: What the file was exported from.
        parity: Of that export.
        force: Whether a model of the name in that folder is replaced.
        progress: Told of tested images.

    Raises:
        ModelNotFoundError: There is no such file.
        ZooError: It is not a sound model in one file, the name is taken or no name.
        ModelLoadError: It is no ONNX file, or does not run.
    """
    if not path.exists():
        raise ModelNotFoundError(f"There is no file {path}; give the path of an ONNX model or its address on the web.")
    name, folder = _checked_name(name or path.stem), folder or user_folder()
    _check_free(name, folder, force=force)
    target = folder / f"{name}.onnx"
    card = describe(
        path, name=name, source=FileSource(file=target.name), labels=labels or Labels(), origin=origin, parity=parity
    )
    if target.exists() and not force and sha256(target) != card.sha256:
        raise ZooError(f"{target} is there already and is another file; choose another --name, or pass --force.")
    folder.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".part")
    try:
        shutil.copyfile(path, partial)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    return _written(card, folder, test, progress)


def add_url(
    url: str,
    *,
    name: str | None = None,
    expected_sha256: str | None = None,
    labels: Labels | None = None,
    folder: Path | None = None,
    test: str | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> Entry:
    """Fetch an ONNX file of the web and write a card for it into the user's folder.

    The file is kept in outcrop's cache; the card holds its sha256, so that it can be fetched again, and only it.

    Args:
        url: http or https.
        name: Of the model; by default that of the file.
        expected_sha256: Of the file, where it is known; else that of what comes is believed.
        labels: As :func:`add_file`, and so are the next three.
        folder: Of the card.
        test: Data on which accuracy is measured and stated.
        force: Whether a model of the name in that folder is replaced.
        progress: Told of bytes and of tested images.

    Raises:
        ModelNotFoundError: It cannot be fetched.
        ZooError: It is another file than expected, not a sound model in one file, the name is taken or no name.
        ModelLoadError: It is no ONNX file, or does not run.
    """
    from outcrop_zoo.sources.url import fetch

    name = _checked_name(name or Path(url.partition("?")[0].partition("#")[0].rpartition("/")[2]).stem)
    folder = folder or user_folder()
    _check_free(name, folder, force=force)
    fetched = fetch(url, download_folder() / f"{name}.onnx", sha256=expected_sha256, progress=progress)
    try:
        card = describe(fetched, name=name, source=UrlSource(url=url), labels=labels or Labels())
        target = Entry(card, folder / f"{name}.json").model_path
        assert target is not None  # a file of the web has a place in the cache
        os.replace(fetched, target)
    finally:
        fetched.unlink(missing_ok=True)
    return _written(card, folder, test, progress)


def removable(patterns: Iterable[str]) -> list[Entry]:
    """Return the entries that match wildcard patterns, all of them the user's own.

    Raises:
        ModelNotFoundError: A pattern matches nothing.
        ZooError: A model is outcrop's or a plugin's.
    """
    chosen = Catalogue().matching(patterns)
    own = {folder.resolve() for folder in user_folders()}
    for entry in chosen:
        if entry.path.parent.resolve() not in own:
            raise ZooError(
                f"The zoo model {entry.card.name!r} is not yours to remove: its card is {entry.path}. Only what you "
                "built or added can be removed; nothing was."
            )
    return chosen


def remove(entries: Iterable[Entry]) -> list[Path]:
    """Remove models from the user's folder, and return the files that went.

    The card goes first: a model without one is not in the zoo, whatever happens next. A file that another card names
    too stays.
    """
    removed = []
    for entry in entries:
        path = entry.model_path
        entry.path.unlink()
        removed.append(entry.path)
        if path is None or any(other.model_path == path for other in Catalogue().entries.values()):
            continue
        for file in (path, path.with_name(path.name + ".part"), path.with_name(path.name + ".lock")):
            if file.is_file() or file.is_symlink():
                file.unlink()
                removed.append(file)
    return removed


def _checked_name(name: str) -> str:
    if not re.fullmatch(NAME_PATTERN, name):
        raise ZooError(
            f"{name!r} cannot name a zoo model; expected letters, digits, '.', '_' and '-', such as 'resnet18-mine'. "
            "Choose one with --name."
        )
    return name


def _check_free(name: str, folder: Path, *, force: bool) -> None:
    catalogue = Catalogue()
    other = catalogue.entries.get(name)
    where = other.path if other is not None else folder / f"{name}.json"
    if other is None and name in catalogue.recipes:
        raise ZooError(f"{name!r} is the name of a recipe of the zoo; choose another --name.")
    if (other is not None and where.parent.resolve() != folder.resolve()) or (where.exists() and not force):
        raise ZooError(
            f"{name!r} is in the zoo already ({where}); choose another --name, or pass --force for your own."
        )


def _written(card: Card, folder: Path, test: str | None, progress: Progress) -> Entry:
    entry = Entry(card, folder / f"{card.name}.json")
    if test is not None:
        from outcrop_zoo.accuracy import measure_accuracy
        from outcrop_zoo.loading import load_entry

        record = measure_accuracy(load_entry(entry), test, progress=progress)
        entry = replace(entry, card=card.model_copy(update={"test": record}))
    folder.mkdir(parents=True, exist_ok=True)
    write_card(entry.card, entry.path)
    return entry
