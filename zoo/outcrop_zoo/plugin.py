"""Registration: what the zoo offers to outcrop. Heavy imports wait inside the functions."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from outcrop import hookimpl

if TYPE_CHECKING:
    import click

    from outcrop.data import Data
    from outcrop.models import Model
    from outcrop.report.figure import Figure
    from outcrop_schemas import Kind

FOOLBOX = "foolbox-imagenet"


@hookimpl
def outcrop_model_sources() -> "Mapping[str, Callable[[str], Model]]":
    """Offer ``zoo:NAME``."""
    return {"zoo": load_zoo_model}


@hookimpl
def outcrop_data_sources() -> "Mapping[str, Callable[[str], Data]]":
    """Offer ``zoo:patches``, ``zoo:patches/train``, ``zoo:foolbox-imagenet`` and others."""
    return {"zoo": load_zoo_data}


@hookimpl
def outcrop_schemas() -> "Sequence[Kind]":
    """Offer the kind of a training's metrics."""
    from outcrop_zoo.training_kind import TRAINING

    return [TRAINING]


@hookimpl
def outcrop_figures() -> "Sequence[Figure]":
    """Offer the figure of a training's metrics."""
    from outcrop_zoo.training_figure import TRAINING_FIGURE

    return [TRAINING_FIGURE]


@hookimpl
def outcrop_commands() -> "Sequence[click.Command]":
    """Offer ``outcrop zoo`` and ``outcrop demo``."""
    from outcrop_zoo import demo
    from outcrop_zoo.commands import zoo

    return [zoo, demo.command]


def load_zoo_model(name: str) -> "Model":
    """Return a zoo model whose file or weights agree with its card; a file of the web is fetched once.

    Raises:
        ModelNotFoundError: No such model; near names are suggested. Or it cannot be fetched.
        MissingDependencyError: Its weights are in a package that is not installed.
        ZooError: The file is missing or not the card's.
        ModelLoadError: The file cannot be run.
    """
    from outcrop.cli.display import progress
    from outcrop_zoo.catalogue import Catalogue

    # Looked up before the import below, which takes seconds.
    entry = Catalogue().find(name)
    from outcrop_zoo.loading import load_entry

    # A file of the web may take minutes, and nobody who loads a model hands a display.
    return load_entry(entry, progress=progress)


def load_zoo_data(reference: str) -> "Data":
    """Return images that the zoo's networks are trained or tested on, such as ``patches`` or ``patches/train``.

    ``foolbox-imagenet`` is 20 images of ImageNet; for the others see :mod:`outcrop_zoo.data_sources`.

    Raises:
        DataNotFoundError: The zoo has no such data, or it is not on this machine.
        DataReadError: What is there cannot be read.
        ParameterError: ``per_class`` is no positive whole number.
    """
    if reference == FOOLBOX:
        from outcrop_zoo.imagenet import load_foolbox_images

        return load_foolbox_images()
    from outcrop_zoo import data_sources

    return data_sources.load_zoo_data(reference)
