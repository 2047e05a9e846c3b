"""``influence``: how much each sample carries of the similarity inside intervals of layers."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from outcrop_schemas.declaration import Attribute, Variable
from outcrop_schemas.kind import Kind
from outcrop_schemas.problems import Problem

if TYPE_CHECKING:
    import xarray as xr

_BLOCK = ("block",)
_EACH = ("block", "sample")
_SCOPE = (Attribute("scope", "str", "samples that similarity is among: 'batch', or 'all'", required=False),)


def shares_sum_to_one(dataset: "xr.Dataset") -> Iterator[Problem]:
    """The shares of all samples sum to 1 (within 1e-6), or none is known."""
    import numpy as np

    shares = dataset["share"].values
    known = np.isfinite(shares).any(axis=1)
    wrong = int((np.abs(np.nansum(shares, axis=1) - 1) > 1e-6)[known].sum())
    if wrong:
        yield Problem("data_vars/share", "shares that sum to 1", f"another sum in {wrong} blocks")


INFLUENCE = Kind(
    name="influence",
    version="1.0",
    summary="How much each sample carries of the mean similarity inside intervals of layers.",
    dims={"block": 0, "sample": 1},
    coords=(Variable("sample", ("sample",), "int", "position of the sample in the data", minimum=0),),
    variables=(
        Variable("block_model", _BLOCK, "str", "model"),
        Variable("first_layer", _BLOCK, "str", "first layer"),
        Variable("last_layer", _BLOCK, "str", "last layer"),
        Variable("first_depth", _BLOCK, "int", "topological position of the first layer", minimum=0),
        Variable("last_depth", _BLOCK, "int", "topological position of the last layer", minimum=0),
        Variable("is_block", _BLOCK, "bool", "whether it is a block"),
        Variable("measured_layers", _BLOCK, "int", "layers that were measured, evenly spread", "1", 2),
        Variable("similarity", _BLOCK, "float", "mean similarity between the measured layers", "1", nullable=True),
        Variable(
            "share",
            _EACH,
            "float",
            "share of the mean similarity that is the sample's own",
            "1",
            nullable=True,
            attributes=_SCOPE,
        ),
        Variable(
            "change",
            _EACH,
            "float",
            "mean similarity less that without the sample",
            "1",
            nullable=True,
            attributes=_SCOPE,
        ),
        Variable(
            "effective_samples",
            _BLOCK,
            "float",
            "effective number of samples that carry the mean similarity",
            "1",
            0,
            nullable=True,
        ),
    ),
    attributes=(
        Attribute("measure", "str", "name of the similarity, such as 'linear CKA'"),
        Attribute("sample_count", "int", "samples used"),
        Attribute("batch_size", "int", "samples per batch"),
    ),
    checks=(shares_sum_to_one,),
    references=("https://arxiv.org/abs/2010.15327", "https://arxiv.org/abs/2202.07184"),
)
