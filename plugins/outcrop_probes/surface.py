"""The colour response surface: how every layer responds to solid images over the RGB cube."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

if TYPE_CHECKING:
    import xarray as xr

FAMILY = "solid"
CHANNELS = ("red", "green", "blue")


def colour_surface(response: "xr.Dataset", values: Sequence[str] = ("projection", "norm_ratio")) -> "xr.Dataset":
    """Return what a result of kind ``probe_response`` says of solid images, as (layer, red, green, blue).

    Solid images over a grid generalise the few colours of arXiv 2202.07184, section 5, figure 6. Colours that the grid
    of the result lacks are NaN; without solid images the surface is empty.

    Args:
        response: The leaf ``response``.
        values: Names of the variables over layers and stimuli to lay out.
    """
    import xarray as xr

    chosen = np.flatnonzero(response["family"].values == FAMILY)
    colours = np.stack([response[name].values[chosen] for name in CHANNELS], axis=1)
    levels = [np.unique(column) for column in colours.T]
    places = tuple(np.searchsorted(found, column) for found, column in zip(levels, colours.T, strict=True))
    shape = (response.sizes["layer"], *map(len, levels))
    variables = {}
    for name in values:
        surface = np.full(shape, np.nan)
        surface[(slice(None), *places)] = response[name].values[:, chosen]
        variables[name] = xr.Variable(("layer", *CHANNELS), surface, response[name].attrs)
    layers = {str(name): one for name, one in response.coords.items() if one.dims == ("layer",)}
    return xr.Dataset(variables, {**layers, **dict(zip(CHANNELS, levels, strict=True))})


def peaks(
    colours: Float[np.ndarray, "stimulus channel"],
    families: Sequence[str],
    projections: Float[np.ndarray, "layer stimulus"],
) -> Float[np.ndarray, "layer channel"]:
    """Return the colour of the grid that lies farthest on each layer's first component; NaN where none is defined."""
    chosen: NDArray[np.intp] = np.flatnonzero(np.asarray(families) == FAMILY)
    found = np.full((len(projections), len(CHANNELS)), np.nan)
    if len(chosen):
        size = np.nan_to_num(np.abs(projections[:, chosen]), nan=-1.0)
        best = chosen[size.argmax(axis=1)]
        known = size.max(axis=1) >= 0
        found[known] = colours[best[known]]
    return found
