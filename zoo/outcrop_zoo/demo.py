"""``outcrop demo``: the main job on the bundled models and images, from weights to report."""

import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from outcrop import Data, Model, Study

STUDY_NAME = "study.zarr"
REPORT_NAME = "report.html"
FAMILY = "resnet-patches"
"""Of the bundled models: the one whose test images come with outcrop."""

BATCH_SIZE = 128
"""Half of the papers' batch: with the default number of images that makes eight, enough for intervals."""


@click.command("demo")
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("outcrop-demo"),
    show_default=True,
    help="Folder for the study and the report.",
)
@click.option("--samples", type=click.IntRange(16), default=1024, show_default=True, help="Images to look at.")
@click.option("--open/--no-open", "open_report", default=True, help="Open the report in a browser.")
def command(output: Path, samples: int, open_report: bool) -> None:
    """Analyse the bundled models of photograph patches, and open a report. Needs no network.

    Networks from the zoo see photograph patches that they were not trained on; their last layers are stored, the
    similarity of the outputs of all residual blocks is computed while they run, intervals of similar layers are looked
    for, and a report is written.
    """
    import outcrop
    from outcrop.cli.display import progress
    from outcrop.cli.summaries import show_result
    from outcrop_zoo.catalogue import bundled_cards

    output.mkdir(parents=True, exist_ok=True)
    location = output / STUDY_NAME
    images = outcrop.load_data("zoo:patches", limit=samples)
    models = [outcrop.load_model(f"zoo:{card.name}") for card in bundled_cards() if card.family == FAMILY]
    study = outcrop.open(location, mode="a", progress=progress)
    click.echo(f"{len(models)} models, {len(images)} images. Writing to {location}\n")
    _keep_last_layers(study, models, images)
    parameters = {"batch_size": BATCH_SIZE}
    show_result(study.run("blocks", models=models, data=images, layers="block", parameters=parameters))
    report = outcrop.write_report(study.results, study.data, output / REPORT_NAME, title="outcrop demo")
    click.echo(f"Study:  {location}\nReport: {report}")
    if open_report and webbrowser.open(report.absolute().as_uri()):
        click.echo("The report opens in your browser.")


def _keep_last_layers(study: "Study", models: "Sequence[Model]", images: "Data") -> None:
    """Store each network's last block, what is pooled of it, and its logits, so that there is something to query."""
    for model in models:
        last_block = [layer.name for layer in model.layers if layer.kind == "block"][-1]
        study.capture(model, images, layers=[last_block, "pool", "output"])
