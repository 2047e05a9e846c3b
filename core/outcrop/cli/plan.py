"""``outcrop plan``: what a capture will take, before it begins."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from outcrop.cli.display import rate_text, show_json, show_table, size_text
from outcrop.cli.options import (
    check_samples,
    data_options,
    json_option,
    layers_help,
    load_models,
    load_samples,
    model_options,
)

if TYPE_CHECKING:
    from outcrop.store.planning.forecast import Forecast, LayerForecast


@click.command("plan")
@model_options
@data_options
@click.option("--study", "location", metavar="PATH", help="Study to write to: what it holds and the free disk count.")
@click.option("--layers", "selection", default="block", show_default=True, help=layers_help)
@click.option("--batch-size", default=64, show_default=True, type=click.IntRange(1), help="Samples of a forward pass.")
@click.option(
    "--reduction", default="none", show_default=True, metavar="TEXT", help="As for capture: spatial_mean, float16, ..."
)
@json_option
def command(
    references: tuple[str, ...],
    device: str,
    data_reference: str,
    limit: int | None,
    strict: bool,
    location: str | None,
    selection: str,
    batch_size: int,
    reduction: str,
    as_json: bool,
) -> None:
    """Show what capturing layers of models over data will take: layers, bytes, free disk, memory and time.

    Nothing is written. A small batch is run through every model for the time. Where the capture does not fit on the
    disk, the exit code is 1, as it would be then.
    """
    from outcrop.capture.reductions import parse_reduction
    from outcrop.models import select_layers
    from outcrop.store.planning.forecast import forecast
    from outcrop.store.planning.space import check_space

    parsed = parse_reduction(reduction)
    models = load_models(references, device)
    chosen = [(model, select_layers(model, selection)) for model in models]
    data = load_samples(data_reference, limit, strict)
    check_samples(models, data)
    plan = forecast(chosen, data, location=location, batch_size=batch_size, reduction=parsed)
    if as_json:
        show_json(_record(plan, location))
    else:
        _show(plan, location)
    if location is not None:
        check_space(location, [one.layer for one in plan.layers], plan.samples, stored=plan.present_bytes)


def _show(plan: "Forecast", location: str | None) -> None:
    several = len(plan.timings) > 1
    columns = {"layer": "layer", "kind": "kind", "shape": "shape"}
    types = sorted({one.layer.dtype for one in plan.layers})
    # Where all are alike, the summary says it, and the table fits a terminal of 80 columns.
    columns |= {"type": "type"} if len(types) > 1 else {}
    columns |= {"sample": "sample", "total": "total", "shards": "files", "read": "chunk"}
    if any(one.present for one in plan.layers):
        columns["present"] = "stored"
    show_table([_row(one, plan.samples) for one in plan.layers], {"model": "model"} | columns if several else columns)
    click.echo("")
    for label, text in _summary(plan, location):
        click.echo(f"{click.style(f'{label:<9}', bold=True)}{text}")


def _row(one: "LayerForecast", samples: int) -> dict[str, Any]:
    return {
        "model": one.model,
        "layer": one.layer.name,
        "kind": one.layer.kind,
        "shape": " x ".join(map(str, one.layer.shape)) or "scalar",
        "type": one.layer.dtype,
        "sample": size_text(one.bytes_per_sample),
        "total": size_text(one.stored_bytes),
        "shards": one.shards,
        "read": one.chunk_samples,
        "present": "all" if one.present == samples else str(one.present) if one.present else "",
    }


def _summary(plan: "Forecast", location: str | None) -> list[tuple[str, str]]:
    layers = f"{len(plan.layers)} layers" if len(plan.layers) != 1 else "1 layer"
    types = ", ".join(sorted({one.layer.dtype for one in plan.layers}))
    held = f"{size_text(plan.stored_bytes)} of {types} in {plan.files} files"
    lines = [("total", f"{layers} of {plan.samples} samples: {held}")]
    lines.append(("chunk", "how many samples are read at once"))
    if plan.present_bytes:
        lines.append(
            ("stored", f"{size_text(plan.present_bytes)}, so {size_text(plan.needed_bytes)} are to be written")
        )
    if plan.free is not None:
        fits = click.style("fits", fg="green") if plan.fits else click.style("does not fit", fg="red")
        lines.append(("disk", f"{size_text(plan.free)} free at {location}: {fits}"))
    elif location is None:
        lines.append(("disk", "not looked at; name the study with --study"))
    lines.append(("memory", f"up to {size_text(plan.memory)} of values, beside the network"))
    lines.append(("time", f"about {time_text(plan.seconds)}, without the disk, from one batch of each model:"))
    for timing in plan.timings:
        where = f"{timing.device} with {_threads(timing.threads)}" if timing.device == "cpu" else timing.device
        batch = f"batch of {timing.samples}"
        lines.append(("", f"{timing.model}, {rate_text(timing.rate, 'samples')} on {where} ({batch})"))
    return lines


def _record(plan: "Forecast", location: str | None) -> dict[str, Any]:
    layers = [asdict(one) | {"layer": one.layer.name, **_described(one)} for one in plan.layers]
    timings = [asdict(timing) | {"samples_per_second": timing.rate} for timing in plan.timings]
    return {
        "study": location,
        "samples": plan.samples,
        "layers": layers,
        "stored_bytes": plan.stored_bytes,
        "present_bytes": plan.present_bytes,
        "needed_bytes": plan.needed_bytes,
        "files": plan.files,
        "free_bytes": plan.free,
        "fits": plan.fits,
        "memory_bytes": plan.memory,
        "seconds": plan.seconds,
        "timings": timings,
    }


def _described(one: "LayerForecast") -> dict[str, Any]:
    return {name: getattr(one.layer, name) for name in ("kind", "index", "operation", "shape", "dims", "dtype")}


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def time_text(seconds: float) -> str:
    """Return a time as people say it."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"
