"""Results as text and as JSON, by the kind of each leaf."""

import json
from typing import TYPE_CHECKING, Any

import click

from outcrop.cli.display import show_table

if TYPE_CHECKING:
    import xarray as xr

_BLOCK_COLUMNS = {
    "block_model": "model",
    "first_layer": "from",
    "last_layer": "to",
    "layer_count": "layers",
    "score": "score",
    "similarity": "mean CKA",
    "contrast": "contrast",
    "contrast_without_pc1": "without PC1",
    "pc_support": "PC1 inside",
    "pc_support_outside": "PC1 outside",
    "is_block": "block",
}


def show_result(result: "xr.DataTree") -> None:
    """Print a result: blocks as tables, other kinds by what they hold."""
    record = json.loads(result.attrs["provenance"])
    models = ", ".join(model["name"] for model in record["models"])
    click.echo(f"{record['analysis']} of {models} on {record['data']['samples']} samples of {record['data']['name']}\n")
    for name, leaf in result.children.items():
        if leaf.attrs.get("kind") == "blocks":
            _show_blocks(leaf.to_dataset())
        else:
            sizes = ", ".join(f"{size} {dimension}" for dimension, size in leaf.sizes.items())
            click.echo(f"{name}: {', '.join(map(str, leaf.data_vars))} ({sizes})")
            for line in _findings(leaf.to_dataset()):
                click.echo(f"  {line}")


def result_record(result: "xr.DataTree") -> dict[str, Any]:
    """Return a result as plain values; arrays as nested lists."""
    leaves: dict[str, Any] = {}
    for name, leaf in result.children.items():
        dataset = leaf.to_dataset()
        leaves[name] = {"kind": dataset.attrs["kind"], "dims": dict(dataset.sizes)} | {
            str(key): variable.values.tolist() for key, variable in dataset.variables.items()
        }
    return {"provenance": json.loads(result.attrs["provenance"]), "leaves": leaves}


def _findings(dataset: "xr.Dataset") -> list[str]:
    """Return what a leaf says in words of each model or block, where it has a verdict or evidence."""
    found: dict[str, list[str]] = {}
    for name in ("verdict", "evidence"):
        dims = dataset[name].dims if name in dataset else ()
        labels = {"model": "model", "block": "block_model"}.get(str(dims[0]), "") if len(dims) == 1 else ""
        if labels in dataset:
            for label, text in zip(dataset[labels].values.tolist(), dataset[name].values.tolist(), strict=True):
                found.setdefault(label, []).append(text)
    return [f"{label}: {'; '.join(texts)}" for label, texts in found.items()]


def _show_blocks(blocks: "xr.Dataset") -> None:
    verdicts = [
        {"model": model, "verdict": verdict, "layers": f"{count} ({kind})"}
        for model, verdict, count, kind in zip(
            blocks["model"].values.tolist(),
            blocks["verdict"].values.tolist(),
            blocks["evaluated_layers"].values.tolist(),
            blocks["evaluated_kind"].values.tolist(),
            strict=True,
        )
    ]
    show_table(verdicts, {"model": "model", "verdict": "verdict", "layers": "layers evaluated"})
    if blocks.sizes["block"]:
        # What version 1.0 of the kind lacked is not in the results of every plugin.
        shown = {key: heading for key, heading in _BLOCK_COLUMNS.items() if key in blocks}
        columns = {key: blocks[key].values.tolist() for key in shown}
        rows = [{key: column[index] for key, column in columns.items()} for index in range(blocks.sizes["block"])]
        click.echo("")
        show_table(rows, shown, title="Intervals of similar layers")
    click.echo("")
