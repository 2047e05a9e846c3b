"""``outcrop study``: measure, prune, merge and copy studies."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from outcrop.cli.display import progress, show_json, show_table, size_text
from outcrop.cli.options import json_option

if TYPE_CHECKING:
    from outcrop.store.maintenance import Removal, Transfer

_WHAT = {"activations": "capture", "results": "result", "data": "data", "study": "metadata"}

captures_option = click.option("--capture", "captures", metavar="GLOB", help="Captures, by model name or node.")
layers_option = click.option("--layers", "layers", metavar="GLOB", help="Layers, in these captures or in all.")
results_option = click.option("--results", "results", metavar="GLOB", help="Results: ANALYSIS or ANALYSIS/RUN.")


@click.group("study")
def command() -> None:
    """Measure, prune, merge and copy studies."""


@command.command("size")
@click.argument("location", metavar="STUDY")
@click.option("--layers", "every", is_flag=True, help="Show every layer and run, not only their sums.")
@json_option
def size(location: str, every: bool, as_json: bool) -> None:
    """Show what STUDY holds and what that takes: bytes of values, bytes stored, and files."""
    import outcrop

    measured = outcrop.open(location).size()
    if as_json:
        totals = {"logical": measured.logical, "stored": measured.stored, "files": measured.files}
        show_json({"study": location} | totals | {"parts": [asdict(part) for part in measured.parts]})
        return
    rows = [
        {
            "what": _WHAT[part.part],
            "group": part.group,
            "name": part.name,
            "logical": size_text(part.logical) if part.logical else "",
            "stored": size_text(part.stored),
            "files": part.files,
        }
        for part in (measured.parts if every else measured.groups())
    ]
    names = {"name": "layer or run"} if every else {}
    columns = {"what": "what", "group": "name", **names, "logical": "values", "stored": "stored", "files": "files"}
    show_table(rows, columns)
    click.echo(f"\n{size_text(measured.stored)} in {measured.files} files, {size_text(measured.logical)} of values")


@command.command("prune")
@click.argument("location", metavar="STUDY")
@captures_option
@layers_option
@results_option
@click.option("--unfinished", is_flag=True, help="Layers that are not stored for all samples.")
@click.option("--superseded", is_flag=True, help="Results that a later version of their analysis has computed again.")
@click.option("--yes", "confirmed", is_flag=True, help="Remove it; without, only show what would go.")
@json_option
def prune(
    location: str,
    captures: str | None,
    layers: str | None,
    results: str | None,
    unfinished: bool,
    superseded: bool,
    confirmed: bool,
    as_json: bool,
) -> None:
    """Remove from STUDY what killed writers left, and what is named. Shows what would go; --yes removes it.

    \b
    outcrop study prune s.zarr --capture resnet18 --layers 'layer1.*' --yes
    """  # noqa: D301 - click takes the character itself
    import outcrop

    study = outcrop.open(location, mode="a" if confirmed else "r", progress=progress)
    removals = study.prune(
        captures=captures,
        layers=layers,
        results=results,
        unfinished=unfinished,
        superseded=superseded,
        dry_run=not confirmed,
    )
    stored = sum(removal.stored for removal in removals)
    if as_json:
        rows = [{"path": one.path, "reason": one.reason, "stored": one.stored, "files": one.files} for one in removals]
        show_json({"study": location, "removed": confirmed, "stored": stored, "removals": rows})
        return
    if not removals:
        click.echo(f"Nothing to remove from {location}")
        return
    show_table([_removal_row(removal) for removal in removals], {"path": "path", "stored": "stored", "reason": "why"})
    if confirmed:
        click.echo(f"\nRemoved {size_text(stored)}")
    else:
        click.echo(f"\n{size_text(stored)} would go; add --yes to remove it")


@command.command("merge")
@click.argument("sources", metavar="STUDY...", nargs=-1, required=True)
@click.option("--into", "destination", required=True, metavar="PATH", help="Study that takes all, made if needed.")
@json_option
def merge(sources: tuple[str, ...], destination: str, as_json: bool) -> None:
    """Bring what every STUDY holds into one; nothing that is there is replaced. Run it again to continue.

    \b
    outcrop study merge a.zarr b.zarr --into all.zarr
    """  # noqa: D301 - click takes the character itself
    import outcrop

    # A source that is not there is told before a study is made.
    opened = [outcrop.open(source, progress=progress) for source in sources]
    _show_transfer(outcrop.open(destination, mode="a", progress=progress).merge(*opened), destination, as_json)


@command.command("copy")
@click.argument("source", metavar="STUDY")
@click.argument("destination", metavar="DESTINATION")
@captures_option
@layers_option
@results_option
@click.option(
    "--samples",
    type=click.IntRange(1),
    metavar="NUMBER",
    help="Copy so many samples of each capture, evenly by class and spaced; all by default.",
)
@json_option
def copy(
    source: str,
    destination: str,
    captures: str | None,
    layers: str | None,
    results: str | None,
    samples: int | None,
    as_json: bool,
) -> None:
    """Copy STUDY, or the part that is named, to the path or URL DESTINATION. Run it again to continue.

    \b
    outcrop study copy s.zarr s3://bucket/s.zarr --capture 'resnet*' --results blocks
    """  # noqa: D301 - click takes the character itself
    import outcrop

    copied = outcrop.open(source, progress=progress).copy(
        destination, captures=captures, layers=layers, results=results, samples=samples
    )
    _show_transfer(copied, destination, as_json)


def _show_transfer(done: "Transfer", destination: str, as_json: bool) -> None:
    if as_json:
        show_json({"study": destination} | asdict(done))
        return
    rows: list[dict[str, Any]] = [
        *({"path": path, "what": "copied"} for path in done.copied),
        *({"path": path, "what": "was there already"} for path in done.present),
        *({"path": path, "what": f"left out, {why}"} for path, why in done.left_out.items()),
    ]
    if rows:
        show_table(rows, {"path": "path", "what": ""})
    click.echo(f"\n{size_text(done.stored)} written to {destination}")


def _removal_row(removal: "Removal") -> dict[str, Any]:
    return {"path": removal.path, "stored": size_text(removal.stored), "reason": removal.reason}
