"""The results of the ``dominant`` analysis as labelled datasets."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from outcrop.analysis.references import NO_LAYER, Reference
from outcrop.numerics import jaccard, overlap_p_values, rank_correlation, shared_counts, top_members
from outcrop_dominant.sets import Dominance, Selected

if TYPE_CHECKING:
    from outcrop import Context

_PAIR = ("layer_a", "layer_b")
_EACH = ("layer", "sample")


def dominance_dataset(context: "Context", dominance: Dominance) -> xr.Dataset:
    """Return which samples dominate every layer and how they stand out, of kind ``dominance``."""
    members, norms = dominance.members, dominance.norms
    median = _medians(norms, np.ones_like(members))
    # A layer that answers most samples with nothing has no median to be a multiple of.
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.where(median > 0, _medians(norms, members) / median, np.nan)
    variables: dict[str, Any] = {
        "dominant": (_EACH, members),
        "norm": (_EACH, norms.astype(np.float32)),
        "projection": (_EACH, dominance.projections.astype(np.float32)),
        "dominant_count": ("layer", members.sum(axis=1).astype(np.int64)),
        "threshold": ("layer", _numbers(split.threshold for split in dominance.splits)),
        "rule": ("layer", _text(split.rule for split in dominance.splits)),
        "bic_gain": ("layer", _numbers(split.bic_gain for split in dominance.splits)),
        "ashman_d": ("layer", _numbers(split.ashman_d for split in dominance.splits)),
        "rise_p_value": ("layer", _numbers(split.rise_p for split in dominance.splits)),
        "effective_samples": ("layer", dominance.effective_samples),
        "norm_correlation": ("layer", rank_correlation(np.abs(dominance.projections), norms)),
        "median_norm": ("layer", median),
        "dominant_norm_ratio": ("layer", ratio),
        "cosine_inside": ("layer", dominance.cosine_inside),
        "cosine_outside": ("layer", dominance.cosine_outside),
        "degenerate": ("layer", dominance.degenerate),
    }
    coords = {**context.layer_coordinates(), "sample": ("sample", dominance.sample_index)}
    return xr.Dataset(variables, _as_text(coords), {"kind": "dominance", "kind_version": "1.0"})


def overlap_dataset(context: "Context", dominance: Dominance, *, top_fraction: float) -> xr.Dataset:
    """Return how far the layers' dominant samples are the same, of kind ``overlap``."""
    members = dominance.members
    top = shared_counts(top_members(np.abs(dominance.projections), top_fraction))
    sizes = np.diag(top)
    with np.errstate(invalid="ignore", divide="ignore"):
        top_overlap = np.where(np.minimum.outer(sizes, sizes) > 0, top / np.maximum.outer(sizes, sizes), np.nan)
    variables: dict[str, Any] = {
        "jaccard": (_PAIR, jaccard(members)),
        "shared": (_PAIR, shared_counts(members)),
        "p_value": (_PAIR, overlap_p_values(members), {"distribution": "hypergeometric, not corrected"}),
        "top_overlap": (_PAIR, top_overlap, {"fraction": top_fraction}),
    }
    coords = {**context.layer_coordinates("layer_a", "_a"), **context.layer_coordinates("layer_b", "_b")}
    return xr.Dataset(variables, _as_text(coords), {"kind": "overlap", "kind_version": "1.0"})


def references_dataset(
    blocks: xr.Dataset, references: Sequence[Reference], dominance: Dominance, selected: Selected
) -> xr.Dataset:
    """Return where each model's samples are ranked and which dominate there, of kind ``dominance_reference``.

    Args:
        blocks: Result of the search for blocks.
        references: Where models are judged; none for those whose layers tell no samples apart.
        dominance: Of all layers.
        selected: At the references.
    """
    by_model = {reference.model: reference for reference in references}
    models = list(dict.fromkeys(model for model, _ in dominance.layers))
    verdicts = dict(zip(blocks["model"].values.tolist(), blocks["verdict"].values.tolist(), strict=True))
    evidence = [by_model[model].evidence if model in by_model else f"{NO_LAYER}." for model in models]
    rules = [dominance.splits[dominance.rows[one.model, one.layer]].rule for one in references]
    variables: dict[str, Any] = {
        "verdict": ("model", _text(verdicts[model] for model in models)),
        "evidence": ("model", _text(evidence)),
        "block_model": ("block", _text(one.model for one in references)),
        "first_layer": ("block", _text(one.layers[0] for one in references)),
        "last_layer": ("block", _text(one.layers[-1] for one in references)),
        "layer_count": ("block", np.array([len(one.layers) for one in references], dtype=np.int64)),
        "reference_layer": ("block", _text(one.layer for one in references)),
        "is_block": ("block", np.array([one.is_block for one in references], dtype=np.bool_)),
        "rule": ("block", _text(rules)),
        "dominant_count": ("block", selected.members.sum(axis=1).astype(np.int64)),
        "rank": (("block", "sample"), selected.ranks),
        "dominant": (("block", "sample"), selected.members),
    }
    coords = {"model": ("model", _text(models)), "sample": ("sample", dominance.sample_index)}
    return xr.Dataset(variables, coords, {"kind": "dominance_reference", "kind_version": "1.0"})


def _medians(norms: NDArray[np.float64], members: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the median norm of the members of every row, NaN where there are none."""
    kept = [row[chosen & ~np.isnan(row)] for row, chosen in zip(norms, members, strict=True)]
    return np.array([np.median(row) if len(row) else np.nan for row in kept])


def _as_text(coords: dict[str, Any]) -> dict[str, Any]:
    return {
        name: (dims, _text(values) if values and isinstance(values[0], str) else np.array(values, dtype=np.int64))
        if isinstance(values, list)
        else (dims, values)
        for name, (dims, values) in coords.items()
    }


def _text(values: Iterable[str]) -> NDArray[Any]:
    return np.array(list(values), dtype=np.dtypes.StringDType())


def _numbers(values: Iterable[float]) -> NDArray[np.float64]:
    return np.array(list(values), dtype=np.float64)
