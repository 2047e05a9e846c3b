"""``outcrop capture``: store activations in a study."""

from typing import Any

import click

from outcrop.cli.display import progress, show_json, show_table, size_text
from outcrop.cli.options import (
    check_samples,
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
    from outcrop.store.plan import capture_bytes, check_space, stored_bytes

    # What can be refused is refused before a study is made or anything is captured.
    models = load_models(references, device)
    chosen = [(model, select_layers(model, selection)) for model in models]
    data = load_samples(data_reference, limit, strict)
    check_samples(models, data)
    stored = sum(stored_bytes(location, model, layers, data) for model, layers in chosen)
    check_space(location, [layer for _, layers in chosen for layer in layers], len(data), stored=stored)
    study = outcrop.open(location, mode="a", progress=progress)
    rows: list[dict[str, Any]] = []
    for model, layers in chosen:
        captured = study.capture(model, data, layers=selection, batch_size=batch_size)
        size = size_text(capture_bytes(layers, len(data)))
        rows.append({"model": model.name, "layers": len(captured), "samples": len(data), "size": size})
    if as_json:
        show_json({"study": location, "captures": rows})
        return
    show_table(rows, {"model": "model", "layers": "layers", "samples": "samples", "size": "size"})
    click.echo(f"\nStudy: {location}")
