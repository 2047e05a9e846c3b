"""``outcrop plugins``: what is installed, what it offers, what is broken."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from outcrop.cli.display import show_json, show_table
from outcrop.cli.options import json_option

if TYPE_CHECKING:
    from collections.abc import Mapping

    from outcrop.analysis.analysis import Analysis


SHOWN_NAMES = 8
"""Names of one kind that a plugin's row shows; ``--json`` has all."""


@click.command("plugins")
@json_option
def command(as_json: bool) -> None:
    """List plugins, what they offer and which are broken."""
    from outcrop.plugins import plugin_registry

    registry = plugin_registry()
    records = registry.plugins()
    analyses = [
        {"name": name, "summary": kind.summary, "version": kind.version, "parameters": _parameters(kind)}
        for name, kind in sorted(registry.analyses().items())
    ]
    if as_json:
        show_json({"plugins": [asdict(record) for record in records], "analyses": analyses})
        return
    headings = {heading: heading for heading in ("distribution", "version", "status", "offers")}
    show_table(
        [asdict(record) | {"offers": _offers(record.offers)} for record in records], {"name": "plugin"} | headings
    )
    errors = [{"name": record.name, "error": error} for record in records for error in record.errors]
    if errors:
        show_table(errors, {"name": "plugin", "error": "what is broken"}, title="\nBroken")
    show_table(
        analyses, {"name": "analysis", "summary": "what it does", "parameters": "parameters"}, title="\nAnalyses"
    )


def _offers(offers: "Mapping[str, tuple[str, ...]]") -> str:
    return "; ".join(f"{hook.replace('_', ' ')}: {_listed(names)}" for hook, names in offers.items())


def _listed(names: tuple[str, ...]) -> str:
    more = len(names) - SHOWN_NAMES
    return ", ".join(names[:SHOWN_NAMES]) + (f" and {more} more" if more > 0 else "")


def _parameters(kind: "type[Analysis]") -> list[str]:
    return [f"{name}={field.default}" for name, field in kind.parameters.model_fields.items()]
