"""Tools for the tests of plugins: planted activations, models made of them, and a suite to inherit.

from outcrop.testing import AnalysisTests

class TestNorms(AnalysisTests):
    analysis = Norms
    invariances = ("orthogonal",)
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from outcrop.testing.accumulators import AccumulatorTests
    from outcrop.testing.analyses import AnalysisTests
    from outcrop.testing.arrays import ArrayModel, IndexData
    from outcrop.testing.planted import noise_layers, planted_block, rotated
    from outcrop.testing.planted_images import COLOUR, SHARED, PlantedImages, make_planted_images
    from outcrop.testing.planted_networks import PlantedNetwork, train_planted_network
    from outcrop.testing.responding import RespondingModel
    from outcrop.testing.running import difference, run_on_sources, run_planted

_HOMES = {
    "COLOUR": "outcrop.testing.planted_images",
    "SHARED": "outcrop.testing.planted_images",
    "AccumulatorTests": "outcrop.testing.accumulators",
    "AnalysisTests": "outcrop.testing.analyses",
    "ArrayModel": "outcrop.testing.arrays",
    "IndexData": "outcrop.testing.arrays",
    "PlantedImages": "outcrop.testing.planted_images",
    "PlantedNetwork": "outcrop.testing.planted_networks",
    "RespondingModel": "outcrop.testing.responding",
    "difference": "outcrop.testing.running",
    "make_planted_images": "outcrop.testing.planted_images",
    "noise_layers": "outcrop.testing.planted",
    "planted_block": "outcrop.testing.planted",
    "rotated": "outcrop.testing.planted",
    "run_on_sources": "outcrop.testing.running",
    "run_planted": "outcrop.testing.running",
    "train_planted_network": "outcrop.testing.planted_networks",
}

__all__ = [
    "COLOUR",
    "SHARED",
    "AccumulatorTests",
    "AnalysisTests",
    "ArrayModel",
    "IndexData",
    "PlantedImages",
    "PlantedNetwork",
    "RespondingModel",
    "difference",
    "make_planted_images",
    "noise_layers",
    "planted_block",
    "rotated",
    "run_on_sources",
    "run_planted",
    "train_planted_network",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
