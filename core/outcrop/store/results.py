"""Results in a study: written whole or not at all, validated when opened."""

import json
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import xarray as xr
import zarr
from zarr.storage import LocalStore

from outcrop.analysis.provenance import Provenance
from outcrop.analysis.validation import known_kinds, upgrade_result
from outcrop.errors import AnalysisNotFoundError, StudyError, did_you_mean
from outcrop.store.layout import child_names, consolidated, escape, read_dataset, strings, write_dataset

_STAMP = "provenance"


class UnknownKindWarning(UserWarning):
    """A stored result is of a kind that no installed plugin declares."""


def has_result(root: zarr.Group, analysis: str, run: str) -> bool:
    """Return whether a run is completely stored."""
    path = f"results/{escape(analysis)}/{run}"
    return path in root and _STAMP in root[path].attrs


def write_result(root: zarr.Group, leaves: Mapping[str, xr.Dataset], provenance: Provenance) -> str:
    """Store the leaves of a result and return its run id; the provenance, written last, makes it count."""
    path = f"results/{escape(provenance.analysis)}/{provenance.run_id}"
    if path in root:
        # A run that was killed while it was written: nothing has counted it yet.
        del root[path]
    for leaf, dataset in leaves.items():
        write_dataset(root, f"{path}/{leaf}", storable(dataset))
    root.require_group(path).attrs[_STAMP] = provenance.to_json()
    return provenance.run_id


def read_result(root: zarr.Group, location: str, analysis: str, run: str | None = None) -> xr.DataTree:
    """Return one result, validated; the newest run of the analysis unless one is named.

    Raises:
        AnalysisNotFoundError: The study holds no such result.
        SchemaError: What is stored does not satisfy its kind, or was written by a newer version.
    """
    found = _stored(root)
    if analysis not in found:
        raise AnalysisNotFoundError(
            f"The study {location} holds no result of {analysis!r}.{did_you_mean(analysis, found)} "
            f"It holds {', '.join(found) or 'none'}; 'outcrop run {analysis}' makes one."
        )
    runs = found[analysis]
    if run is not None and run not in runs:
        raise AnalysisNotFoundError(
            f"The study {location} holds no run {run!r} of {analysis!r}; it holds {', '.join(runs)}."
        )
    return _read(runs[run or next(reversed(runs))], location)


def read_results(root: zarr.Group, location: str) -> xr.DataTree:
    """Return all results as ``/<analysis>/<run>/<leaf>``, validated.

    Raises:
        SchemaError: What is stored does not satisfy its kind, or was written by a newer version.
    """
    leaves: dict[str, xr.Dataset | xr.DataTree] = {"/": xr.Dataset()}
    for analysis, runs in _stored(root).items():
        for run, group in runs.items():
            tree = _read(group, location)
            leaves[f"/{analysis}/{run}"] = xr.Dataset(attrs=tree.attrs)
            leaves.update({f"/{analysis}/{run}/{name}": node.to_dataset() for name, node in tree.children.items()})
    return xr.DataTree.from_dict(leaves)


def _read(group: zarr.Group, location: str) -> xr.DataTree:
    leaves = {}
    for leaf, member in sorted(group.groups()):
        stored = read_dataset(member)
        # A folder lists its files in any order; a result shows its variables in one.
        dataset = stored[sorted(map(str, stored.data_vars))]
        leaves[leaf] = _checked(dataset, f"{location}/{group.path}/{leaf}")
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
    return {analysis: list(runs) for analysis, runs in _stored(root).items()}


def _stored(root: zarr.Group) -> dict[str, dict[str, zarr.Group]]:
    """Return the groups of all complete runs by analysis and run, oldest first."""
    listed = [
        f"results/{analysis}/{run}"
        for analysis in child_names(root, "results")
        for run in child_names(root, f"results/{analysis}")
    ]
    if not listed:
        return {}
    found: dict[str, list[tuple[str, str, zarr.Group]]] = {}
    for path, group in _run_groups(root, listed):
        record = _read_stamp(group, path)
        found.setdefault(record["analysis"], []).append((record["finished"], group.basename, group))
    return {
        analysis: {run: group for _, run, group in sorted(runs, key=lambda entry: entry[:2])}
        for analysis, runs in sorted(found.items())
    }


def _run_groups(root: zarr.Group, paths: list[str]) -> Iterator[tuple[str, zarr.Group]]:
    """Yield the groups of complete runs.

    What is there is listed. Where every read is a request over a network, a run is then taken from the consolidated
    metadata if it is complete there, for nothing of it changes afterwards; one that is not in there yet is read itself.
    """
    known = None if isinstance(root.store, LocalStore) else consolidated(root)
    for path in paths:
        group = known.get(path) if known is not None else None
        if not isinstance(group, zarr.Group) or _STAMP not in group.attrs:
            group = root.get(path)
        if isinstance(group, zarr.Group) and _STAMP in group.attrs:
            yield path, group


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
