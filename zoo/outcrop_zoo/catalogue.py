"""The catalogue: all cards of the bundled folder, of the user's own and of plugins."""

import fnmatch
import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from outcrop.errors import ModelNotFoundError, ZooError, did_you_mean
from outcrop_zoo.cards import Card, read_card
from outcrop_zoo.recipes import recipes

BUNDLED = Path(__file__).parent / "models"


@dataclass(frozen=True)
class Entry:
    """A card and where it lies."""

    card: Card
    path: Path

    @property
    def model_path(self) -> Path:
        """Where the model's file should be; :meth:`checked_model_path` also looks into it."""
        return self.path.parent / self.card.source.file

    def checked_model_path(self) -> Path:
        """Return the path of the model's file after comparing its content with the card.

        Raises:
            ZooError: The file is missing, or its sha256 is not the card's.
        """
        path = self.model_path
        if not path.is_file():
            raise ZooError(f"The file of zoo model {self.card.name!r} is missing: {path}. {self._remedy}")
        found = sha256(path)
        if found != self.card.sha256:
            raise ZooError(
                f"The file {path} of zoo model {self.card.name!r} is not the one on its card: sha256 {found}, "
                f"expected {self.card.sha256}. {self._remedy}"
            )
        return path

    @property
    def _remedy(self) -> str:
        if self.path.parent == BUNDLED:
            return "Reinstall outcrop."
        if self.card.recipe is not None:
            folder = self.path.parent
            return f"Run 'outcrop zoo build {self.card.name} --folder {folder} --force' to make it again."
        return f"Restore the file, or remove the card {self.path}."


class Catalogue:
    """Cards by name.

    Args:
        folders: Where to look; by default :func:`card_folders`.

    Raises:
        ZooError: A card is not valid, or two cards have one name.
    """

    def __init__(self, folders: Sequence[Path] | None = None) -> None:
        self.folders = tuple(card_folders() if folders is None else folders)

    @cached_property
    def entries(self) -> dict[str, Entry]:
        """All entries by name, sorted naturally enough: by family, then depth, width, seed and name."""
        found: dict[str, Entry] = {}
        for folder in self.folders:
            for path in sorted(folder.glob("*.json")):
                entry = Entry(read_card(path), path)
                other = found.setdefault(entry.card.name, entry)
                if other is not entry:
                    raise ZooError(
                        f"Two zoo cards are named {entry.card.name!r}: {other.path} and {path}. Rename or remove one."
                    )
        return dict(sorted(found.items(), key=lambda item: _order(item[1].card)))

    def find(self, name: str) -> Entry:
        """Return the entry of a name.

        Raises:
            ModelNotFoundError: No such model; near names are suggested, or how to build it.
        """
        if name in self.entries:
            return self.entries[name]
        if name in recipes():
            raise ModelNotFoundError(
                f"The zoo model {name!r} is a recipe that was not built here yet. "
                f"Run 'outcrop zoo build {name}' to train it."
            )
        options = [*self.entries, *recipes()]
        raise ModelNotFoundError(
            f"The zoo has no model {name!r}.{did_you_mean(name, options)} 'outcrop zoo list' shows all."
        )

    def matching(self, patterns: Iterable[str]) -> list[Entry]:
        """Return the entries whose names match any of the wildcard patterns (``*``, ``?``, ``[...]``); all for none.

        Raises:
            ModelNotFoundError: A pattern matches nothing.
        """
        chosen = matching_names(patterns, self.entries)
        return [self.entries[name] for name in chosen]


def bundled_cards() -> list[Card]:
    """Return the cards of the models that come with outcrop."""
    return [entry.card for entry in Catalogue([BUNDLED]).entries.values()]


def matching_names(patterns: Iterable[str], names: Iterable[str]) -> list[str]:
    """Return the names that match any of the patterns, in their order; all of them when there is no pattern.

    Raises:
        ModelNotFoundError: A pattern matches nothing.
    """
    names, patterns = list(names), list(patterns)
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in names):
            raise ModelNotFoundError(
                f"No zoo model matches {pattern!r}.{did_you_mean(pattern, names)} 'outcrop zoo list' shows all."
            )
    return [name for name in names if not patterns or any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]


def card_folders() -> list[Path]:
    """Return the folders of cards: the bundled one, the user's own and those of plugins."""
    from outcrop.plugins import plugin_registry

    own = user_folder()
    folders = [BUNDLED, *([own] if own.is_dir() else []), *map(Path, plugin_registry().zoo_cards())]
    return list(dict.fromkeys(folders))


def user_folder() -> Path:
    """Return where models that the user builds are kept, by default."""
    return cache_folder() / "zoo"


def cache_folder() -> Path:
    """Return outcrop's cache folder: the environment variable ``OUTCROP_CACHE``, or the system's place for caches."""
    if os.environ.get("OUTCROP_CACHE"):
        return Path(os.environ["OUTCROP_CACHE"])
    import pooch

    return Path(pooch.os_cache("outcrop"))


def sha256(path: Path) -> str:
    """Return the hash of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _order(card: Card) -> tuple[str, int, int, int, str]:
    return (card.family, card.depth or 0, card.width or 0, card.seed or 0, card.name)
