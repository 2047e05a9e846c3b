"""Registration: what the zoo offers to outcrop. Heavy imports wait inside the functions."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from outcrop import hookimpl

if TYPE_CHECKING:
    import click

    from outcrop.data import Data
    from outcrop.models import Model


@hookimpl
def outcrop_model_sources() -> "Mapping[str, Callable[[str], Model]]":
    """Offer ``zoo:NAME``."""
    return {"zoo": load_zoo_model}


@hookimpl
def outcrop_data_sources() -> "Mapping[str, Callable[[str], Data]]":
    """Offer ``zoo:patches`` and ``zoo:patches/train``."""
    return {"zoo": load_zoo_data}


@hookimpl
def outcrop_commands() -> "Sequence[click.Command]":
    """Offer ``outcrop zoo`` and ``outcrop demo``."""
    from outcrop_zoo import demo
    from outcrop_zoo.commands import zoo

    return [zoo, demo.command]


def load_zoo_model(name: str) -> "Model":
    """Return a zoo model whose file agrees with its card.

    Raises:
        ModelNotFoundError: No such model; near names are suggested.
        ZooError: The file is missing or not the card's.
        ModelLoadError: The file cannot be run.
    """
    from outcrop_zoo.catalogue import Catalogue

    # Looked up before the import below, which takes seconds.
    path = Catalogue().find(name).checked_model_path()
    from outcrop.models.onnx_ import load_onnx

    model = load_onnx(path, name=name)
    model.source = f"zoo:{name}"
    return model


def load_zoo_data(reference: str) -> "Data":
    """Return ``patches`` (the test split), ``patches/test`` or ``patches/train``, optionally with ``?per_class=N``.

    Raises:
        DataNotFoundError: The zoo has no such data, or the photographs are not installed.
        ParameterError: ``per_class`` is no positive whole number.
    """
    from outcrop.data import ImageArray
    from outcrop.errors import DataNotFoundError, ParameterError, did_you_mean
    from outcrop_zoo.patches import Split, load_patches

    splits: dict[str, Split] = {"patches": "test", "patches/test": "test", "patches/train": "train"}
    name, _, query = reference.partition("?")
    if name not in splits:
        raise DataNotFoundError(
            f"The zoo has no data {name!r}.{did_you_mean(name, splits)} It offers {', '.join(splits)}."
        )
    key, _, value = query.partition("=")
    if query and (key != "per_class" or not value.isdecimal()):
        raise ParameterError(f"zoo:{name} takes ?per_class=N with a positive whole number; got {query!r}.")
    patches = load_patches(splits[name], per_class=int(value) if query else None)
    return ImageArray(
        patches.images,
        name=name.replace("/", "-"),
        source=f"zoo:{reference}",
        sample_ids=patches.ids,
        labels=patches.labels,
        classes=patches.classes,
    )
