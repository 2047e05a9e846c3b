"""Where things are in a study, and which version of that layout this is.

study.zarr/
  data/<data>-<hash>/                          sample ids, labels, statistics, thumbnails
  activations/<model>-<data>-<hash>/<layer>/values
  results/<analysis>/<run>/<leaf>
"""

import hashlib
import json
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import xarray as xr
import zarr
from zarr.abc.store import Store
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.errors import ZarrUserWarning
from zarr.storage import LocalStore

from outcrop.errors import StudyError, StudyNotFoundError, StudyVersionError

FORMAT = "1.0"
_MARK = "outcrop_format"
_LONGEST = 100
# Taken by the layout itself, by zarr, and by Windows.
_RESERVED = frozenset(["", "sample", "zarr.json", "aux", "con", "nul", "prn"])


def is_remote(location: str) -> bool:
    """Return whether a location is a URL rather than a local path."""
    return "://" in location and not location.startswith("file://")


def open_root(store: Store, place: str, mode: str) -> zarr.Group:
    """Return the root group of a study, created first where the mode allows.

    Args:
        store: Where it is.
        place: The same for messages.
        mode: ``r`` or ``a``.

    Raises:
        StudyNotFoundError: Nothing there, and the mode is ``r``.
        StudyError: Something else than a study is there, or the mode is unknown.
        StudyVersionError: The study has a newer format.
    """
    if mode not in ("r", "a"):
        raise StudyError(f"Unknown mode {mode!r} for the study {place}; expected 'r' to read or 'a' to add.")
    if isinstance(store, LocalStore):
        _check_local(store.root, mode)
    if mode == "a" and store.read_only:
        raise StudyError(f"The store of {place} was opened to read; open it to write, or use mode='r'.")
    try:
        root = zarr.open_group(store, mode="r" if mode == "r" else "r+", zarr_format=3, use_consolidated=False)
    except FileNotFoundError:
        if mode == "r":
            raise _not_found(place) from None
        # Group and mark are one file: a study is never half a study.
        created = datetime.now(UTC).isoformat(timespec="seconds")
        root = zarr.create_group(store, zarr_format=3, attributes={_MARK: FORMAT, "created": created})
        consolidate(root)
    except json.JSONDecodeError as error:
        raise StudyError(
            f"The metadata of {place} is damaged: {error}. Its arrays may still be read one by one with zarr."
        ) from error
    check_format(root.attrs.get(_MARK), place)
    return root


def check_format(found: object, location: str) -> None:
    """Compare the format of a study with the one this version writes.

    Raises:
        StudyError: The group carries no format: it is not a study.
        StudyVersionError: The format is newer.
    """
    if not isinstance(found, str) or not found.split(".")[0].isdecimal():
        raise StudyError(f"{location} is a zarr group, but not an outcrop study; choose another path.")
    if int(found.split(".")[0]) > int(FORMAT.split(".")[0]):
        raise StudyVersionError(
            f"The study {location} has format {found}, written by a newer outcrop; this one reads up to {FORMAT}. "
            "Upgrade outcrop, or read it with xarray.open_datatree."
        )


def escape(name: str) -> str:
    """Return a name as a zarr node name: percent-encoded, and cut where a file system would not take it.

    A name that is reserved gets its first character encoded; a long one ends in a hash. The name itself stands in the
    attributes of its group. Two names that differ in case only need a file system that tells them apart; see
    :func:`layer_id`.
    """
    escaped = quote(name, safe=" ()[]+,=@")
    if escaped[:1] in (".", "_") or escaped.casefold() in _RESERVED:
        escaped = f"%{ord(escaped[0]):02X}{escaped[1:]}" if escaped else "%00"
    if len(escaped) > _LONGEST:
        escaped = f"{escaped[: _LONGEST - 13].rstrip('%')}~{_digest(name)}"
    return escaped


def layer_id(name: str) -> str:
    """Return the node name of a layer, which no other layer has, not even where case does not count.

    That of :func:`escape`; where the name has capitals, by which ``conv_0`` and ``Conv_0`` differ, a hash follows.
    """
    escaped = escape(name)
    plain = name == name.lower() and "~" not in name and not name.endswith((".", " "))
    return escaped if plain or escaped.endswith(f"~{_digest(name)}") else f"{escaped}~{_digest(name)}"


def layer_array(capture: zarr.Group, layer: str) -> "zarr.Array[Any]":
    """Return the array of a layer's values (sample, ...).

    Raises:
        KeyError: The layer is not stored.
    """
    try:
        array = capture[f"{layer_id(layer)}/values"]
    except KeyError:
        # Earlier versions named groups of layers by their escaped name alone.
        array = capture[f"{escape(layer)}/values"]
    assert isinstance(array, zarr.Array)
    return array


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:12]


def consolidate(root: zarr.Group) -> None:
    """Renew the consolidated metadata at the root, which lets a reader open hundreds of arrays in one read."""
    with warnings.catch_warnings():
        # Zarr warns that consolidated metadata is an extension of format 3; a reader that ignores it loses speed only.
        warnings.simplefilter("ignore", ZarrUserWarning)
        zarr.consolidate_metadata(root.store, path=root.path)


def consolidated(root: zarr.Group) -> zarr.Group | None:
    """Return the root of a study with its consolidated metadata, in one read, or None where there is none."""
    group = zarr.open_group(root.store, path=root.path, mode="r", zarr_format=3)
    return group if group.metadata.consolidated_metadata is not None else None


def write_attributes(group: zarr.Group, attributes: Mapping[str, Any]) -> None:
    """Renew attributes of a group, in one step.

    The same as ``group.attrs.update``, which copies and indents hundreds of layers for tens of milliseconds a batch.
    """
    group.metadata.attributes.update(attributes)
    content = json.dumps({"attributes": group.metadata.attributes, "zarr_format": 3, "node_type": "group"})
    buffer = default_buffer_prototype().buffer.from_bytes(content.encode())
    sync(group.store.set(f"{group.path}/zarr.json".lstrip("/"), buffer))


def is_present(group: zarr.Group) -> bool:
    """Return whether a study, or a group of it, is still where it was opened."""
    return bool(sync(group.store.exists(f"{group.path}/zarr.json".lstrip("/"))))


def child_names(root: zarr.Group, path: str) -> list[str]:
    """Return the names of what is below a group of a study, sorted, in one request and whatever a cache may say."""

    async def listed() -> list[str]:
        prefix = "/".join(part for part in (root.path, path) if part)
        return [name async for name in root.store.list_dir(prefix)]

    return sorted(name for name in sync(listed()) if name != "zarr.json")


def read_dataset(group: zarr.Group) -> xr.Dataset:
    """Return a group as a dataset whose variables are read when they are used."""
    dataset: xr.Dataset = xr.open_dataset(xr.backends.ZarrStore(group, mode="r"), chunks=None)
    return dataset


def write_dataset(root: zarr.Group, path: str, dataset: xr.Dataset) -> None:
    """Store a dataset as a group of a study, in place of one that is there."""
    group = "/".join(part for part in (root.path, path) if part)
    dataset.to_zarr(root.store, group=group, mode="w", zarr_format=3, consolidated=False)


def strings(values: Any) -> np.ndarray[Any, Any]:
    """Return text as variable-length strings, which every reader of zarr format 3 opens."""
    return np.asarray(values, dtype=np.dtypes.StringDType())


def _not_found(location: str) -> StudyNotFoundError:
    return StudyNotFoundError(
        f"No study at {location}. 'outcrop capture' and 'outcrop run' make one, and so does "
        "outcrop.open(path, mode='a')."
    )


def _check_local(path: Path, mode: str) -> None:
    if path.is_file():
        raise StudyError(f"{path} is a file; a study is a folder. Choose another path.")
    if mode == "r" and not path.exists():
        raise _not_found(str(path))
    if path.is_dir() and any(path.iterdir()) and not (path / "zarr.json").exists():
        raise StudyError(f"{path} is a folder with other things in it, not an outcrop study; choose another path.")
