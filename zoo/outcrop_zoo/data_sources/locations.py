"""Where data sets lie on this machine: in the folders that the user names, or where the system keeps them."""

import os
import sys
from pathlib import Path

from outcrop.errors import DataNotFoundError

VARIABLE = "OUTCROP_DATA"
"""Environment variable: folders that hold data sets, separated as in ``PATH``."""


def find_dataset(name: str, advice: str) -> Path:
    """Return the folder of a data set.

    Looked for as ``NAME`` in each folder of ``OUTCROP_DATA`` (or as such a folder itself), then in ``datasets`` under
    the system's folders for shared data (freedesktop.org's base directories, where Debian's packages put theirs).

    Args:
        name: Of the data set, and of its folder.
        advice: How to get it, as sentences; ends the message of the error.

    Raises:
        DataNotFoundError: It is in none of them.
    """
    named = [Path(part).expanduser() for part in os.environ.get(VARIABLE, "").split(os.pathsep) if part]
    candidates = [folder if folder.name == name else folder / name for folder in named]
    candidates += [folder / "datasets" / name for folder in _shared_folders()]
    for folder in candidates:
        if folder.is_dir():
            return folder
    looked = f"{VARIABLE} names {', '.join(map(str, named))}" if named else f"{VARIABLE} is not set"
    raise DataNotFoundError(
        f"The data {name!r} is not on this machine: {looked}, and the system's 'datasets' folders have no {name!r}. "
        f"{advice}"
    )


def _shared_folders() -> list[Path]:
    home = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    system = os.environ.get("XDG_DATA_DIRS") or os.pathsep.join(("/usr/local/share", "/usr/share"))
    parts = [home, str(Path(sys.prefix, "share")), *filter(None, system.split(os.pathsep))]
    return [Path(part).expanduser() for part in parts]
