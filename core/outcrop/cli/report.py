"""``outcrop report``: one HTML file that shows a study's results."""

from pathlib import Path

import click


@click.command("report")
@click.argument("location", metavar="STUDY")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to write; STUDY.html in the current folder by default.",
)
@click.option("--title", help="Title; the study's name by default.")
def command(location: str, output: Path | None, title: str | None) -> None:
    """Write one self-contained HTML file that shows all results of STUDY, and opens offline."""
    import outcrop

    study = outcrop.open(location)
    # Resolved, so that '.' has a name too.
    remote = "://" in location
    folder = Path(location) if remote else Path(location).resolve()
    name = folder.name.removesuffix(".zarr")
    if output is None and not remote and Path.cwd().resolve().is_relative_to(folder):
        raise click.UsageError("The current folder lies in the study; say where the report goes: -o FILE.")
    path = outcrop.write_report(study.results, study.data, output or Path(f"{name}.html"), title=title or name)
    click.echo(f"Report: {path}")
