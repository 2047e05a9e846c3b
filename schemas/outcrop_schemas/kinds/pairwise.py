"""``pairwise``: similarity of every layer with every layer."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from outcrop_schemas.declaration import Attribute, Variable
from outcrop_schemas.kind import Kind
from outcrop_schemas.kinds.layers import layer_coordinates
from outcrop_schemas.problems import Problem

if TYPE_CHECKING:
    import xarray as xr

_PAIR = ("layer_a", "layer_b")


def same_layers(dataset: "xr.Dataset") -> Iterator[Problem]:
    """Both dimensions run over the same layers in the same order."""
    for name in ("model", "name", "depth", "layer_kind"):
        if dataset[f"{name}_a"].values.tolist() != dataset[f"{name}_b"].values.tolist():
            yield Problem(f"coords/{name}_b", f"the same values as {name}_a", "other values")


def symmetric(dataset: "xr.Dataset") -> Iterator[Problem]:
    """Every variable is symmetric to 1e-9, NaN included."""
    import numpy as np

    for name, array in dataset.data_vars.items():
        values = array.values
        if values.shape[0] != values.shape[1]:
            yield Problem(f"data_vars/{name}", "as many layers one way as the other", f"shape {values.shape}")
        elif not np.allclose(values, values.T, rtol=0, atol=1e-9, equal_nan=True):
            unlike = np.abs(values - values.T)
            largest = float(np.max(unlike, initial=0.0, where=np.isfinite(unlike)))
            found = f"differences up to {largest:g}" if largest > 1e-9 else "NaN on one side only"
            yield Problem(f"data_vars/{name}", "a symmetric matrix", found)


PAIRWISE = Kind(
    name="pairwise",
    version="1.0",
    summary="Similarity of every layer with every layer, over the layers of one or more models.",
    dims={"layer_a": 1, "layer_b": 1},
    coords=(*layer_coordinates("layer_a", "_a"), *layer_coordinates("layer_b", "_b")),
    variables=(
        Variable(
            "similarity",
            _PAIR,
            "float64",
            "similarity",
            "1",
            nullable=True,
            attributes=(Attribute("measure", "str", "name of the measure, such as 'linear CKA'"),),
        ),
        Variable(
            "standard_error",
            _PAIR,
            "float64",
            "standard error of the similarity",
            "1",
            0,
            required=False,
            nullable=True,
        ),
        Variable(
            "similarity_without_pc1",
            _PAIR,
            "float64",
            "similarity without the first principal component of each layer",
            "1",
            required=False,
            nullable=True,
            attributes=(
                Attribute("scope", "str", "samples that a component is of: 'batch', or 'all'", required=False),
            ),
            references=("https://arxiv.org/abs/2010.15327",),
        ),
        Variable(
            "pc_alignment",
            _PAIR,
            "float64",
            "squared cosine between first principal components",
            "1",
            0,
            1,
            required=False,
            nullable=True,
            references=("https://arxiv.org/abs/2010.15327",),
        ),
    ),
    checks=(same_layers, symmetric),
)
