"""Where a study is: a path, a URL, or a zarr store that the caller opened."""

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from zarr.abc.store import Store
from zarr.storage import FsspecStore, LocalStore, ObjectStore

from outcrop.errors import MissingDependencyError, StudyError
from outcrop.store.layout import is_remote

_OBJECT_STORES = frozenset(["s3", "s3a", "gs", "az", "azure", "adl", "abfs", "abfss"])
"""Schemes that obstore opens, which is faster than fsspec and writes conditionally."""

_EXTRA = "pip install 'outcrop[remote]'"


def open_store(location: "str | os.PathLike[str] | Store") -> tuple[Store, str]:
    """Return the zarr store at a location, and the name of the place for messages.

    Object stores (``s3://``, ``gs://``, ``az://``) are opened with obstore, and with fsspec where that is not
    installed; credentials come from the environment (``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL``, ...). Other URLs,
    ``memory://`` among them, are opened with fsspec. For any other setting, open a zarr store and pass that.

    Args:
        location: Path, URL, or store.

    Raises:
        MissingDependencyError: The URL needs a package that is not installed.
        StudyError: The URL cannot be understood.
    """
    if isinstance(location, ObjectStore) and type(location.store).__name__ == "LocalStore":
        # Files are files, whoever opens them: written piece by piece, and locked by the system.
        location = LocalStore(Path(location.store.prefix), read_only=location.read_only)
    if isinstance(location, LocalStore):
        return location, str(location.root)
    if isinstance(location, Store):
        return location, f"the {type(location).__name__} {location}"
    place = os.fspath(location)
    if place.startswith("file://"):
        place = url2pathname(urlsplit(place).path)
    if not is_remote(place):
        return LocalStore(Path(place)), place
    return _open_url(place), place


def _open_url(url: str) -> Store:
    scheme, _, rest = url.partition("://")
    if scheme in _OBJECT_STORES:
        if not rest.strip("/"):
            raise StudyError(f"The URL {url} names no bucket; expected {scheme}://BUCKET/NAME.zarr.")
        store = _open_with_obstore(url)
        if store is not None:
            return store
    try:
        # A listing from a cache would hide what another process has added.
        return FsspecStore.from_url(url, storage_options={"use_listings_cache": False, "skip_instance_cache": True})
    except ImportError as error:
        raise MissingDependencyError(
            f"The study {url} needs a package that is not installed: {error}. {_EXTRA} brings obstore and s3fs, which "
            "open s3://, gs:// and az://; for another scheme, install the fsspec package that serves it."
        ) from error
    except (ValueError, OSError) as error:
        raise StudyError(
            f"The study {url} cannot be opened: {error}. Give a path, or a URL that fsspec knows."
        ) from error


def _open_with_obstore(url: str) -> Store | None:
    try:
        from obstore.exceptions import BaseError
        from obstore.store import from_url
    except ImportError:
        return None
    options: dict[str, Any] = {}
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    if url.startswith("s3") and endpoint.startswith("http://"):
        # Who names a server without encryption means it: one on this machine, or within a house.
        options["client_options"] = {"allow_http": True}
    try:
        return ObjectStore(from_url(url.rstrip("/"), **options))
    except (BaseError, ValueError) as error:
        raise StudyError(f"The study {url} cannot be opened: {str(error).splitlines()[0]}.") from error
