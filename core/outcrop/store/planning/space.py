"""What a capture will take on disk, compared with what is free."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from outcrop.capture.source import bytes_per_sample
from outcrop.errors import StudyError, StudyNotFoundError
from outcrop.models.model import Layer, Model
from outcrop.store.layout import is_remote
from outcrop.store.ledger import identify

if TYPE_CHECKING:
    from outcrop.data.dataset import Data

AUTOMATIC_BYTES = 2_000_000_000
"""Activations of a run are kept without being asked for up to this size."""


def capture_bytes(layers: Sequence[Layer], samples: int) -> int:
    """Return the bytes that layers of so many samples take."""
    return samples * sum(bytes_per_sample(layer) for layer in layers)


def free_bytes(location: str) -> int | None:
    """Return the free bytes where a study is or will be, or None for a URL."""
    if is_remote(location):
        return None
    folder = Path(location).absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def stored_samples(
    location: str, model: Model, layers: Sequence[Layer], data: "Data", *, batch_size: int, reduction: str = "none"
) -> dict[str, int]:
    """Return how many samples of each of these layers a study already holds; none where there is no study yet.

    Args:
        location: Of the study.
        model: What is captured.
        layers: As they are stored.
        data: What the model sees.
        batch_size: Samples of a forward pass of the capture that is asked for.
        reduction: Description of the reduction.

    Raises:
        StudyError: Something else than a study is there.
    """
    from outcrop.store.study import Study

    try:
        study = Study(location, mode="r")
    except StudyNotFoundError:
        return {}
    node = identify(model, data, reduction=reduction, batch_size=min(batch_size, len(data))).node
    for capture in study.activations.captures():
        if capture.node == node:
            return {layer.name: capture.committed(layer.name) for layer in layers}
    return {}


def stored_bytes(
    location: str, model: Model, layers: Sequence[Layer], data: "Data", *, batch_size: int, reduction: str = "none"
) -> int:
    """Return the bytes of these layers that a study already holds; see :func:`stored_samples`.

    Raises:
        StudyError: Something else than a study is there.
    """
    samples = stored_samples(location, model, layers, data, batch_size=batch_size, reduction=reduction)
    return sum(bytes_per_sample(layer) * samples.get(layer.name, 0) for layer in layers)


def check_space(location: str, layers: Sequence[Layer], samples: int, *, stored: int = 0) -> int:
    """Return the bytes that a capture takes.

    Args:
        location: Of the study.
        layers: Of all models.
        samples: Number of samples.
        stored: Bytes of them that the study already holds, and that need no more room.

    Raises:
        StudyError: More than is free.
    """
    size, free = capture_bytes(layers, samples), free_bytes(location)
    if free is not None and size - stored > free:
        raise StudyError(
            f"{len(layers)} layers of {samples} samples take {size / 1e9:.1f} GB; "
            f"{free / 1e9:.1f} GB are free at {location}. "
            "Choose fewer layers (--layers) or samples (--limit), or another disk."
        )
    return size


def fits_automatically(location: str, sizes: Sequence[int]) -> bool:
    """Return whether activations are kept without being asked for: they are small, and half the disk stays free."""
    free = free_bytes(location)
    return sum(sizes) <= AUTOMATIC_BYTES and (free is None or sum(sizes) <= free / 2)
