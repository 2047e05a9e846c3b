"""Results in a study: written whole or not at all, validated when opened."""

import json
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr

from outcrop.analysis.provenance import Provenance
from outcrop.analysis.validation import known_kinds, upgrade_result
from outcrop.errors import AnalysisNotFoundError, StudyError, did_you_mean
from outcrop.store.layout import escape, is_remote, strings

_STAMP = "provenance"


class UnknownKindWarning(UserWarning):
    """A stored result is of a kind that no installed plugin declares."""


def has_result(root: zarr.Group, analysis: str, run: str) -> bool:
    """Return whether a run is completely stored."""
    path = f"results/{escape(analysis)}/{run}"
    return path in root and _STAMP in root[path].attrs


def write_result(root: zarr.Group, location: str, leaves: Mapping[str, xr.Dataset], provenance: Provenance) -> str:
    """Store the leaves of a result and return its run id; the provenance, written last, makes it count."""
    path = f"results/{escape(provenance.analysis)}/{provenance.run_id}"
    if path in root and not is_remote(location):
        # A run that was killed while it was written: nothing has counted it yet.
        shutil.rmtree(Path(location) / path)
    for leaf, dataset in leaves.items():
        storable(dataset).to_zarr(location, group=f"{path}/{leaf}", mode="w", zarr_format=3, consolidated=False)
    root.require_group(path).attrs[_STAMP] = provenance.to_json()
    return provenance.run_id


def read_result(root: zarr.Group, location: str, analysis: str, run: str | None = None) -> xr.DataTree:
    """Return one result, validated; the newest run of the analysis unless one is named.

    Raises:
        AnalysisNotFoundError: The study holds no such result.
        SchemaError: What is stored does not satisfy its kind, or was written by a newer version.
    """
    runs = stored_runs(root)
    if analysis not in runs:
        raise AnalysisNotFoundError(
            f"The study {location} holds no result of {analysis!r}.{did_you_mean(analysis, runs)} "
            f"It holds {', '.join(runs) or 'none'}; 'outcrop run {analysis}' makes one."
        )
    if run is not None and run not in runs[analysis]:
        raise AnalysisNotFoundError(
            f"The study {location} holds no run {run!r} of {analysis!r}; it holds {', '.join(runs[analysis])}."
        )
    chosen = run or runs[analysis][-1]
    path = f"results/{escape(analysis)}/{chosen}"
    group: zarr.Group = root[path]  # type: ignore[assignment] # a Group
    leaves = {}
    for leaf in sorted(group.group_keys()):
        stored = xr.open_zarr(location, group=f"{path}/{leaf}", chunks=None, consolidated=False)
        # A folder lists its files in any order; a result shows its variables in one.
        dataset = stored[sorted(map(str, stored.data_vars))]
        leaves[leaf] = _checked(dataset, f"{location}/{path}/{leaf}")
    tree = xr.DataTree.from_dict(leaves)
    tree.attrs = {_STAMP: group.attrs[_STAMP]}
    return tree


def _checked(dataset: xr.Dataset, place: str) -> xr.Dataset:
    """Return a stored leaf in the present version of its kind; one whose plugin is gone, as it is stored."""
    if dataset.attrs.get("kind") in known_kinds():
        return upgrade_result(dataset)
    warnings.warn(
        f"No installed plugin declares the result kind {dataset.attrs.get('kind')!r} of {place}; it is handed out "
        "as it is stored, unchecked.",
        UnknownKindWarning,
        stacklevel=4,
    )
    return dataset


def stored_runs(root: zarr.Group) -> dict[str, list[str]]:
    """Return the complete runs of every analysis, oldest first."""
    if "results" not in root:
        return {}
    found: dict[str, list[str]] = {}
    results: zarr.Group = root["results"]  # type: ignore[assignment] # a Group
    for _, analysis in sorted(results.groups()):
        finished: list[tuple[str, str, str]] = []
        for run, group in analysis.groups():
            if _STAMP in group.attrs:
                record = _read_stamp(group, f"results/{analysis.basename}/{run}")
                finished.append((record["finished"], run, record["analysis"]))
        if finished:
            found[finished[0][2]] = [run for _, run, _ in sorted(finished)]
    return found


def _read_stamp(group: zarr.Group, place: str) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(str(group.attrs[_STAMP]))
    except json.JSONDecodeError as error:
        raise StudyError(f"The provenance of {place} is damaged: {error}. Delete that group and run again.") from error
    return record


def storable(dataset: xr.Dataset) -> xr.Dataset:
    """Return a dataset with every text as variable-length strings."""
    made = dataset.copy()
    for name, variable in dataset.variables.items():
        if variable.dtype.kind in "OU":
            made[name] = (variable.dims, strings(np.asarray(variable.values)), variable.attrs)
    return made
