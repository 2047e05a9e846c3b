"""Shared array functions: similarity, principal components and block detection.

Importing this package imports no torch; every name is loaded when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from outcrop.numerics.alignment import cka
    from outcrop.numerics.block_detection import (
        BlockEvidence,
        removal_effect,
        square_of,
        weigh_blocks,
        weigh_interval,
    )
    from outcrop.numerics.canonical import canonical_correlation
    from outcrop.numerics.component_statistics import ComponentStatistics
    from outcrop.numerics.components import ComponentsAccumulator
    from outcrop.numerics.dissimilarity import representational_similarity
    from outcrop.numerics.gram import GramAccumulator
    from outcrop.numerics.gram_statistics import GramStatistics, GroupSums
    from outcrop.numerics.hsic import biased_hsic, double_centre, u_centre, unbiased_hsic
    from outcrop.numerics.influence import Influence, gram_influence, sample_influence, similarity_without
    from outcrop.numerics.influence_stream import InfluenceAccumulator
    from outcrop.numerics.intervals import DEFAULT_THRESHOLDS, BlockThresholds, Interval, similar_intervals
    from outcrop.numerics.kernels import gram_matrix
    from outcrop.numerics.neighbours import mutual_neighbours
    from outcrop.numerics.principal import leading_component
    from outcrop.numerics.procrustes import procrustes_distance
    from outcrop.numerics.ratio import bootstrap_counts, bootstrap_similarity, jackknife_error, similarity_ratio
    from outcrop.numerics.series import SeriesAccumulator
    from outcrop.numerics.series_totals import SeriesStatistics

__all__ = [
    "DEFAULT_THRESHOLDS",
    "BlockEvidence",
    "BlockThresholds",
    "ComponentStatistics",
    "ComponentsAccumulator",
    "GramAccumulator",
    "GramStatistics",
    "GroupSums",
    "Influence",
    "InfluenceAccumulator",
    "Interval",
    "SeriesAccumulator",
    "SeriesStatistics",
    "biased_hsic",
    "bootstrap_counts",
    "bootstrap_similarity",
    "canonical_correlation",
    "cka",
    "double_centre",
    "gram_influence",
    "gram_matrix",
    "jackknife_error",
    "leading_component",
    "mutual_neighbours",
    "procrustes_distance",
    "removal_effect",
    "representational_similarity",
    "sample_influence",
    "similar_intervals",
    "similarity_ratio",
    "similarity_without",
    "square_of",
    "u_centre",
    "unbiased_hsic",
    "weigh_blocks",
    "weigh_interval",
]

_MODULES = {
    "DEFAULT_THRESHOLDS": "intervals",
    "BlockEvidence": "block_detection",
    "BlockThresholds": "intervals",
    "ComponentStatistics": "component_statistics",
    "ComponentsAccumulator": "components",
    "GramAccumulator": "gram",
    "GramStatistics": "gram_statistics",
    "GroupSums": "gram_statistics",
    "Influence": "influence",
    "InfluenceAccumulator": "influence_stream",
    "Interval": "intervals",
    "SeriesAccumulator": "series",
    "SeriesStatistics": "series_totals",
    "biased_hsic": "hsic",
    "bootstrap_counts": "ratio",
    "bootstrap_similarity": "ratio",
    "canonical_correlation": "canonical",
    "cka": "alignment",
    "double_centre": "hsic",
    "gram_influence": "influence",
    "gram_matrix": "kernels",
    "jackknife_error": "ratio",
    "leading_component": "principal",
    "mutual_neighbours": "neighbours",
    "procrustes_distance": "procrustes",
    "removal_effect": "block_detection",
    "representational_similarity": "dissimilarity",
    "sample_influence": "influence",
    "similar_intervals": "intervals",
    "similarity_ratio": "ratio",
    "similarity_without": "influence",
    "square_of": "block_detection",
    "u_centre": "hsic",
    "unbiased_hsic": "hsic",
    "weigh_blocks": "block_detection",
    "weigh_interval": "block_detection",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
