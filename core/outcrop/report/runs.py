"""Read the runs of a study, newest first."""

import json
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from outcrop.errors import ReportError
from outcrop.report.figure import Run

if TYPE_CHECKING:
    import xarray as xr


def read_runs(results: "xr.DataTree") -> dict[str, list[Run]]:
    """Return the runs by analysis, the newest first, the most recently used analysis first.

    Args:
        results: ``/<analysis>/<run>/<leaf>``; each run carries the attribute ``provenance``, a JSON object.

    Raises:
        ReportError: There is no result.
    """
    runs: dict[str, list[Run]] = {}
    for analysis, group in results.children.items():
        found = [
            Run(
                analysis=analysis,
                run_id=run_id,
                leaves={leaf: tree.to_dataset() for leaf, tree in node.children.items()},
                provenance=_provenance(node.attrs.get("provenance")),
            )
            for run_id, node in group.children.items()
            if node.children
        ]
        if found:
            runs[analysis] = sorted(found, key=_moment, reverse=True)
    if not runs:
        raise ReportError(
            "There is nothing to report: the study holds no results. Run an analysis first: "
            "outcrop run blocks --model MODEL --data DATA --study STUDY."
        )
    return dict(sorted(runs.items(), key=lambda item: _moment(item[1][0]), reverse=True))


def command(run: Run) -> str:
    """Return the command line that repeats a run; its study and whatever was not recorded are left to the reader."""
    recorded = run.provenance
    if run.analysis == "tracking":
        return _tracker_call(recorded)
    words = ["outcrop", "run", run.analysis]
    for model in recorded.get("models", ()):
        words += ["--model", _model_option(str(model.get("name", "")), str(model.get("source", "")))]
    data = recorded.get("data") or {}
    if source := data.get("source", data.get("name")):
        words += ["--data", str(source)]
    if data.get("limit") is not None:
        words += ["--limit", str(data["limit"])]
    if selection := recorded.get("selection"):
        words += ["--layers", str(selection)]
    if recorded.get("seed") is not None:
        words += ["--seed", str(recorded["seed"])]
    for name, value in recorded.get("parameters", {}).items():
        if value is not None:
            words += ["-p", f"{name}={value if isinstance(value, str) else json.dumps(value)}"]
    return shlex.join([*words, "--study", "study.zarr"])


def _tracker_call(recorded: Mapping[str, Any]) -> str:
    """Return what a training loop called; its network and data are the reader's own."""
    asked = dict(recorded.get("parameters") or {})
    names = [str(model.get("name", "")) for model in recorded.get("models", ())]
    options = {"layers": recorded.get("selection") or None, "name": names[0] if names else None, "study": "study.zarr"}
    options |= {name: asked.get(name) for name in ("batch_size", "mode", "compare")}
    network = "network"
    if options["mode"] == "batch":  # which is the model's own, and no option of the tracker
        network = f"outcrop.load_model(network, name={options['name']!r}, batch_norm='batch')"
        options |= {"name": None, "mode": None}
    given = ", ".join(f"{name}={value!r}" for name, value in options.items() if value)
    return f"tracker = outcrop.Tracker({network}, images, {given})\ntracker(step)  # in the training loop"


def _model_option(name: str, source: str) -> str:
    # A reference usually ends in the model's own name; another one was given by hand.
    return f"{name}={source}" if name and source and name not in source else source or name


def provenance_rows(run: Run) -> list[tuple[str, str]]:
    """Return what is recorded of a run as pairs of label and text, the most telling first."""
    recorded = dict(run.provenance)
    if not recorded:
        return [("run", run.run_id), ("provenance", "none recorded")]
    rows = [("analysis", f"{run.analysis} {recorded.pop('version', '')}".strip())]
    recorded.pop("analysis", None)
    rows += [(f"model {_name(model)}", _source(model)) for model in recorded.pop("models", ())]
    if data := recorded.pop("data", None):
        samples = f"{data['samples']:,} samples; " if isinstance(data.get("samples"), int) else ""
        rows.append((f"data {_name(data)}", samples + _source(data)))
    for label in ("parameters", "seed", "started", "finished", "run_id", "environment"):
        if label in recorded:
            rows.append((label.replace("_", " "), _text(recorded.pop(label))))
    return rows + [(str(label), _text(value)) for label, value in recorded.items()]


def assumptions(run: Run) -> tuple[str, ...]:
    """Return a sentence for every model whose preprocessing was assumed because it states none itself."""
    return tuple(
        f"The images of {_name(model)} went through an assumed preprocessing: {text}."
        for model in run.provenance.get("models", ())
        if "assumed" in (text := str(model.get("preprocessing", "")).rstrip("."))
    )


def _provenance(text: object) -> Mapping[str, Any]:
    # A result without readable provenance is still worth showing; the table then says that none is recorded.
    try:
        recorded = json.loads(str(text))
    except json.JSONDecodeError:
        return {}
    return recorded if isinstance(recorded, dict) else {}


def _moment(run: Run) -> tuple[str, str]:
    return str(run.provenance.get("finished") or run.provenance.get("started") or ""), run.run_id


def _name(entry: Mapping[str, Any]) -> str:
    return str(entry.get("name", ""))


def _source(entry: Mapping[str, Any]) -> str:
    return "; ".join(
        str(entry[label]) if label == "source" else f"{label} {entry[label]}"
        for label in ("source", "fingerprint", "preprocessing", "mode")
        if entry.get(label)
    )


def _text(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(item)}" for name, item in value.items()) or "none"
    if isinstance(value, list) and len(value) > 12:
        return f"{len(value)}, {_text(value[0])} to {_text(value[-1])}"
    if isinstance(value, list):
        return ", ".join(_text(item) for item in value) or "none"
    return "none" if value is None else str(value)
