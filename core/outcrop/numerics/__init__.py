"""Shared array functions: similarity, principal components and block detection.

Importing this package imports no torch; every name is loaded when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from outcrop.numerics.blocks.block_detection import (
        BlockEvidence,
        removal_effect,
        square_of,
        weigh_blocks,
        weigh_interval,
    )
    from outcrop.numerics.blocks.intervals import DEFAULT_THRESHOLDS, BlockThresholds, Interval, similar_intervals
    from outcrop.numerics.components.component_accumulator import ComponentsAccumulator
    from outcrop.numerics.components.component_statistics import ComponentStatistics
    from outcrop.numerics.kernels.gram_matrix import gram_matrix
    from outcrop.numerics.kernels.hsic import biased_hsic, double_centre, u_centre, unbiased_hsic
    from outcrop.numerics.kernels.principal import leading_component
    from outcrop.numerics.measures.alignment import cka
    from outcrop.numerics.measures.canonical import canonical_correlation
    from outcrop.numerics.measures.dissimilarity import representational_similarity
    from outcrop.numerics.measures.influence import Influence, gram_influence, sample_influence, similarity_without
    from outcrop.numerics.measures.neighbours import mutual_neighbours
    from outcrop.numerics.measures.procrustes import procrustes_distance
    from outcrop.numerics.measures.ratio import (
        bootstrap_counts,
        bootstrap_similarity,
        jackknife_error,
        similarity_ratio,
    )
    from outcrop.numerics.stream.gram import GramAccumulator
    from outcrop.numerics.stream.gram_statistics import GramStatistics, GroupSums
    from outcrop.numerics.stream.influence_stream import InfluenceAccumulator
    from outcrop.numerics.stream.series import SeriesAccumulator
    from outcrop.numerics.stream.series_totals import SeriesStatistics

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
    "DEFAULT_THRESHOLDS": "blocks.intervals",
    "BlockEvidence": "blocks.block_detection",
    "BlockThresholds": "blocks.intervals",
    "ComponentStatistics": "components.component_statistics",
    "ComponentsAccumulator": "components.component_accumulator",
    "GramAccumulator": "stream.gram",
    "GramStatistics": "stream.gram_statistics",
    "GroupSums": "stream.gram_statistics",
    "Influence": "measures.influence",
    "InfluenceAccumulator": "stream.influence_stream",
    "Interval": "blocks.intervals",
    "SeriesAccumulator": "stream.series",
    "SeriesStatistics": "stream.series_totals",
    "biased_hsic": "kernels.hsic",
    "bootstrap_counts": "measures.ratio",
    "bootstrap_similarity": "measures.ratio",
    "canonical_correlation": "measures.canonical",
    "cka": "measures.alignment",
    "double_centre": "kernels.hsic",
    "gram_influence": "measures.influence",
    "gram_matrix": "kernels.gram_matrix",
    "jackknife_error": "measures.ratio",
    "leading_component": "kernels.principal",
    "mutual_neighbours": "measures.neighbours",
    "procrustes_distance": "measures.procrustes",
    "removal_effect": "blocks.block_detection",
    "representational_similarity": "measures.dissimilarity",
    "sample_influence": "measures.influence",
    "similar_intervals": "blocks.intervals",
    "similarity_ratio": "measures.ratio",
    "similarity_without": "measures.influence",
    "square_of": "blocks.block_detection",
    "u_centre": "kernels.hsic",
    "unbiased_hsic": "kernels.hsic",
    "weigh_blocks": "blocks.block_detection",
    "weigh_interval": "blocks.block_detection",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
