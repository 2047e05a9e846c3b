"""What the commands say of models and recipes, as rows of a table or as JSON."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from outcrop.cli.display import size_text

if TYPE_CHECKING:
    from outcrop_zoo.cards import Card
    from outcrop_zoo.catalogue import Catalogue
    from outcrop_zoo.entry import Entry
    from outcrop_zoo.recipes import Recipe

patterns_argument = click.argument("patterns", nargs=-1, metavar="[NAME]...")


def entry_row(entry: "Entry") -> dict[str, Any]:
    """Return what a list shows of a model."""
    card = entry.card
    fields = ("name", "family", "architecture", "depth", "width", "seed", "data", "size")
    accuracy = card.test.accuracy if card.test else None
    more = {"accuracy": accuracy, "source": card.source.kind, "state": state(entry)}
    return {field: getattr(card, field) for field in fields} | more


def recipe_row(recipe: "Recipe") -> dict[str, Any]:
    """Return what a list shows of a recipe that was not built."""
    architecture = recipe.architecture
    return {
        "name": recipe.name,
        "family": recipe.family,
        "architecture": architecture.name,
        "depth": architecture.depth,
        "width": architecture.width,
        "seed": recipe.seed,
        "data": recipe.data,
        "size": None,
        "accuracy": None,
        "source": "recipe",
        "state": "recipe",
    }


def state(entry: "Entry") -> str:
    """Return where a model is, or what keeps it from being used at once."""
    from outcrop_zoo.cards import PackageSource, UrlSource
    from outcrop_zoo.folders import BUNDLED, user_folders
    from outcrop_zoo.sources.package import installed_version

    source, path = entry.card.source, entry.model_path
    if isinstance(source, PackageSource):
        version = installed_version(source)
        return f"not installed: {source.package}" if version is None else f"in {source.package} {version}"
    if isinstance(source, UrlSource):
        return "fetched" if path is not None and path.is_file() else "not fetched yet"
    if entry.path.parent in user_folders():
        return "built here" if entry.card.recipe is not None else "added here"
    return "bundled" if entry.path.parent == BUNDLED else str(entry.path.parent)


def say_where(folder: Path | None) -> None:
    """Say on the error output how the models of a folder come into the zoo, where they are not in it by themselves."""
    from outcrop_zoo.folders import VARIABLE, user_folders

    if folder is not None and folder.resolve() not in {own.resolve() for own in user_folders()}:
        click.echo(
            f"{folder} is no folder of the zoo; 'export {VARIABLE}={folder.resolve()}' makes it one, for zoo:NAME.",
            err=True,
        )


def say_broken(catalogue: "Catalogue") -> None:
    """Say on the error output which cards cannot be used, and why."""
    for error in catalogue.broken.values():
        click.echo(f"Warning: {error}", err=True)


def summary(card: "Card") -> str:
    """Return accuracy and size of a model as people read them."""
    accuracy = (
        [f"{100 * card.test.accuracy:.1f} % on {card.test.images} images of {card.test.data}"] if card.test else []
    )
    return ", ".join([*accuracy, *([] if card.size is None else [size_text(card.size)])])


def flat(value: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return the leaves of nested mappings, with dots between their keys."""
    rows: list[tuple[str, Any]] = []
    for key, item in value.items():
        rows += flat(item, f"{prefix}{key}.") if isinstance(item, dict) else [(prefix + key, item)]
    return rows


def text(value: Any) -> str:
    """Return a value of a card as people read it."""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
