"""From an entry of the catalogue to a model that runs."""

from typing import TYPE_CHECKING

from outcrop.models import Model
from outcrop.progress import Progress, silent
from outcrop_zoo.cards import Card, ModelInput, PackageSource
from outcrop_zoo.entry import Entry

if TYPE_CHECKING:
    from outcrop.models.torch_ import TorchModel


def load_entry(entry: Entry, *, device: str = "auto", progress: Progress = silent) -> Model:
    """Return an entry's model: its file, which agrees with the card, or a network with a package's weights.

    Args:
        entry: Of the catalogue.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        progress: Told of bytes that are fetched.

    Raises:
        ModelNotFoundError: The file cannot be fetched.
        MissingDependencyError: The package is not installed.
        ZooError: The file is missing or not the card's, or weights do not fit.
        ModelLoadError: The file cannot be run.
    """
    card = entry.card
    if isinstance(card.source, PackageSource):
        return _package_model(card, card.source, device)
    # Compared before the import below, which takes seconds.
    path = entry.checked_model_path(progress=progress)
    from outcrop.models.onnx_ import load_onnx

    preprocessing = card.preprocessing.preprocessing() if card.preprocessing else None
    model = load_onnx(path, name=card.name, device=device, preprocessing=preprocessing)
    model.source = f"zoo:{card.name}"
    model.classes = model.classes or card.classes
    return model


def _package_model(card: Card, source: PackageSource, device: str) -> "TorchModel":
    from outcrop.models.model import InputSpec
    from outcrop.models.torch_ import TorchModel
    from outcrop_zoo.imagenet import DATA, class_names
    from outcrop_zoo.sources.package import load_package_network

    network = load_package_network(source)
    given = card.input or ModelInput(name="image", shape=(3, 224, 224))
    named = card.classes is None and card.data == DATA and source.classes != 0
    return TorchModel(
        network,
        name=card.name,
        source=f"zoo:{card.name}",
        inputs=[InputSpec(given.name, given.shape, given.dtype)],
        device=device,
        preprocessing=card.preprocessing.preprocessing() if card.preprocessing else None,
        classes=class_names() if named else card.classes,
    )
