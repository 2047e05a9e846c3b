"""``outcrop zoo``: list, show, verify and build the models of the zoo."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from outcrop.cli.display import progress, show_json, show_table, size_text
from outcrop.cli.options import json_option

if TYPE_CHECKING:
    from outcrop_zoo.catalogue import Entry
    from outcrop_zoo.recipes import Recipe

_patterns = click.argument("patterns", nargs=-1, metavar="[NAME]...")


@click.group("zoo")
def zoo() -> None:
    """List, verify and build the models of the zoo."""


@zoo.command("list")
@_patterns
@json_option
def list_models(patterns: tuple[str, ...], as_json: bool) -> None:
    """List models and the recipes not built yet. Names may hold wildcards: 'resnet14-*'."""
    from outcrop_zoo.catalogue import Catalogue, matching_names
    from outcrop_zoo.recipes import recipes

    entries, known = Catalogue().entries, recipes()
    names = matching_names(patterns, [*entries, *(name for name in known if name not in entries)])
    rows = [_entry_row(entries[name]) if name in entries else _recipe_row(known[name]) for name in names]
    if as_json:
        show_json(rows)
        return
    for row in rows:
        row["accuracy"] = "" if row["accuracy"] is None else f"{100 * row['accuracy']:.1f} %"
        row["size"] = "" if row["size"] is None else size_text(row["size"])
    headings = ("name", "family", "architecture", "depth", "width", "seed", "data", "accuracy", "size", "state")
    show_table(rows, {heading: heading for heading in headings})


@zoo.command("show")
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show the card of a model, or a recipe that is not built yet."""
    from outcrop_zoo.catalogue import Catalogue
    from outcrop_zoo.recipes import recipes

    catalogue = Catalogue()
    if name not in catalogue.entries and name in recipes():
        shown = {"name": name, "state": "recipe", "recipe": recipes()[name].model_dump(mode="json")}
    else:
        entry = catalogue.find(name)
        shown = {**entry.card.model_dump(mode="json"), "state": _state(entry), "path": str(entry.model_path)}
    if as_json:
        show_json(shown)
        return
    rows = [{"field": field, "value": _text(value)} for field, value in _flat(shown) if value is not None]
    show_table(rows, {"field": "field", "value": "value"})


@zoo.command("verify")
@_patterns
@click.option("--strict", is_flag=True, help="Fail also when a model could not be tested here.")
@json_option
def verify_models(patterns: tuple[str, ...], strict: bool, as_json: bool) -> None:
    """Check sha256, graph and stated accuracy of models; exit with 1 where one fails."""
    from outcrop_zoo.catalogue import Catalogue

    entries = Catalogue().matching(patterns)
    from outcrop_zoo.verify import verify

    rows = [asdict(verify(entry, progress=progress)) for entry in entries]
    outcomes = ("verified", "skipped", "failed")
    counts = {outcome: sum(row["outcome"] == outcome for row in rows) for outcome in outcomes}
    if as_json:
        show_json({"models": rows, **counts})
    else:
        show_table(rows, {"name": "name", "outcome": "outcome", "detail": "detail"})
        click.echo("\n" + ", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
    if counts["failed"] or (strict and counts["skipped"]):
        click.get_current_context().exit(1)


@zoo.command("build")
@click.argument("patterns", nargs=-1, required=True, metavar="NAME...")
@click.option("--folder", type=click.Path(path_type=Path), help="Where model and card go; by default outcrop's cache.")
@click.option(
    "--checkpoints", type=click.Path(path_type=Path), help="Folder of NAME.pt, to keep and resume; by default a cache."
)
@click.option("--threads", type=click.IntRange(1), help="Threads of torch; another number gives other last bits.")
@click.option("--force", is_flag=True, help="Replace an earlier build.")
@json_option
def build_models(
    patterns: tuple[str, ...],
    folder: Path | None,
    checkpoints: Path | None,
    threads: int | None,
    force: bool,
    as_json: bool,
) -> None:
    """Train, export and test models by their recipes. Run it again to continue after an interruption."""
    from outcrop.errors import ZooError
    from outcrop_zoo.catalogue import Catalogue, matching_names, user_folder
    from outcrop_zoo.recipes import recipes

    chosen = [recipes()[name] for name in matching_names(patterns, recipes())]
    target = folder or user_folder()
    for recipe in chosen if folder is None else ():
        other = Catalogue().entries.get(recipe.name)
        if other is not None and other.path.parent != target:
            raise ZooError(
                f"{recipe.name!r} is in the zoo already ({other.path}); pass --folder to build a copy elsewhere."
            )
    from outcrop_zoo.build import build

    cards = [
        build(recipe, folder=target, checkpoints=checkpoints, threads=threads, replace=force, progress=progress)
        for recipe in chosen
    ]
    if as_json:
        show_json([{**card.model_dump(mode="json"), "path": str(target / card.source.file)} for card in cards])
        return
    for card in cards:
        accuracy = (
            f"{100 * card.test.accuracy:.1f} % on {card.test.images} images of {card.test.data}" if card.test else ""
        )
        click.echo(f"{target / card.source.file}: {accuracy}, {size_text(card.size)}")


def _entry_row(entry: "Entry") -> dict[str, Any]:
    card = entry.card
    fields = ("name", "family", "architecture", "depth", "width", "seed", "data", "size")
    accuracy = card.test.accuracy if card.test else None
    return {field: getattr(card, field) for field in fields} | {"accuracy": accuracy, "state": _state(entry)}


def _recipe_row(recipe: "Recipe") -> dict[str, Any]:
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
        "state": "recipe",
    }


def _state(entry: "Entry") -> str:
    from outcrop_zoo.catalogue import BUNDLED, user_folder

    return {BUNDLED: "bundled", user_folder(): "built here"}.get(entry.path.parent, str(entry.path.parent))


def _flat(value: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, item in value.items():
        rows += _flat(item, f"{prefix}{key}.") if isinstance(item, dict) else [(prefix + key, item)]
    return rows


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
