"""Remove from a study what was planned to go; safe against being killed at any moment."""

from collections.abc import Callable, Iterable

import zarr

from outcrop.store.ledger import CaptureRecord, read_record, write_record
from outcrop.store.maintenance.objects import METADATA, Objects, metadata_first
from outcrop.store.maintenance.planning import Removal


def prune(root: zarr.Group, removals: Iterable[Removal], *, refresh: Callable[[], None]) -> None:
    """Remove what was planned; the study's write lock must be held.

    First the ledgers let go of it, then its metadata goes from the top down, then the consolidated metadata is
    renewed, and only then the values go. So no reader ever takes a missing value for a stored one, and whatever is
    left when this is killed is found by the next pruning.

    Args:
        root: Of the study.
        removals: From :func:`plan_pruning`.
        refresh: Renews the consolidated metadata.
    """
    objects, removals = Objects(root), list(removals)
    _forget_layers(root, removals)
    for removal in removals:
        if removal.is_group:
            objects.remove(metadata_first(objects.sizes(removal.path)))
    for parent in {removal.path.rpartition("/")[0] for removal in removals if removal.is_group}:
        # An analysis without runs, or a study without captures, needs no group.
        if not metadata_first(set(objects.sizes(parent)) - {f"{parent}/{METADATA}"}):
            objects.remove([f"{parent}/{METADATA}"])
    refresh()
    for removal in removals:
        if removal.is_group:
            objects.remove_below(removal.path)
        else:
            objects.remove([removal.path])


def _forget_layers(root: zarr.Group, removals: Iterable[Removal]) -> None:
    forgotten: dict[str, set[str]] = {}
    for removal in removals:
        if removal.layer is not None:
            forgotten.setdefault(removal.path.rpartition("/")[0], set()).add(removal.layer)
    for path, names in forgotten.items():
        capture: zarr.Group = root[path]  # type: ignore[assignment] # a Group
        record = read_record(capture)
        if record is not None:
            write_record(capture, _without(record, names))


def _without(record: CaptureRecord, names: set[str]) -> CaptureRecord:
    kept = [(entry, tuple(name for name in entry.layers if name not in names)) for entry in record.ledger]
    counts = [{name: count for name, count in entry.non_finite.items() if name not in names} for entry, _ in kept]
    ledger = [
        entry.model_copy(update={"layers": layers, "non_finite": count})
        for (entry, layers), count in zip(kept, counts, strict=True)
        if layers
    ]
    layers = tuple(layer for layer in record.layers if layer.name not in names)
    return record.model_copy(update={"layers": layers, "ledger": tuple(ledger)})
