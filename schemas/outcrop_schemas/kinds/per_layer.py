"""``per_layer``: one number per layer."""

from outcrop_schemas.declaration import Attribute, Variable
from outcrop_schemas.kind import Kind
from outcrop_schemas.kinds.layers import layer_coordinates

PER_LAYER = Kind(
    name="per_layer",
    version="1.2",
    summary="Properties of single layers, over the layers of one or more models.",
    dims={"layer": 1, "component": 1},
    coords=layer_coordinates(),
    variables=(
        Variable(
            "pc_share",
            ("layer",),
            "float",
            "share of variance of the first principal component",
            "1",
            0,
            1,
            required=False,
            nullable=True,
            attributes=(
                Attribute("scope", "str", "samples that a component is of: 'batch', or 'all'", required=False),
            ),
            references=("https://arxiv.org/abs/2010.15327",),
        ),
        Variable(
            "component_share",
            ("layer", "component"),
            "float",
            "share of variance of a leading principal component",
            "1",
            0,
            1,
            required=False,
            nullable=True,
            attributes=(
                Attribute("scope", "str", "samples that a component is of: 'batch', or 'all'", required=False),
            ),
            references=("https://arxiv.org/abs/2010.15327",),
        ),
        # 1 / sum u_i^4 of a unit vector u over samples: the inverse participation ratio, turned round. From 1 (one
        # sample carries the component) to the number of samples (all do alike).
        Variable(
            "effective_samples",
            ("layer",),
            "float",
            "effective number of samples that carry the first principal component",
            "1",
            1,
            required=False,
            nullable=True,
            attributes=(
                Attribute("scope", "str", "samples that a component is of: 'batch', or 'all'", required=False),
            ),
            references=("https://arxiv.org/abs/2202.07184", "https://doi.org/10.1039/DF9705000055"),
        ),
        Variable(
            "degenerate",
            ("layer",),
            "bool",
            "whether the layer is left out: it tells no samples apart, or holds values that are not finite",
            required=False,
        ),
        # Of a component that iteration looks for; the map without it is then without another direction near it.
        Variable(
            "unconverged",
            ("layer",),
            "bool",
            "whether the passes ended before the first principal component was found to the tolerance asked for",
            required=False,
        ),
        Variable("non_finite_count", ("layer",), "int", "values that are NaN or infinite", "1", 0, required=False),
        Variable("feature_count", ("layer",), "int", "features per sample", "1", 1, required=False),
    ),
    any_of=("pc_share", "component_share", "effective_samples", "degenerate", "non_finite_count", "feature_count"),
)
