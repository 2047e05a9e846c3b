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
    """
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
