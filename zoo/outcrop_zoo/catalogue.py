"""The catalogue: all cards of outcrop, of the user and of plugins, by name."""

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from outcrop.errors import ModelNotFoundError, ZooError, did_you_mean
from outcrop_zoo.cards import Card, read_card
from outcrop_zoo.entry import Entry as Entry
from outcrop_zoo.entry import sha256 as sha256
from outcrop_zoo.folders import BUNDLED as BUNDLED
from outcrop_zoo.folders import PACKAGE_MODELS, user_folders
from outcrop_zoo.folders import cache_folder as cache_folder
from outcrop_zoo.folders import user_folder as user_folder
from outcrop_zoo.recipes import Recipe, recipes


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
        """All models by name, sorted naturally enough: by family, then depth, width, seed and name."""
        found = [entry for entry in self._cards if entry.card.source.kind != "recipe"]
        return {entry.card.name: entry for entry in sorted(found, key=lambda entry: _order(entry.card))}

    @cached_property
    def recipes(self) -> dict[str, Recipe]:
        """All recipes by the name of the model they make: outcrop's own, then those of cards that are recipes only."""
        known = recipes()
        for entry in self._cards:
            recipe = entry.card.recipe
            if (
                entry.card.source.kind == "recipe"
                and recipe is not None
                and known.setdefault(recipe.name, recipe) != recipe
            ):
                raise ZooError(
                    f"The card {entry.path} is another recipe {recipe.name!r} than outcrop's. Rename or remove it."
                )
        return known

    @cached_property
    def _cards(self) -> list[Entry]:
        # A recipe's card stands beside that of the model it made.
        found: dict[tuple[str, bool], Entry] = {}
        for folder in self.folders:
            for path in sorted(folder.glob("*.json")):
                entry = Entry(read_card(path), path)
                other = found.setdefault((entry.card.name, entry.card.source.kind == "recipe"), entry)
                if other is not entry:
                    raise ZooError(
                        f"Two zoo cards are named {entry.card.name!r}: {other.path} and {path}. Rename or remove one."
                    )
        return list(found.values())

    def find(self, name: str) -> Entry:
        """Return the entry of a name.

        Raises:
            ModelNotFoundError: No such model; near names are suggested, or how to build it.
        """
        if name in self.entries:
            return self.entries[name]
        if name in self.recipes:
            raise ModelNotFoundError(
                f"The zoo model {name!r} is a recipe that was not built here yet. "
                f"Run 'outcrop zoo build {name}' to train it."
            )
        options = [*self.entries, *self.recipes]
        raise ModelNotFoundError(
            f"The zoo has no model {name!r}.{did_you_mean(name, options)} 'outcrop zoo list' shows all."
        )

    def matching(self, patterns: Iterable[str]) -> list[Entry]:
        """Return the entries whose names match any of the wildcard patterns (``*``, ``?``, ``[...]``); all for none.

        Raises:
            ModelNotFoundError: A pattern matches nothing, or is the name of a recipe that was not built.
        """
        patterns = list(patterns)
        for pattern in patterns:
            if pattern not in self.entries and pattern in self.recipes:
                self.find(pattern)  # says how to build it
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


def matching_rows(rows: Iterable[dict[str, Any]], filters: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """Return the rows whose fields match any of their wildcard patterns; a field without a pattern matches.

    Raises:
        ModelNotFoundError: A pattern matches no row; the values that there are get named.
    """
    rows = list(rows)
    for field, patterns in filters.items():
        values = list(dict.fromkeys(str(row[field]) for row in rows))
        for pattern in patterns:
            if not fnmatch.filter(values, pattern):
                raise ModelNotFoundError(
                    f"No zoo model has {field} {pattern!r}.{did_you_mean(pattern, values)} "
                    f"Here: {', '.join(values) or 'none'}."
                )
        rows = [row for row in rows if not patterns or any(fnmatch.fnmatchcase(str(row[field]), p) for p in patterns)]
    return rows


def card_folders() -> list[Path]:
    """Return the folders of cards: outcrop's, the user's own and those of plugins."""
    from outcrop.plugins import plugin_registry

    own = [folder for folder in user_folders() if folder.is_dir()]
    return list(dict.fromkeys([BUNDLED, PACKAGE_MODELS, *own, *map(Path, plugin_registry().zoo_cards())]))


def _order(card: Card) -> tuple[str, int, int, int, str]:
    return (card.family, card.depth or 0, card.width or 0, card.seed or 0, card.name)
