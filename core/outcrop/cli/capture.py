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

_COLUMNS = {"model": "model", "layers": "layers", "samples": "samples", "size": "size"}


@click.command("capture")
@model_options
@data_options
@study_option
@click.option("--layers", "selection", default="block", show_default=True, help=layers_help)
@click.option("--batch-size", default=64, show_default=True, type=click.IntRange(1), help="Samples of a forward pass.")
@click.option(
    "--reduction",
    "reduction_text",
    default="none",
    show_default=True,
    metavar="TEXT",
    help="What to keep of each layer: spatial_mean (over y and x, or tokens), positions:N (of the image, the same in "
    "every layer and model), projection:N (random, keeps inner products), float16; joined by '+'. "
    "',seed=N' draws other positions or another projection.",
)
@click.option(
    "--compression",
    type=click.Choice(["none", "zstd", "lz4"]),
    default="none",
    show_default=True,
    help="Of the stored values, without loss: smaller, and slower to write and read.",
)
@click.option("--resume", is_flag=True, help="Continue a capture that is there; refuse where anything has changed.")
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
    reduction_text: str,
    compression: str,
    resume: bool,
    as_json: bool,
) -> None:
    """Store activations of models over data in a study. Run it again to continue after an interruption."""
    import outcrop
    from outcrop.capture.reductions import parse_reduction
    from outcrop.models import select_layers
    from outcrop.store.planning.space import capture_bytes, check_space, stored_bytes

    # What can be refused is refused before a study is made or anything is captured.
    reduction = parse_reduction(reduction_text)
    description = "none" if reduction is None else reduction.description
    models = load_models(references, device)
    selected = [(model, select_layers(model, selection)) for model in models]
    data = load_samples(data_reference, limit, strict)
    check_samples(models, data)
    chosen = [
        (model, layers if reduction is None else tuple(map(reduction.reduced, layers))) for model, layers in selected
    ]
    stored = sum(
        stored_bytes(location, model, layers, data, batch_size=batch_size, reduction=description)
        for model, layers in chosen
    )
    check_space(location, [layer for _, layers in chosen for layer in layers], len(data), stored=stored)
    study = outcrop.open(location, mode="a", progress=progress)
    rows: list[dict[str, Any]] = []
    for model, layers in chosen:
        captured = study.capture(
            model,
            data,
            layers=selection,
            batch_size=batch_size,
            reduction=description,
            resume=resume,
            compression=compression,  # type: ignore[arg-type] # click has checked the choice
        )
        size = size_text(capture_bytes(layers, len(data)))
        row: dict[str, Any] = {"model": model.name, "layers": len(captured), "samples": len(data), "size": size}
        rows.append(row | ({"non_finite": counts} if (counts := _non_finite(captured)) else {}))
    if as_json:
        show_json({"study": location, "captures": rows})
        return
    show_table(rows, _COLUMNS)
    click.echo("")
    for row in rows:
        for layer, count in row.get("non_finite", {}).items():
            click.echo(f"Not finite: {count} values of {layer} of {row['model']} are NaN or infinite.")
    click.echo(f"Study: {location}")


def _non_finite(captured: Any) -> dict[str, int]:
    """Return how many stored values of each layer are not finite, where any are."""
    from outcrop.store.ledger import read_record

    record = read_record(captured.group)
    return {} if record is None else record.non_finite()
