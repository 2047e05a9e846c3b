"""What a capture will take on disk, compared with what is free."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from outcrop.capture.source import bytes_per_sample
from outcrop.errors import StudyError
from outcrop.models.model import Layer
from outcrop.store.layout import is_remote

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


def check_space(location: str, layers: Sequence[Layer], samples: int) -> int:
    """Return the bytes that a capture takes.

    Raises:
        StudyError: More than is free.
    """
    size, free = capture_bytes(layers, samples), free_bytes(location)
    if free is not None and size > free:
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
