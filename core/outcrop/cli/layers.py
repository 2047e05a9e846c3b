"""``outcrop layers``: what can be captured of a model."""

from dataclasses import asdict

import click

from outcrop.cli.display import show_json, show_table, size_text
from outcrop.cli.options import json_option, layers_help


@click.command("layers")
@click.argument("reference")
@click.option("--layers", "selection", default="all", show_default=True, help=layers_help)
@json_option
def command(reference: str, selection: str, as_json: bool) -> None:
    """List what can be captured of the model REFERENCE: name, kind, shape and bytes per sample."""
    from outcrop.capture.source import bytes_per_sample
    from outcrop.models import load_model, select_layers

    model = load_model(reference, device="cpu")
    chosen = select_layers(model, selection)
    rows = [asdict(layer) | {"bytes_per_sample": bytes_per_sample(layer)} for layer in chosen]
    if as_json:
        show_json({"model": model.name, "source": model.source, "layers": rows})
        return
    for row in rows:
        row["shape"] = " x ".join(map(str, row["shape"])) or "scalar"
        row["bytes"] = size_text(row["bytes_per_sample"])
    columns = {"index": "#", "name": "layer", "kind": "kind", "operation": "operation", "shape": "shape"}
    show_table(rows, columns | {"dtype": "type", "bytes": "per sample"})
    total = sum(row["bytes_per_sample"] for row in rows)
    click.echo(f"\n{len(rows)} of {len(model.layers)} layers of {model.name}, {size_text(total)} per sample")
