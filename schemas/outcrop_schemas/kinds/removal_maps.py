"""``removal_maps``: similarity of all layers with all layers when some of the dominant samples are left out."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from outcrop_schemas.declaration import Attribute, Variable
from outcrop_schemas.kind import Kind
from outcrop_schemas.kinds.layers import layer_coordinates
from outcrop_schemas.kinds.pairwise import same_layers
from outcrop_schemas.problems import Problem

if TYPE_CHECKING:
    import xarray as xr

_MAP = ("fraction", "layer_a", "layer_b")


def symmetric_maps(dataset: "xr.Dataset") -> Iterator[Problem]:
    """Every map is symmetric to 1e-9, NaN included."""
    import numpy as np

    values = dataset["similarity"].values
    if values.shape[1] != values.shape[2]:
        yield Problem("data_vars/similarity", "as many layers one way as the other", f"shape {values.shape}")
    elif not np.allclose(values, values.transpose(0, 2, 1), rtol=0, atol=1e-9, equal_nan=True):
        yield Problem("data_vars/similarity", "symmetric maps", "values that differ across the diagonal")


REMOVAL_MAPS = Kind(
    name="removal_maps",
    version="1.0",
    summary="Similarity of the searched layers of each model when some of the dominant samples are left out.",
    dims={"fraction": 1, "layer_a": 0, "layer_b": 0},
    coords=(
        Variable("fraction", ("fraction",), "float", "share of the samples that are left out", "1", 0, 1),
        *layer_coordinates("layer_a", "_a"),
        *layer_coordinates("layer_b", "_b"),
    ),
    variables=(
        Variable(
            "similarity",
            _MAP,
            "float64",
            "similarity",
            "1",
            nullable=True,
            attributes=(Attribute("measure", "str", "name of the measure, such as 'linear CKA'"),),
        ),
    ),
    checks=(same_layers, symmetric_maps),
    references=("https://arxiv.org/abs/2202.07184",),
)
