"""``outcrop report``: one HTML file that shows a study's results."""

from pathlib import Path

import click


@click.command("report")
@click.argument("location", metavar="STUDY")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="File to write; STUDY.html by default."
)
@click.option("--title", help="Title; the study's name by default.")
def command(location: str, output: Path | None, title: str | None) -> None:
    """Write one self-contained HTML file that shows all results of STUDY, and opens offline."""
    import outcrop

    study = outcrop.open(location)
    name = location.rstrip("/").rsplit("/", 1)[-1]
    stem = name.removesuffix(".zarr")
    path = outcrop.write_report(study.results, study.data, output or Path(f"{stem}.html"), title=title or stem)
    click.echo(f"Report: {path}")
