"""Where things are in a study, and which version of that layout this is.

study.zarr/
  data/<data>-<hash>/                          sample ids, labels, thumbnails
  activations/<model>-<data>-<hash>/<layer>/values
  results/<analysis>/<run>/<leaf>
"""

import hashlib
import json
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import zarr
from zarr.errors import ZarrUserWarning

from outcrop.errors import StudyError, StudyNotFoundError, StudyVersionError

FORMAT = "1.0"
_MARK = "outcrop_format"
_LONGEST = 100
# Taken by the layout itself, by zarr, and by Windows.
_RESERVED = frozenset(["", "sample", "zarr.json", "aux", "con", "nul", "prn"])


def is_remote(location: str) -> bool:
    """Return whether a location is a URL rather than a local path."""
    return "://" in location


def open_root(location: str, mode: str) -> zarr.Group:
    """Return the root group of a study, created first where the mode allows.

    Raises:
        StudyNotFoundError: Nothing there, and the mode is ``r``.
        StudyError: Something else than a study is there, or the mode is unknown.
        StudyVersionError: The study has a newer format.
    """
    if mode not in ("r", "a"):
        raise StudyError(f"Unknown mode {mode!r} for the study {location}; expected 'r' to read or 'a' to add.")
    if not is_remote(location):
        _check_local(Path(location), mode)
    try:
        root = zarr.open_group(location, mode="r" if mode == "r" else "r+", zarr_format=3, use_consolidated=False)
    except FileNotFoundError:
        if mode == "r":
            raise _not_found(location) from None
        # Group and mark are one file: a study is never half a study.
        created = datetime.now(UTC).isoformat(timespec="seconds")
        root = zarr.create_group(location, zarr_format=3, attributes={_MARK: FORMAT, "created": created})
        consolidate(location)
    except json.JSONDecodeError as error:
        raise StudyError(
            f"The metadata of {location} is damaged: {error}. Its arrays may still be read one by one with zarr."
        ) from error
    check_format(root.attrs.get(_MARK), location)
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
    attributes of its group. Two names that differ in case only need a file system that tells them apart.
    """
    escaped = quote(name, safe=" ()[]+,=@")
    if escaped[:1] in (".", "_") or escaped.casefold() in _RESERVED:
        escaped = f"%{ord(escaped[0]):02X}{escaped[1:]}" if escaped else "%00"
    if len(escaped) > _LONGEST:
        digest = hashlib.sha256(name.encode()).hexdigest()[:12]
        escaped = f"{escaped[: _LONGEST - 13].rstrip('%')}~{digest}"
    return escaped


def consolidate(location: str) -> None:
    """Renew the consolidated metadata at the root, which lets a reader open hundreds of arrays in one read."""
    with warnings.catch_warnings():
        # Zarr warns that consolidated metadata is an extension of format 3; a reader that ignores it loses speed only.
        warnings.simplefilter("ignore", ZarrUserWarning)
        zarr.consolidate_metadata(location)


def strings(values: Any) -> np.ndarray[Any, Any]:
    """Return text as variable-length strings, which every reader of zarr format 3 opens."""
    return np.asarray(values, dtype=np.dtypes.StringDType())


def _check_local(path: Path, mode: str) -> None:
    if path.is_file():
        raise StudyError(f"{path} is a file; a study is a folder. Choose another path.")
    if mode == "r" and not path.exists():
        raise _not_found(str(path))
    if path.is_dir() and any(path.iterdir()) and not (path / "zarr.json").exists():
        raise StudyError(f"{path} is a folder with other things in it, not an outcrop study; choose another path.")


def _not_found(location: str) -> StudyNotFoundError:
    return StudyNotFoundError(
        f"No study at {location}. 'outcrop capture' and 'outcrop run' make one, and so does "
        "outcrop.open(path, mode='a')."
    )
