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
    from outcrop.numerics.components.directions import Directions, DirectionsAccumulator
    from outcrop.numerics.components.out_of_sample import ProjectionAccumulator, ProjectionStatistics
    from outcrop.numerics.components.set_directions import SetDirections, SetDirectionsAccumulator
    from outcrop.numerics.dominance.association import (
        PermutationTest,
        adjusted_p_values,
        auroc,
        group_means,
        permutation_test,
        standardised_effect,
        strength_ranks,
    )
    from outcrop.numerics.dominance.classes import ClassShares, class_shares
    from outcrop.numerics.dominance.logistic import LogisticAssociation, logistic_association
    from outcrop.numerics.dominance.mixture import Split, split_projections
    from outcrop.numerics.dominance.removal_totals import KeptMaps, RemovalStatistics
    from outcrop.numerics.dominance.sets import (
        jaccard,
        overlap_p_values,
        rank_correlation,
        ranks_of,
        shared_counts,
        top_members,
    )
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
    from outcrop.numerics.stream.removal import RemovalAccumulator
    from outcrop.numerics.stream.series import SeriesAccumulator
    from outcrop.numerics.stream.series_totals import SeriesStatistics

__all__ = [
    "DEFAULT_THRESHOLDS",
    "BlockEvidence",
    "BlockThresholds",
    "ClassShares",
    "ComponentStatistics",
    "ComponentsAccumulator",
    "Directions",
    "DirectionsAccumulator",
    "GramAccumulator",
    "GramStatistics",
    "GroupSums",
    "Influence",
    "InfluenceAccumulator",
    "Interval",
    "KeptMaps",
    "LogisticAssociation",
    "PermutationTest",
    "ProjectionAccumulator",
    "ProjectionStatistics",
    "RemovalAccumulator",
    "RemovalStatistics",
    "SeriesAccumulator",
    "SeriesStatistics",
    "SetDirections",
    "SetDirectionsAccumulator",
    "Split",
    "adjusted_p_values",
    "auroc",
    "biased_hsic",
    "bootstrap_counts",
    "bootstrap_similarity",
    "canonical_correlation",
    "cka",
    "class_shares",
    "double_centre",
    "gram_influence",
    "gram_matrix",
    "group_means",
    "jaccard",
    "jackknife_error",
    "leading_component",
    "logistic_association",
    "mutual_neighbours",
    "overlap_p_values",
    "permutation_test",
    "procrustes_distance",
    "rank_correlation",
    "ranks_of",
    "removal_effect",
    "representational_similarity",
    "sample_influence",
    "shared_counts",
    "similar_intervals",
    "similarity_ratio",
    "similarity_without",
    "split_projections",
    "square_of",
    "standardised_effect",
    "strength_ranks",
    "top_members",
    "u_centre",
    "unbiased_hsic",
    "weigh_blocks",
    "weigh_interval",
]

_MODULES = {
    "DEFAULT_THRESHOLDS": "blocks.intervals",
    "BlockEvidence": "blocks.block_detection",
    "BlockThresholds": "blocks.intervals",
    "ClassShares": "dominance.classes",
    "ComponentStatistics": "components.component_statistics",
    "ComponentsAccumulator": "components.component_accumulator",
    "Directions": "components.directions",
    "DirectionsAccumulator": "components.directions",
    "GramAccumulator": "stream.gram",
    "GramStatistics": "stream.gram_statistics",
    "GroupSums": "stream.gram_statistics",
    "Influence": "measures.influence",
    "InfluenceAccumulator": "stream.influence_stream",
    "Interval": "blocks.intervals",
    "KeptMaps": "dominance.removal_totals",
    "LogisticAssociation": "dominance.logistic",
    "PermutationTest": "dominance.association",
    "ProjectionAccumulator": "components.out_of_sample",
    "ProjectionStatistics": "components.out_of_sample",
    "RemovalAccumulator": "stream.removal",
    "RemovalStatistics": "dominance.removal_totals",
    "SeriesAccumulator": "stream.series",
    "SeriesStatistics": "stream.series_totals",
    "SetDirections": "components.set_directions",
    "SetDirectionsAccumulator": "components.set_directions",
    "Split": "dominance.mixture",
    "adjusted_p_values": "dominance.association",
    "auroc": "dominance.association",
    "biased_hsic": "kernels.hsic",
    "bootstrap_counts": "measures.ratio",
    "bootstrap_similarity": "measures.ratio",
    "canonical_correlation": "measures.canonical",
    "cka": "measures.alignment",
    "class_shares": "dominance.classes",
    "double_centre": "kernels.hsic",
    "gram_influence": "measures.influence",
    "gram_matrix": "kernels.gram_matrix",
    "group_means": "dominance.association",
    "jaccard": "dominance.sets",
    "jackknife_error": "measures.ratio",
    "leading_component": "kernels.principal",
    "logistic_association": "dominance.logistic",
    "mutual_neighbours": "measures.neighbours",
    "overlap_p_values": "dominance.sets",
    "permutation_test": "dominance.association",
    "procrustes_distance": "measures.procrustes",
    "rank_correlation": "dominance.sets",
    "ranks_of": "dominance.sets",
    "removal_effect": "blocks.block_detection",
    "representational_similarity": "measures.dissimilarity",
    "sample_influence": "measures.influence",
    "shared_counts": "dominance.sets",
    "similar_intervals": "blocks.intervals",
    "similarity_ratio": "measures.ratio",
    "similarity_without": "measures.influence",
    "split_projections": "dominance.mixture",
    "square_of": "blocks.block_detection",
    "standardised_effect": "dominance.association",
    "strength_ranks": "dominance.association",
    "top_members": "dominance.sets",
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
