"""Fetch a file from the Hugging Face hub, or say within seconds that it cannot be had."""

import urllib.error
import urllib.request
from pathlib import Path

from outcrop.errors import ModelLoadError, ModelNotFoundError

_TIMEOUT = 10.0


class HubUnreachableError(ModelLoadError):
    """The hub does not answer, and the file is not in the local cache."""


def fetch(repository: str, filename: str, *, revision: str | None = None) -> Path:
    """Return the local path of a file of the hub, from the cache where it is there.

    The hub's own client tries an unreachable host for a minute; one short request asks beforehand.

    Raises:
        HubUnreachableError: The file is not cached, and the hub does not answer.
        ModelNotFoundError: The hub has no such repository or file.
        ModelLoadError: The transfer failed.
    """
    import huggingface_hub

    cached = huggingface_hub.try_to_load_from_cache(repository, filename, revision=revision)
    if isinstance(cached, str):
        return Path(cached)
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        raise HubUnreachableError(f"{repository}/{filename} is not cached, and HF_HUB_OFFLINE is set")
    _ask(huggingface_hub.hf_hub_url(repository, filename, revision=revision), f"{repository}/{filename}")
    try:
        return Path(huggingface_hub.hf_hub_download(repository, filename, revision=revision))
    except OSError as error:
        raise ModelLoadError(f"Cannot fetch {repository}/{filename}: {str(error).splitlines()[0]}") from error


def _ask(url: str, what: str) -> None:
    """Raise unless the hub answers for the address; an answer that asks for a login is left to the hub's client."""
    request = urllib.request.Request(url, method="HEAD")
    try:
        # An opener of its own: the shared one keeps the proxies of the first call in the process.
        urllib.request.build_opener().open(request, timeout=_TIMEOUT).close()
    except urllib.error.HTTPError as error:
        if error.code == 404:
            raise ModelNotFoundError(f"The hub has no {what}") from error
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise HubUnreachableError(f"{what} is not cached, and the hub does not answer ({reason})") from error
