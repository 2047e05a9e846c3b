"""Where samples come from, and how they become batches for a model.

    data = load_data("photos/", limit=256)
    for batch in batches(data, model, batch_size=64): ...

Importing this package imports neither torch nor Pillow; the names below are loaded when first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from outcrop.data.arrays import ArrayData, ImageArray
    from outcrop.data.batching import batches
    from outcrop.data.content import ContentData, SkippedSamplesWarning
    from outcrop.data.dataset import Batch, Data, Sample, Skipped
    from outcrop.data.folder import ImageFolder
    from outcrop.data.selection import subset
    from outcrop.data.sources import load_data

_MODULES = {
    "ArrayData": "arrays",
    "Batch": "dataset",
    "ContentData": "content",
    "Data": "dataset",
    "ImageArray": "arrays",
    "ImageFolder": "folder",
    "Sample": "dataset",
    "Skipped": "dataset",
    "SkippedSamplesWarning": "content",
    "batches": "batching",
    "load_data": "sources",
    "subset": "selection",
}

__all__ = [
    "ArrayData",
    "Batch",
    "ContentData",
    "Data",
    "ImageArray",
    "ImageFolder",
    "Sample",
    "Skipped",
    "SkippedSamplesWarning",
    "batches",
    "load_data",
    "subset",
]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
