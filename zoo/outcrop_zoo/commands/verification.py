"""``outcrop zoo verify``."""

from dataclasses import asdict

import click

from outcrop.cli.display import progress, show_json, show_table
from outcrop.cli.options import json_option
from outcrop_zoo.commands.rows import patterns_argument


@click.command("verify")
@patterns_argument
@click.option("--strict", is_flag=True, help="Fail also when a model could not be tested here.")
@json_option
def verify_models(patterns: tuple[str, ...], strict: bool, as_json: bool) -> None:
    """Check sha256, graph and stated accuracy of models; exit with 1 where one fails.

    Files of the web are fetched. A model is skipped where its package, its file or its test data cannot be had here.
    A card that cannot be used fails.
    """
    from outcrop_zoo.catalogue import Catalogue, matching_names

    catalogue = Catalogue()
    broken = catalogue.broken
    for pattern in patterns:
        if pattern not in broken and pattern not in catalogue.entries and pattern in catalogue.recipes:
            catalogue.find(pattern)  # says how to build it
    names = matching_names(patterns, [*catalogue.entries, *broken])
    from outcrop_zoo.verify import Verification, verify

    rows = [
        asdict(
            Verification(name, "failed", str(broken[name]))
            if name in broken
            else verify(catalogue.entries[name], progress=progress)
        )
        for name in names
    ]
    outcomes = ("verified", "skipped", "failed")
    counts = {outcome: sum(row["outcome"] == outcome for row in rows) for outcome in outcomes}
    if as_json:
        show_json({"models": rows, **counts})
    else:
        show_table(rows, {"name": "name", "outcome": "outcome", "detail": "detail"})
        click.echo("\n" + ", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
    if counts["failed"] or (strict and counts["skipped"]):
        click.get_current_context().exit(1)
