"""``outcrop zoo add`` and ``outcrop zoo remove``: the user's own models."""

from pathlib import Path

import click

from outcrop.cli.display import progress, show_json
from outcrop.cli.options import json_option
from outcrop_zoo.commands.rows import say_where, summary

_WILDCARDS = set("*?[")


@click.command("add")
@click.argument("location", metavar="PATH|URL")
@click.option("--name", help="Of the model; by default that of the file.")
@click.option("--family", default="own", show_default=True, help="Models that differ by seed, depth or width only.")
@click.option("--architecture", default="unknown", show_default=True, help="What network it is.")
@click.option("--data", default="unknown", show_default=True, help="What it was trained for.")
@click.option("--licence", default="NOASSERTION", show_default=True, help="SPDX expression for the weights.")
@click.option("--reference", "references", multiple=True, help="Where it comes from; repeat for several.")
@click.option("--depth", type=int, help="Where the architecture has one.")
@click.option("--width", type=int, help="Where the architecture has one.")
@click.option("--seed", type=int, help="Of its training.")
@click.option(
    "--classes",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File of the names of the logits, one a line.",
)
@click.option("--test", metavar="DATA", help="Measure accuracy on these data, and state it.")
@click.option("--sha256", help="Of a file of the web, where you know it.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where model and card go; by default your own folder.")
@click.option("--force", is_flag=True, help="Replace a model of this name in that folder.")
@json_option
def add_model(
    location: str,
    name: str | None,
    family: str,
    architecture: str,
    data: str,
    licence: str,
    references: tuple[str, ...],
    depth: int | None,
    width: int | None,
    seed: int | None,
    classes: Path | None,
    test: str | None,
    sha256: str | None,
    folder: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Add an ONNX file to the zoo, with a card made for it. It is then loaded as zoo:NAME.

    A file is copied; one of the web is kept in outcrop's cache, and fetched again where it is missing.
    """
    on_the_web = location.lower().startswith(("http://", "https://"))
    if sha256 is not None and not on_the_web:
        raise click.UsageError("--sha256 belongs to a file of the web.")
    from outcrop_zoo.description import Labels
    from outcrop_zoo.own import add_file, add_url

    labels = Labels(
        family=family,
        architecture=architecture,
        data=data,
        licence=licence,
        references=references,
        depth=depth,
        width=width,
        seed=seed,
        classes=_read_classes(classes) if classes else None,
    )
    if on_the_web:
        entry = add_url(
            location, name=name, expected_sha256=sha256, labels=labels, folder=folder, test=test, force=force,
            progress=progress,
        )  # fmt: skip
    else:
        entry = add_file(
            Path(location).expanduser(), name=name, labels=labels, folder=folder, test=test, force=force,
            progress=progress,
        )  # fmt: skip
    if as_json:
        shown = {"path": str(entry.model_path), "card": str(entry.path)}
        show_json({**entry.card.model_dump(mode="json"), **shown})
    else:
        click.echo(f"zoo:{entry.card.name} ({entry.path}): {summary(entry.card)}")
    say_where(folder)


def _read_classes(path: Path) -> tuple[str, ...]:
    """Return the lines of a file; empty ones at its end are none.

    Raises:
        ZooError: It is no text, or names no class.
    """
    from outcrop.errors import ZooError

    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").rstrip().splitlines()]
    except UnicodeDecodeError as error:
        raise ZooError(f"{path} is no text in UTF-8; expected the names of the classes, one a line.") from error
    if not all(lines) or not lines:
        raise ZooError(f"{path} has an empty line; expected the names of the classes, one a line.")
    return tuple(lines)


@click.command("remove")
@click.argument("patterns", nargs=-1, required=True, metavar="NAME...")
@click.option("--yes", "confirmed", is_flag=True, help="Remove what wildcards match; without, only show what would go.")
@json_option
def remove_models(patterns: tuple[str, ...], confirmed: bool, as_json: bool) -> None:
    """Remove models that you built or added, with their cards. What wildcards match goes with --yes only."""
    from outcrop_zoo.own import removable, remove

    entries = removable(patterns)
    confirmed = confirmed or not any(_WILDCARDS & set(pattern) for pattern in patterns)
    files = remove(entries) if confirmed else []
    names = [entry.card.name for entry in entries]
    if as_json:
        show_json({"models": names, "removed": confirmed, "files": [str(file) for file in files]})
        return
    click.echo(f"Removed {', '.join(names)}." if confirmed else f"{', '.join(names)} would go; add --yes to remove.")
