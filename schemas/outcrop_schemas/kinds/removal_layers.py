"""``removal_layers``: the first principal component's share of variance in every layer when samples are left out."""

from outcrop_schemas.declaration import Attribute, Variable
from outcrop_schemas.kind import Kind
from outcrop_schemas.kinds.layers import layer_coordinates
from outcrop_schemas.kinds.removal import SELECTIONS

REMOVAL_LAYERS = Kind(
    name="removal_layers",
    version="1.0",
    summary="Variance share of the first principal component in every searched layer when samples are left out.",
    dims={"layer": 0, "selection": 1, "fraction": 1},
    coords=(
        *layer_coordinates(),
        Variable("selection", ("selection",), "str", "which samples are left out", values=SELECTIONS),
        Variable("fraction", ("fraction",), "float", "share of the samples that are left out", "1", 0, 1),
    ),
    variables=(
        Variable(
            "pc_share",
            ("layer", "selection", "fraction"),
            "float",
            "variance share of the first principal component",
            "1",
            0,
            1,
            nullable=True,
            attributes=(
                Attribute("scope", "str", "samples that a component is of: 'batch', or 'all'", required=False),
            ),
        ),
    ),
    references=("https://arxiv.org/abs/2202.07184",),
)
