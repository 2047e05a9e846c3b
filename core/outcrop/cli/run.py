"""``outcrop run``: run an analysis and store its result."""

from typing import TYPE_CHECKING

import click

from outcrop.cli.display import progress, show_json, size_text
from outcrop.cli.options import (
    check_samples,
    data_options,
    json_option,
    layers_help,
    load_models,
    load_samples,
    model_options,
    parse_parameters,
    study_option,
)
from outcrop.cli.summaries import result_record, show_result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from outcrop.data import Data
    from outcrop.models import Layer, Model
    from outcrop.store.study import Study


@click.command("run")
@click.argument("analysis")
@model_options
@data_options
@study_option
@click.option("--layers", "selection", default="all", show_default=True, help=layers_help)
@click.option("-p", "--parameter", "pairs", multiple=True, metavar="NAME=VALUE", help="Parameter of the analysis.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Determines every random choice.")
@click.option(
    "--keep-activations",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    help="Store what was analysed: auto keeps up to 2 GB.",
)
@click.option("--batch-size", default=64, show_default=True, type=click.IntRange(1), help="Samples of a stored chunk.")
@json_option
def command(
    analysis: str,
    references: tuple[str, ...],
    device: str,
    data_reference: str,
    limit: int | None,
    strict: bool,
    location: str,
    selection: str,
    pairs: tuple[str, ...],
    seed: int,
    keep_activations: str,
    batch_size: int,
    as_json: bool,
) -> None:
    """Run ANALYSIS on models and data, and store its result with its provenance in a study.

    \b
    outcrop run blocks --model timm:resnet18 --model onnx:net.onnx --data photos/ --study s.zarr
    """  # noqa: D301 - click takes the character itself
    import outcrop
    from outcrop.analysis.run import make_parameters
    from outcrop.models import select_layers
    from outcrop.plugins import plugin_registry

    # What can be refused at once is refused before anything is loaded or made.
    parameters = parse_parameters(pairs)
    make_parameters(plugin_registry().analysis(analysis), parameters)
    models = load_models(references, device)
    chosen = [(model, select_layers(model, selection)) for model in models]
    data = load_samples(data_reference, limit, strict)
    check_samples(models, data)
    study = outcrop.open(location, mode="a", progress=progress)
    study.check(analysis, models=models, data=data, layers=selection, parameters=parameters, seed=seed)
    said = _keep(study, chosen, data, selection, keep_activations, batch_size)
    result = study.run(analysis, models=models, data=data, layers=selection, parameters=parameters, seed=seed)
    if as_json:
        show_json({"study": location} | result_record(result))
        return
    show_result(result)
    click.echo(f"\n{said}\nStudy: {location}\nReport: outcrop report {location}")


def _keep(
    study: "Study",
    chosen: "Sequence[tuple[Model, Sequence[Layer]]]",
    data: "Data",
    selection: str,
    keep: str,
    batch_size: int,
) -> str:
    """Store the activations that are to be analysed where asked or where they are small, and say what was done."""
    from outcrop.store.planning.space import capture_bytes, check_space, fits_automatically, stored_bytes

    batched = [model.name for model, _ in chosen if model.mode != "evaluation"]
    if batched:
        return f"Activations: streamed and not kept (batch norm of {batched[0]} takes its statistics from each batch)"
    sizes = [capture_bytes(layers, len(data)) for _, layers in chosen]
    if keep == "never" or (keep == "auto" and not fits_automatically(study.location, sizes)):
        return f"Activations: {size_text(sum(sizes))}, streamed and not kept (--keep-activations always keeps them)"
    stored = sum(stored_bytes(study.location, model, layers, data, batch_size=batch_size) for model, layers in chosen)
    check_space(study.location, [layer for _, layers in chosen for layer in layers], len(data), stored=stored)
    for model, _ in chosen:
        study.capture(model, data, layers=selection, batch_size=batch_size)
    return f"Activations: {size_text(sum(sizes))}, kept in the study"
