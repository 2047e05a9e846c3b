"""The results of the ``components`` analysis as labelled datasets."""

from collections.abc import Iterable

import numpy as np
import xarray as xr

from outcrop.numerics import ComponentStatistics, GramStatistics

_PAIR = ("layer_a", "layer_b")
_ALL = {"scope": "all"}


def pairwise_dataset(components: ComponentStatistics, similarity: GramStatistics) -> xr.Dataset:
    """Return similarity of all layers with all layers, with and without their first components, of kind ``pairwise``.

    Args:
        components: Of all samples.
        similarity: Of the same layers in the same order; without what the components leave where that was not asked.
    """
    variables = {
        "similarity": xr.Variable(
            _PAIR, similarity.similarity, {"long_name": "similarity", "measure": "minibatch unbiased linear CKA"}
        ),
        "standard_error": xr.Variable(
            _PAIR,
            similarity.standard_error,
            {"long_name": "standard error of the similarity", "method": "jackknife over groups of batches"},
        ),
        "pc_alignment": xr.Variable(
            _PAIR, components.alignment, {"long_name": "squared cosine between first principal components", **_ALL}
        ),
    }
    if similarity.similarity_without_pc1 is not None:
        variables["similarity_without_pc1"] = xr.Variable(
            _PAIR,
            similarity.similarity_without_pc1,
            {"long_name": "similarity without the first principal component of each layer", **_ALL},
        )
    coords = {**_layer_coordinates(components, "layer_a", "_a"), **_layer_coordinates(components, "layer_b", "_b")}
    return xr.Dataset(variables, coords, {"kind": "pairwise", "kind_version": "1.0"})


def per_layer_dataset(components: ComponentStatistics) -> xr.Dataset:
    """Return what holds for single layers, of kind ``per_layer``."""
    variables = {
        "pc_share": xr.Variable("layer", components.share[:, 0], _ALL),
        "component_share": xr.Variable(("layer", "component"), components.share, _ALL),
        "effective_samples": xr.Variable("layer", components.effective_samples, _ALL),
        "degenerate": ("layer", components.degenerate),
        "unconverged": ("layer", components.unconverged),
        "non_finite_count": ("layer", components.non_finite_count),
        "feature_count": ("layer", components.feature_count),
    }
    return xr.Dataset(
        variables, _layer_coordinates(components, "layer", ""), {"kind": "per_layer", "kind_version": "1.2"}
    )


def projections_dataset(components: ComponentStatistics) -> xr.Dataset:
    """Return where every sample lies on the first component of every layer, of kind ``projections``."""
    variables = {
        "projection": xr.Variable(
            ("layer", "sample"), components.projections, {**_ALL, "sign": "the sum of the cubes is positive"}
        ),
        "norm": (("layer", "sample"), components.norms),
        "residual": ("layer", components.residual[:, 0]),
    }
    coords = {**_layer_coordinates(components, "layer", ""), "sample": ("sample", components.sample_index)}
    return xr.Dataset(variables, coords, {"kind": "projections", "kind_version": "1.0"})


def _layer_coordinates(components: ComponentStatistics, dim: str, suffix: str) -> dict[str, tuple[str, np.ndarray]]:
    return {
        f"model{suffix}": (dim, _text(model for model, _ in components.layers)),
        f"name{suffix}": (dim, _text(layer.name for _, layer in components.layers)),
        f"depth{suffix}": (dim, _whole(layer.index for _, layer in components.layers)),
        f"layer_kind{suffix}": (dim, _text(layer.kind for _, layer in components.layers)),
    }


def _text(values: Iterable[str]) -> np.ndarray:
    return np.array(list(values), dtype=np.dtypes.StringDType())


def _whole(values: Iterable[int]) -> np.ndarray:
    return np.array(list(values), dtype=np.int64)
