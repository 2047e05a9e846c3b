"""``overlap``: how far the dominant samples of every layer are those of every other layer."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from outcrop_schemas.declaration import Attribute, Variable
from outcrop_schemas.kind import Kind
from outcrop_schemas.kinds.layers import layer_coordinates
from outcrop_schemas.kinds.pairwise import same_layers, symmetric
from outcrop_schemas.problems import Problem

if TYPE_CHECKING:
    import xarray as xr

_PAIR = ("layer_a", "layer_b")


def shared_by_both(dataset: "xr.Dataset") -> Iterator[Problem]:
    """Two layers share no more samples than either has."""
    import numpy as np

    shared = dataset["shared"].values
    sizes = np.diag(shared)
    wrong = int((shared > np.minimum(sizes[:, None], sizes)).sum())
    if wrong:
        yield Problem("data_vars/shared", "at most what each layer has (the diagonal)", f"more for {wrong} pairs")


OVERLAP = Kind(
    name="overlap",
    version="1.0",
    summary="How far the dominant samples of every layer are those of every other layer, over one or more models.",
    dims={"layer_a": 1, "layer_b": 1},
    coords=(*layer_coordinates("layer_a", "_a"), *layer_coordinates("layer_b", "_b")),
    variables=(
        Variable(
            "jaccard",
            _PAIR,
            "float64",
            "dominant samples of both layers, over those of either",
            "1",
            0,
            1,
            nullable=True,
        ),
        Variable("shared", _PAIR, "int", "dominant samples of both layers", "1", 0),
        Variable(
            "p_value",
            _PAIR,
            "float64",
            "probability that random sets of these sizes share as many samples or more",
            "1",
            0,
            1,
            nullable=True,
            attributes=(Attribute("distribution", "str", "that it is a tail of", required=False),),
        ),
        Variable(
            "top_overlap",
            _PAIR,
            "float64",
            "share of the samples of largest |projection| that both layers have",
            "1",
            0,
            1,
            required=False,
            nullable=True,
            attributes=(Attribute("fraction", "float", "of the samples that are taken of each layer"),),
        ),
    ),
    attributes=(Attribute("sample_count", "int", "samples used"),),
    checks=(same_layers, symmetric, shared_by_both),
    references=("https://arxiv.org/abs/2202.07184",),
)
