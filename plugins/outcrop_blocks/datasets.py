"""The results of the ``blocks`` analysis as labelled datasets."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict

import numpy as np
import xarray as xr

from outcrop.numerics import DEFAULT_THRESHOLDS, GramStatistics
from outcrop_blocks.evaluation import MEASURES, Evaluation

_PAIR = ("layer_a", "layer_b")
_NAMES = {"similarity_without_pc": "similarity_without_pc1", "contrast_without_pc": "contrast_without_pc1"}


def measure_of(statistics: GramStatistics, *, remove_input: bool) -> str:
    """Return the name of the similarity: estimator, kernel, and what was taken out of it."""
    name = f"minibatch unbiased {statistics.kernel} CKA"
    return f"{name} without the input's similarity (dCKA)" if remove_input else name


def pairwise_dataset(statistics: GramStatistics, *, measure: str) -> xr.Dataset:
    """Return similarity of all layers with all layers, of kind ``pairwise``."""
    variables = {
        "similarity": xr.Variable(_PAIR, statistics.similarity, {"long_name": "similarity", "measure": measure}),
        "standard_error": xr.Variable(
            _PAIR,
            statistics.standard_error,
            {"long_name": "standard error of the similarity", "method": "jackknife over groups of batches"},
        ),
        "similarity_without_pc1": xr.Variable(
            _PAIR,
            statistics.similarity_without_pc1,
            {
                "long_name": "similarity without the first principal component of each layer",
                "scope": statistics.component_scope,
            },
        ),
        "pc_alignment": xr.Variable(
            _PAIR, statistics.pc_alignment, {"long_name": "squared cosine between first principal components"}
        ),
    }
    coords = {**_layer_coordinates(statistics, "layer_a", "_a"), **_layer_coordinates(statistics, "layer_b", "_b")}
    return xr.Dataset(variables, coords, {"kind": "pairwise", "kind_version": "1.0"})


def per_layer_dataset(statistics: GramStatistics) -> xr.Dataset:
    """Return what holds for single layers, of kind ``per_layer``."""
    variables = {
        # A batch of few samples has few components to share its variance among.
        "pc_share": xr.Variable("layer", statistics.pc_share, {"scope": "batch"}),
        "degenerate": ("layer", statistics.degenerate),
        "non_finite_count": ("layer", statistics.non_finite_count),
        "feature_count": ("layer", statistics.feature_count),
    }
    return xr.Dataset(
        variables, _layer_coordinates(statistics, "layer", ""), {"kind": "per_layer", "kind_version": "1.1"}
    )


def blocks_dataset(evaluations: Sequence[Evaluation]) -> xr.Dataset:
    """Return the intervals found, their evidence and each model's verdict, of kind ``blocks``."""
    found = [
        (evaluation, evidence, bounds)
        for evaluation in evaluations
        for evidence, bounds in zip(evaluation.evidence, evaluation.bounds, strict=True)
    ]
    first = [evaluation.layers[evidence.interval.start] for evaluation, evidence, _ in found]
    last = [evaluation.layers[evidence.interval.stop - 1] for evaluation, evidence, _ in found]
    variables = {
        "verdict": ("model", text_array(evaluation.verdict for evaluation in evaluations)),
        "evaluated_layers": ("model", whole_array(len(evaluation.layers) for evaluation in evaluations)),
        "evaluated_kind": ("model", text_array(evaluation.kind for evaluation in evaluations)),
        "block_model": ("block", text_array(evaluation.model for evaluation, _, _ in found)),
        "first_layer": ("block", text_array(layer.name for layer in first)),
        "last_layer": ("block", text_array(layer.name for layer in last)),
        "first_depth": ("block", whole_array(layer.index for layer in first)),
        "last_depth": ("block", whole_array(layer.index for layer in last)),
        "layer_count": ("block", whole_array(evidence.interval.length for _, evidence, _ in found)),
    }
    for name in (*MEASURES, "pc_support_outside", "pc_alignment", "similarity_without_pc"):
        values = np.array([getattr(evidence, name) for _, evidence, _ in found], dtype=np.float64)
        variables[_NAMES.get(name, name)] = ("block", values)
    for name in MEASURES:
        for side, end in enumerate(("low", "high")):
            variables[f"{_NAMES.get(name, name)}_{end}"] = (
                "block",
                np.array([bounds[name][side] for _, _, bounds in found], dtype=np.float64),
            )
    for name in ("supported", "dissolved", "is_block"):
        variables[name] = ("block", np.array([getattr(evidence, name) for _, evidence, _ in found], dtype=np.bool_))
    return xr.Dataset(
        variables,
        {"model": ("model", text_array(evaluation.model for evaluation in evaluations))},
        {"kind": "blocks", "kind_version": "1.1", "thresholds": json.dumps(asdict(DEFAULT_THRESHOLDS))},
    )


def _layer_coordinates(statistics: GramStatistics, dim: str, suffix: str) -> dict[str, tuple[str, np.ndarray]]:
    return {
        f"model{suffix}": (dim, text_array(model for model, _ in statistics.layers)),
        f"name{suffix}": (dim, text_array(layer.name for _, layer in statistics.layers)),
        f"depth{suffix}": (dim, whole_array(layer.index for _, layer in statistics.layers)),
        f"layer_kind{suffix}": (dim, text_array(layer.kind for _, layer in statistics.layers)),
    }


def text_array(values: Iterable[str]) -> np.ndarray:
    return np.array(list(values), dtype=np.dtypes.StringDType())


def whole_array(values: Iterable[int]) -> np.ndarray:
    return np.array(list(values), dtype=np.int64)
