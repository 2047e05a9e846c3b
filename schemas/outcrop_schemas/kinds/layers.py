"""Coordinates that describe layers, shared by the kinds that run over them."""

from outcrop_schemas.declaration import Variable


def layer_coordinates(dim: str = "layer", suffix: str = "") -> tuple[Variable, ...]:
    """Return the coordinates of a dimension of layers: the layers of all models, one model after the other.

    Args:
        dim: Name of the dimension.
        suffix: Added to every coordinate's name where a dataset has two such dimensions.
    """
    return (
        Variable(f"model{suffix}", (dim,), "str", "model"),
        Variable(f"name{suffix}", (dim,), "str", "layer"),
        Variable(f"depth{suffix}", (dim,), "int", "topological position among all layers of the model", minimum=0),
        Variable(f"layer_kind{suffix}", (dim,), "str", "kind of layer"),
    )
