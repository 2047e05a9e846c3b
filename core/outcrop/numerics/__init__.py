"""Shared array functions: similarity, principal components and block detection.

Importing this package imports no torch; every name is loaded when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from outcrop.numerics.alignment import cka
    from outcrop.numerics.block_detection import (
        DEFAULT_THRESHOLDS,
        BlockEvidence,
        BlockThresholds,
        Interval,
        similar_intervals,
        weigh_blocks,
    )
    from outcrop.numerics.gram import GramAccumulator
    from outcrop.numerics.gram_statistics import GramStatistics, GroupSums
    from outcrop.numerics.hsic import biased_hsic, double_centre, u_centre, unbiased_hsic
    from outcrop.numerics.kernels import gram_matrix
    from outcrop.numerics.principal import leading_component
    from outcrop.numerics.ratio import bootstrap_similarity, jackknife_error, similarity_ratio

__all__ = [
    "DEFAULT_THRESHOLDS",
    "BlockEvidence",
    "BlockThresholds",
    "GramAccumulator",
    "GramStatistics",
    "GroupSums",
    "Interval",
    "biased_hsic",
    "bootstrap_similarity",
    "cka",
    "double_centre",
    "gram_matrix",
    "jackknife_error",
    "leading_component",
    "similar_intervals",
    "similarity_ratio",
    "u_centre",
    "unbiased_hsic",
    "weigh_blocks",
]

_MODULES = {
    "DEFAULT_THRESHOLDS": "block_detection",
    "BlockEvidence": "block_detection",
    "BlockThresholds": "block_detection",
    "GramAccumulator": "gram",
    "GramStatistics": "gram_statistics",
    "GroupSums": "gram_statistics",
    "Interval": "block_detection",
    "biased_hsic": "hsic",
    "bootstrap_similarity": "ratio",
    "cka": "alignment",
    "double_centre": "hsic",
    "gram_matrix": "kernels",
    "jackknife_error": "ratio",
    "leading_component": "principal",
    "similar_intervals": "block_detection",
    "similarity_ratio": "ratio",
    "u_centre": "hsic",
    "unbiased_hsic": "hsic",
    "weigh_blocks": "block_detection",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
