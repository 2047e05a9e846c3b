"""Cards: what is known of a zoo model, as a JSON file beside it."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from outcrop.errors import ZooError
from outcrop.models.preprocessing import ImageRecipe
from outcrop_zoo.files import write_atomically
from outcrop_zoo.recipes import Recipe
from outcrop_zoo.sources.source import FileSource as FileSource
from outcrop_zoo.sources.source import PackageSource as PackageSource
from outcrop_zoo.sources.source import RecipeSource as RecipeSource
from outcrop_zoo.sources.source import Sha256, Source
from outcrop_zoo.sources.source import UrlSource as UrlSource

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._@-]*$"
"""A checkpoint of a step is called ``NAME@STEP``."""

# What a card must say beside what every card says, by the kind of its source.
_NEEDED = {
    "file": ("opset", "input", "layers", "parameters", "size", "sha256"),
    "url": ("opset", "input", "layers", "parameters", "size", "sha256"),
    "package": ("input",),
    "recipe": ("recipe",),
}


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelInput(_Frozen):
    """The input of the graph; ``shape`` is that of one sample, with None where any size fits."""

    name: str
    shape: tuple[int | None, ...]
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
        sha256: Of the file.
        source: Where the file or the weights are. A model that is not a file yet states neither size nor sha256.
        origin: Reference of the model that the file was exported from.
        outcrop: Version that wrote the file, which itself does not tell: the same weights are the same file.
    """

    card_version: Literal[1] = 1
    name: Annotated[str, Field(pattern=NAME_PATTERN)]
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
    opset: int | None = None
    input: ModelInput | None = None
    preprocessing: ImageRecipe | None = None
    classes: tuple[str, ...] | None = None
    layers: int | None = None
    parameters: int | None = None
    size: Annotated[int, Field(ge=1)] | None = None
    sha256: Sha256 | None = None
    source: Source
    origin: str | None = None
    parity: Parity | None = None
    outcrop: str

    @model_validator(mode="after")
    def _says_what_its_source_needs(self) -> Self:
        missing = [field for field in _NEEDED[self.source.kind] if getattr(self, field) is None]
        if missing:
            raise ValueError(f"a card with a source of kind {self.source.kind!r} must state {', '.join(missing)}")
        # A model on disk may be one of several that a recipe makes, such as a checkpoint of an early step.
        if self.source.kind == "recipe" and self.recipe is not None and self.recipe.name != self.name:
            raise ValueError(
                f"its recipe makes {self.recipe.name!r}; expected a recipe of the card's name {self.name!r}"
            )
        return self


def read_card(path: Path) -> Card:
    """Return the card in a JSON file.

    Raises:
        ZooError: The file cannot be read, or is no card; every problem is named.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ZooError(f"The zoo card {path} cannot be read ({reason}). Repair it, or remove it.") from error
    try:
        return Card.model_validate_json(content)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc'])) or 'file'}: {problem['msg']}" for problem in error.errors()
        )
        raise ZooError(
            f"{path} is not a valid zoo card ({problems}). Correct it, or move it out of the folder."
        ) from error


def write_card(card: Card, path: Path) -> None:
    """Write a card as JSON, atomically.

    Raises:
        ZooError: The disk is full, or refuses.
    """
    write_atomically(path, (card.model_dump_json(indent=2) + "\n").encode())
