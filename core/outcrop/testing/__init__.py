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
    from outcrop.testing.responding import RespondingModel
    from outcrop.testing.running import difference, run_on_sources, run_planted

_HOMES = {
    "AccumulatorTests": "outcrop.testing.accumulators",
    "AnalysisTests": "outcrop.testing.analyses",
    "ArrayModel": "outcrop.testing.arrays",
    "IndexData": "outcrop.testing.arrays",
    "RespondingModel": "outcrop.testing.responding",
    "difference": "outcrop.testing.running",
    "noise_layers": "outcrop.testing.planted",
    "planted_block": "outcrop.testing.planted",
    "rotated": "outcrop.testing.planted",
    "run_on_sources": "outcrop.testing.running",
    "run_planted": "outcrop.testing.running",
}

__all__ = [
    "AccumulatorTests",
    "AnalysisTests",
    "ArrayModel",
    "IndexData",
    "RespondingModel",
    "difference",
    "noise_layers",
    "planted_block",
    "rotated",
    "run_on_sources",
    "run_planted",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
