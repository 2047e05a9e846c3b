"""Where cards and models lie: outcrop's own folders and the user's."""

import os
from pathlib import Path

from outcrop.errors import ZooError

BUNDLED = Path(__file__).parent / "models"
"""Models that come with outcrop, each with its card."""

PACKAGE_MODELS = Path(__file__).parent / "package_models"
"""Cards of models whose weights other Python packages ship."""

VARIABLE = "OUTCROP_ZOO"


def user_folder() -> Path:
    """Return where models that the user builds or adds are kept, by default.

    Raises:
        ZooError: The environment variable ``OUTCROP_ZOO`` names a file.
    """
    return user_folders()[0]


def user_folders() -> list[Path]:
    """Return the user's own folders: those that ``OUTCROP_ZOO`` names (as ``PATH`` does), then one in the cache.

    Raises:
        ZooError: One of them is a file.
    """
    named = [Path(text).expanduser() for text in os.environ.get(VARIABLE, "").split(os.pathsep) if text.strip()]
    for folder in named:
        if folder.exists() and not folder.is_dir():
            raise ZooError(f"{VARIABLE} names {folder}, which is a file; expected folders of zoo models.")
    return [*named, cache_folder() / "zoo"]


def download_folder() -> Path:
    """Return where files of the web are kept."""
    return cache_folder() / "downloads"


def cache_folder() -> Path:
    """Return outcrop's cache folder: the environment variable ``OUTCROP_CACHE``, or the system's place for caches."""
    if os.environ.get("OUTCROP_CACHE"):
        return Path(os.environ["OUTCROP_CACHE"])
    import pooch

    return Path(pooch.os_cache("outcrop"))
