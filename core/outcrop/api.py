"""Functions of the public interface that belong to no part alone."""

import os
from importlib.metadata import version as _distribution_version
from typing import TYPE_CHECKING

from outcrop.progress import Progress, silent

if TYPE_CHECKING:
    from zarr.abc.store import Store

    from outcrop.store.study import Study


def open(  # noqa: A001 - the public name, as in xarray and zarr
    location: "str | os.PathLike[str] | Store", *, mode: str = "r", progress: Progress = silent
) -> "Study":
    """Return the study at a path or URL, or in a zarr store.

    Args:
        location: A folder, by convention ``NAME.zarr``; a URL (``s3://``, ``gs://``, ``az://``, ``memory://``, and what
            else fsspec opens), with credentials from the environment; or an open zarr store.
        mode: ``r`` to read; ``a`` to add, creating the study where there is none.
        progress: Where long work is reported; silent by default.

    Raises:
        StudyNotFoundError: Nothing there to read.
        StudyError: Something else is there, or the mode is unknown.
        StudyVersionError: The study was written by a newer outcrop.
        MissingDependencyError: The URL needs a package that is not installed.
    """
    from outcrop.store.study import Study

    return Study(location, mode=mode, progress=progress)


def version() -> str:
    """Return the version of the installed outcrop."""
    return _distribution_version("outcrop")
