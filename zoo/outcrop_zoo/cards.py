"""Cards: what is known of a zoo model, as a JSON file beside it."""

import os
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from outcrop.errors import ZooError
from outcrop.models.preprocessing import ImageRecipe
from outcrop_zoo.recipes import Recipe


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileSource(_Frozen):
    """The model is a file in the card's folder."""

    kind: Literal["file"] = "file"
    file: str

    @field_validator("file")
    @classmethod
    def _stays_in_its_folder(cls, value: str) -> str:
        # The name alone is judged: a link inside the folder was laid by its owner, and installers do so.
        if PurePosixPath(value).name != value or "\\" in value or ":" in value or value in {"", ".."}:
            raise ValueError(f"{value!r} lies outside the card's folder; give the plain name of a file beside the card")
        return value


class ModelInput(_Frozen):
    """The input of the graph; ``shape`` is that of one sample."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"


class TrainingRecord(_Frozen):
    """How the weights came about: images seen an epoch, epochs, wall-clock seconds of all of them, and on what."""

    images: int
    epochs: int
    seconds: float
    threads: int
    hardware: str


class AccuracyRecord(_Frozen):
    """Top-1 accuracy, a share in [0, 1], of the stored file run by ONNX Runtime on all images of a data source."""

    data: str
    images: int
    accuracy: float = Field(ge=0, le=1)


class Parity(_Frozen):
    """How closely the graph agrees with torch, which runs the same stored weights in float32.

    Attributes:
        largest_relative_error: Over the outputs of the network and of every module in it, each the largest
            absolute difference over the largest absolute value.
        modules: Number of modules compared.
        samples: Number of samples compared.
    """

    largest_relative_error: float = Field(ge=0)
    modules: int
    samples: int


class Card(_Frozen):
    """What is known of a zoo model.

    Attributes:
        name: The model is loaded as ``zoo:NAME``.
        family: Models of one family differ by seed, depth or width only.
        architecture, width, depth: What network it is; width and depth where the architecture has them.
        seed: Of its training.
        data: Data source that it was trained for.
        recipe: All that determines the weights, where the zoo can rebuild them.
        step: Optimiser steps behind the weights.
        licence: SPDX expression for the weights.
        references: Where architecture and training come from.
        preprocessing: How an RGB image becomes the input.
        classes: Names of the logits.
        layers: Operations of the network that are modules of their own.
        parameters: Trained numbers.
        size: Bytes of the file.
        outcrop: Version that wrote the file.
    """

    card_version: Literal[1] = 1
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    family: str
    architecture: str
    width: int | None = None
    depth: int | None = None
    seed: int | None = None
    data: str
    recipe: Recipe | None = None
    step: int | None = None
    training: TrainingRecord | None = None
    test: AccuracyRecord | None = None
    licence: str
    references: tuple[str, ...] = ()
    opset: int
    input: ModelInput
    preprocessing: ImageRecipe | None = None
    classes: tuple[str, ...] | None = None
    layers: int
    parameters: int
    size: int
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    source: FileSource
    parity: Parity | None = None
    outcrop: str


def read_card(path: Path) -> Card:
    """Return the card in a JSON file.

    Raises:
        ZooError: The file is no card; every problem is named.
    """
    try:
        return Card.model_validate_json(path.read_bytes())
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc'])) or 'file'}: {problem['msg']}" for problem in error.errors()
        )
        raise ZooError(
            f"{path} is not a valid zoo card ({problems}). Correct it, or move it out of the folder."
        ) from error


def write_card(card: Card, path: Path) -> None:
    """Write a card as JSON, atomically."""
    partial = path.with_name(path.name + ".part")
    partial.write_text(card.model_dump_json(indent=2) + "\n", encoding="utf-8")
    os.replace(partial, path)
