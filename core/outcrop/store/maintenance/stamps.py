"""The provenance of a stored result, where it is whole."""

import json
from typing import Any

import zarr


def stamp_of(run: object) -> dict[str, Any] | None:
    """Return the provenance of a run's group, or None where it was never finished or cannot be read."""
    stamp = run.attrs.get("provenance") if isinstance(run, zarr.Group) else None
    if stamp is None:
        return None
    try:
        record: dict[str, Any] = json.loads(str(stamp))
    except json.JSONDecodeError:
        return None
    return record
