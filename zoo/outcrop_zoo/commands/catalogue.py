"""``outcrop zoo list`` and ``outcrop zoo show``."""

from typing import Any

import click

from outcrop.cli.display import show_json, show_table, size_text
from outcrop.cli.options import json_option
from outcrop_zoo.commands.rows import entry_row, flat, patterns_argument, recipe_row, say_broken, state, text

_FILTERS = ("family", "architecture", "data")


@click.command("list")
@patterns_argument
@click.option("--family", multiple=True, metavar="GLOB", help="Only models of these families; repeat for several.")
@click.option("--architecture", multiple=True, metavar="GLOB", help="Only of these architectures.")
@click.option("--data", multiple=True, metavar="GLOB", help="Only trained for these data.")
@json_option
def list_models(
    patterns: tuple[str, ...],
    family: tuple[str, ...],
    architecture: tuple[str, ...],
    data: tuple[str, ...],
    as_json: bool,
) -> None:
    """List models and the recipes not built yet. Names may hold wildcards: 'resnet14-*'."""
    from outcrop_zoo.catalogue import Catalogue, matching_names, matching_rows

    catalogue = Catalogue()
    entries, known = catalogue.entries, catalogue.recipes
    names = matching_names(patterns, [*entries, *(name for name in known if name not in entries)])
    rows = [entry_row(entries[name]) if name in entries else recipe_row(known[name]) for name in names]
    rows = matching_rows(rows, dict(zip(_FILTERS, (family, architecture, data), strict=True)))
    say_broken(catalogue)
    if as_json:
        show_json(rows)
        return
    for row in rows:
        row["accuracy"] = "" if row["accuracy"] is None else f"{100 * row['accuracy']:.1f} %"
        row["size"] = "" if row["size"] is None else size_text(row["size"])
    headings = ("name", "family", "architecture", "depth", "width", "seed", "data", "accuracy", "size", "state")
    show_table(rows, {heading: heading for heading in headings})


@click.command("show")
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show the card of a model, or a recipe that is not built yet."""
    from outcrop_zoo.cards import PackageSource
    from outcrop_zoo.catalogue import Catalogue
    from outcrop_zoo.sources.package import installed_version

    catalogue = Catalogue()
    if name not in catalogue.entries and name in catalogue.recipes:
        shown: dict[str, Any] = {
            "name": name,
            "state": "recipe",
            "recipe": catalogue.recipes[name].model_dump(mode="json"),
        }
    else:
        entry = catalogue.find(name)
        path, source = entry.model_path, entry.card.source
        shown = {
            **entry.card.model_dump(mode="json"),
            "state": state(entry),
            "path": None if path is None else str(path),
            "card": str(entry.path),
        }
        if isinstance(source, PackageSource):
            version = installed_version(source)
            shown |= {"installed": version, "install": None if version else source.installation}
    if as_json:
        show_json(shown)
        return
    rows = [{"field": field, "value": text(value)} for field, value in flat(shown) if value is not None]
    show_table(rows, {"field": "field", "value": "value"})
