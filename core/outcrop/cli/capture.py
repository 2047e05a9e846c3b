"""``outcrop capture``: store activations in a study."""

from typing import Any

import click

from outcrop.cli.display import progress, show_json, show_table, size_text
from outcrop.cli.options import (
    data_options,
    json_option,
    layers_help,
    load_models,
    load_samples,
    model_options,
    study_option,
)


@click.command("capture")
@model_options
@data_options
@study_option
@click.option("--layers", "selection", default="block", show_default=True, help=layers_help)
@click.option("--batch-size", default=64, show_default=True, type=click.IntRange(1), help="Samples of a forward pass.")
@json_option
def command(
    references: tuple[str, ...],
    device: str,
    data_reference: str,
    limit: int | None,
    strict: bool,
    location: str,
    selection: str,
    batch_size: int,
    as_json: bool,
) -> None:
    """Store activations of models over data in a study. Run it again to continue after an interruption."""
    import outcrop
    from outcrop.models import select_layers
    from outcrop.store.plan import check_space

    study = outcrop.open(location, mode="a", progress=progress)
    data = load_samples(data_reference, limit, strict)
    rows: list[dict[str, Any]] = []
    for model in load_models(references, device):
        size = check_space(location, select_layers(model, selection), len(data))
        captured = study.capture(model, data, layers=selection, batch_size=batch_size)
        rows.append({"model": model.name, "layers": len(captured), "samples": len(data), "size": size_text(size)})
    if as_json:
        show_json({"study": location, "captures": rows})
        return
    show_table(rows, {"model": "model", "layers": "layers", "samples": "samples", "size": "size"})
    click.echo(f"\nStudy: {location}")
