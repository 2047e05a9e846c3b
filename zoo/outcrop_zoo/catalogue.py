"""The catalogue: all cards of outcrop, of the user and of plugins, by name.

A card that cannot be used keeps no other from being used: it is told apart, and asking for its model says why.
"""

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from outcrop.errors import ModelNotFoundError, ZooError, did_you_mean
from outcrop_zoo.cards import Card, read_card
from outcrop_zoo.entry import Entry as Entry
from outcrop_zoo.folders import BUNDLED as BUNDLED
from outcrop_zoo.folders import PACKAGE_MODELS, user_folders
from outcrop_zoo.folders import cache_folder as cache_folder
from outcrop_zoo.folders import user_folder as user_folder
from outcrop_zoo.recipes import Recipe, recipes


class Catalogue:
    """Cards by name.

    Args:
        folders: Where to look; by default :func:`card_folders`.
    """

    def __init__(self, folders: Sequence[Path] | None = None) -> None:
        self.folders = tuple(card_folders() if folders is None else folders)

    @cached_property
    def entries(self) -> dict[str, Entry]:
        """All models by name, sorted naturally enough: by family, then depth, width, seed and name."""
        found = self._cards.models.values()
        return {entry.card.name: entry for entry in sorted(found, key=lambda entry: _order(entry.card))}

    @cached_property
    def recipes(self) -> dict[str, Recipe]:
        """All recipes by the name of the model they make: outcrop's own, then those of cards that are recipes only."""
        found = {name: entry.card.recipe for name, entry in self._cards.recipes.items()}
        known = recipes() | {name: recipe for name, recipe in found.items() if recipe is not None}
        return {name: recipe for name, recipe in known.items() if name not in self._cards.broken_recipes}

    @property
    def broken(self) -> dict[str, ZooError]:
        """What is wrong with the cards that cannot be used, by name of the model, else of the file."""
        cards = self._cards
        # A file that is no card may have the name of a model that is sound.
        invalid = {name: error for name, error in cards.invalid.items() if name not in cards.models}
        return invalid | cards.broken_recipes | cards.broken

    @cached_property
    def _cards(self) -> "_Cards":
        own = recipes()
        cards = _Cards()
        for folder in self.folders:
            for path in sorted(folder.glob("*.json")):
                try:
                    entry = Entry(read_card(path), path)
                except ZooError as error:
                    cards.invalid[path.stem] = error
                else:
                    cards.add(entry, own)
        return cards

    def find(self, name: str) -> Entry:
        """Return the entry of a name.

        Raises:
            ModelNotFoundError: No such model; near names are suggested, or how to build it.
            ZooError: Its card is not valid, or two cards have the name.
        """
        if name in self.entries:
            return self.entries[name]
        if name in self.broken:
            raise self.broken[name]
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
            ZooError: A pattern is the name of a model whose card cannot be used.
        """
        patterns = list(patterns)
        for pattern in patterns:
            if pattern not in self.entries and (pattern in self.recipes or pattern in self.broken):
                self.find(pattern)  # says how to build it, or what is wrong
        chosen = matching_names(patterns, self.entries)
        return [self.entries[name] for name in chosen]

    def matching_recipes(self, patterns: Iterable[str]) -> list[Recipe]:
        """Return the recipes whose names match any of the wildcard patterns.

        Raises:
            ModelNotFoundError: A pattern matches nothing.
            ZooError: A pattern is the name of several recipes.
        """
        patterns = list(patterns)
        for pattern in patterns:
            if pattern in self._cards.broken_recipes:
                raise self._cards.broken_recipes[pattern]
        return [self.recipes[name] for name in matching_names(patterns, self.recipes)]


@dataclass
class _Cards:
    """What was read: models and recipes by name, and what is wrong with the rest.

    A recipe's card stands beside that of the model it made.
    """

    models: dict[str, Entry] = field(default_factory=dict)
    recipes: dict[str, Entry] = field(default_factory=dict)
    invalid: dict[str, ZooError] = field(default_factory=dict)
    broken: dict[str, ZooError] = field(default_factory=dict)
    broken_recipes: dict[str, ZooError] = field(default_factory=dict)

    def add(self, entry: Entry, own: Mapping[str, Recipe]) -> None:
        """Take an entry in; of two that share a name neither can be used."""
        name, recipe = entry.card.name, entry.card.recipe
        of_recipe = entry.card.source.kind == "recipe"
        known, broken = (self.recipes, self.broken_recipes) if of_recipe else (self.models, self.broken)
        if of_recipe and name in own and own[name] != recipe:
            broken[name] = ZooError(
                f"The card {entry.path} is another recipe {name!r} than outcrop's. Rename or remove it."
            )
        elif name in known:
            other = known.pop(name)
            broken[name] = ZooError(
                f"Two zoo cards are named {name!r}: {other.path} and {entry.path}. Rename or remove one."
            )
        elif name not in broken:
            known[name] = entry


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
    for heading, patterns in filters.items():
        values = list(dict.fromkeys(str(row[heading]) for row in rows))
        for pattern in patterns:
            if not fnmatch.filter(values, pattern):
                raise ModelNotFoundError(
                    f"No zoo model has {heading} {pattern!r}.{did_you_mean(pattern, values)} "
                    f"Here: {', '.join(values) or 'none'}."
                )
        rows = [row for row in rows if not patterns or any(fnmatch.fnmatchcase(str(row[heading]), p) for p in patterns)]
    return rows


def card_folders() -> list[Path]:
    """Return the folders of cards: outcrop's, the user's own and those of plugins."""
    from outcrop.plugins import plugin_registry

    own = [folder for folder in user_folders() if folder.is_dir()]
    return list(dict.fromkeys([BUNDLED, PACKAGE_MODELS, *own, *map(Path, plugin_registry().zoo_cards())]))


def _order(card: Card) -> tuple[str, int, int, int, str]:
    return (card.family, card.depth or 0, card.width or 0, card.seed or 0, card.name)
