"""``outcrop plugins``: what is installed, what it offers, what is broken."""

from dataclasses import asdict, is_dataclass
from typing import Any

import click

from outcrop.cli.display import show_json, show_table
from outcrop.cli.options import json_option


@click.command("plugins")
@json_option
def command(as_json: bool) -> None:
    """List plugins, what they offer and which are broken."""
    from outcrop.plugins import plugin_registry

    registry = plugin_registry()
    rows = [_row(record) for record in registry.plugins()]
    analyses = [
        {"name": name, "summary": kind.summary, "version": kind.version, "parameters": _parameters(kind)}
        for name, kind in sorted(registry.analyses().items())
    ]
    if as_json:
        show_json({"plugins": rows, "analyses": analyses})
        return
    show_table(
        rows,
        {
            "name": "plugin",
            "distribution": "distribution",
            "version": "version",
            "offers": "offers",
            "status": "status",
        },
    )
    show_table(
        analyses, {"name": "analysis", "summary": "what it does", "parameters": "parameters"}, title="\nAnalyses"
    )


def _row(record: Any) -> dict[str, Any]:
    row = asdict(record) if is_dataclass(record) and not isinstance(record, type) else dict(record)
    return {
        key: value if isinstance(value, str | int | list | tuple | dict) else str(value) for key, value in row.items()
    }


def _parameters(kind: Any) -> list[str]:
    return [f"{name}={field.default}" for name, field in kind.parameters.model_fields.items()]
