"""``outcrop results``: what a study holds."""

import json
from typing import Any

import click

from outcrop.cli.display import show_json, show_table
from outcrop.cli.options import json_option
from outcrop.cli.summaries import result_record, show_result


@click.command("results")
@click.argument("location", metavar="STUDY")
@click.argument("analysis", required=False)
@click.option("--run", "run_id", help="Run to show; the newest by default.")
@json_option
def command(location: str, analysis: str | None, run_id: str | None, as_json: bool) -> None:
    """List the results and captures of STUDY, or show the result of one ANALYSIS."""
    import outcrop

    study = outcrop.open(location)
    if analysis is not None:
        result = study.result(analysis, run_id)
        if as_json:
            show_json(result_record(result))
        else:
            show_result(result)
        return
    runs = [
        _run_row(node.attrs["provenance"])
        for tree in study.results.children.values()
        for node in tree.children.values()
    ]
    captures: list[dict[str, Any]] = [
        {"model": capture.model, "data": capture.data, "layers": len(capture), "samples": _samples(capture)}
        for capture in study.activations.captures()
    ]
    if as_json:
        show_json({"study": location, "results": runs, "captures": captures})
        return
    columns = {"analysis": "analysis", "run": "run", "models": "models", "data": "data", "samples": "samples"}
    show_table(runs, columns | {"finished": "finished"}, title="Results")
    show_table(
        captures, {"model": "model", "data": "data", "layers": "layers", "samples": "samples"}, title="\nActivations"
    )


def _samples(capture: Any) -> int:
    return min((capture.committed(layer) for layer in capture), default=0)


def _run_row(provenance: str) -> dict[str, Any]:
    record = json.loads(provenance)
    return {
        "analysis": record["analysis"],
        "run": record["run_id"],
        "models": [model["name"] for model in record["models"]],
        "data": record["data"]["name"],
        "samples": record["data"]["samples"],
        "finished": record["finished"],
    }
