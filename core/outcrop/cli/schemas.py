"""``outcrop schemas``: the kinds of results."""

import click

from outcrop.cli.display import show_json, show_table
from outcrop.cli.options import json_option


@click.command("schemas")
@click.argument("kind", required=False)
@json_option
def command(kind: str | None, as_json: bool) -> None:
    """List the kinds of results, or print the JSON Schema of one KIND."""
    from outcrop.analysis.validation import json_schema, known_kinds

    if kind is not None:
        show_json(json_schema(kind))
        return
    rows = [
        {"kind": known.name, "version": known.version, "dimensions": list(known.dims), "summary": known.summary}
        for known in known_kinds().values()
    ]
    if as_json:
        show_json(rows)
        return
    show_table(rows, {"kind": "kind", "version": "version", "dimensions": "dimensions", "summary": "what it holds"})
